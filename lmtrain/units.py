"""From nats to the other units of a loss."""

import math


def perplexity(loss: float) -> float:
    """exp(loss) for a loss in nats, infinity where that is too large for a float."""
    return math.exp(loss) if loss < 700 else math.inf
