"""One run, from the configuration to its results: `train` decides, `run` makes and runs the objects of a fit."""
