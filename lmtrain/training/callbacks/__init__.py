"""What happens around the training steps, one idea a file."""
