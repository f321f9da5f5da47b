"""The network in plain torch, and what makes it fast on CPUs and right on GPUs."""
