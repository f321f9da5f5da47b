"""From nats to the other units of a loss."""

import math


def perplexity(loss: float) -> float:
    """exp(loss) for a loss in nats, infinity where that is too large for a float; NaN of NaN."""
    return math.inf if loss >= 700 else math.exp(loss)
