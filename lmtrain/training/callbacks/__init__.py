"""Lightning callbacks: what happens around the training steps, one idea in each file.

Their order matters: `order.py` lists it with a reason for each place. A callback's state is saved under the name of
its class (Lightning's `state_key`), so a class that is renamed must keep the old key. Nothing here imports Hydra.
"""
