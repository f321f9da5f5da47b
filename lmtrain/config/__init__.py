"""The configuration: what it may hold, what becomes of Lightning's arguments, and what is wrong with it."""
