"""Perplexity of a loss, and the range of seeds."""

import math

LARGEST_SEED = 2**64 - 1  # of PyTorch's generators


def perplexity(loss: float) -> float:
    """exp(loss) for a loss in nats, infinity where that is too large for a float; NaN of NaN."""
    return math.inf if loss >= 700 else math.exp(loss)
