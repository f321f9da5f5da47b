"""What happens around the training steps, one idea a file.

Their order matters and is the list in `run.py`: what notices changes of weights and settings comes first, then the
schedule of validations and the rate, the best model, the figures and samples, the user's own callbacks, and last the
checkpoint, so that what all of them did is in it. Each that has a state saves it under its class's name (Lightning's
`state_key`): a class that is renamed must keep the old key. Nothing here knows of Hydra.
"""
