"""What the user types; imported by nobody."""
