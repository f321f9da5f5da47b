"""What happens around the training steps, one idea a file.

Their order matters: `order.py` is the list, with a reason for each place. Each that has a state saves it under its
class's name (Lightning's `state_key`): a class that is renamed must keep the old key. Nothing here knows of Hydra.
"""
