"""Real Flair, on the CPU; what it and its dependencies warn of on being imported is not ours to mend."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import flair
    import flair.embeddings
    import flair.models
    import torch

flair.device = torch.device("cpu")
