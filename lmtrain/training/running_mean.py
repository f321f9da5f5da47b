"""A mean over many windows that costs no synchronisation with the device until it is read.

torchmetrics' `MeanMetric` checks and casts every value, which takes ten times as long on a CPU, and sums in float32 if
it is not told otherwise; sums of a long run need float64.
"""

import torch
from torch import Tensor


class RunningMean:
    """The mean negative log-likelihood per item, summed on the device until it is read.

    Args:
        total: the sum so far, in nats.
        items: the number of items that it is summed over.
    """

    def __init__(self, total: float = 0.0, items: int = 0) -> None:
        self._total: Tensor | float = total
        self.items = items

    def add(self, mean: Tensor, items: int) -> None:
        """Adds the items of a window.

        Args:
            mean: their mean, a scalar on the device.
            items: their number.
        """
        if not isinstance(self._total, Tensor):
            # filled on the device: a copy from the host would make it wait
            self._total = torch.full((), self._total, dtype=_sum_dtype(mean.device), device=mean.device)
        self._total.add_(mean.detach(), alpha=items)
        self.items += items

    def sums(self, device: torch.device) -> Tensor:
        """The total and the number of items, float64 `(2,)` (float32 on MPS), to be summed over ranks."""
        dtype = _sum_dtype(device)
        total = self._total if isinstance(self._total, Tensor) else torch.full((), self._total, device=device)
        return torch.stack([total.to(device, dtype), torch.full((), self.items, dtype=dtype, device=device)])


def _sum_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
