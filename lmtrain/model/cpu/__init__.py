"""Parts of the network that are written for CPUs, and what is known of the processor."""
