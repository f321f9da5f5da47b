"""Text files → dictionary → ids on disk → windows. No network, no Lightning, no Hydra."""
