"""A mean over many windows that costs no synchronisation with the device until it is read."""

import torch
from torch import Tensor


class RunningMean:
    """The mean negative log-likelihood per item, summed on the device and read only when it is asked for.

    Args:
        total: the sum so far, in nats.
        items: how many items it is of.
    """

    def __init__(self, total: float = 0.0, items: int = 0) -> None:
        self._total: Tensor | float = total
        self.items = items

    def add(self, mean: Tensor, items: int) -> None:
        """Adds the mean of `items` items: a scalar, not synchronised with the host."""
        if not isinstance(self._total, Tensor):
            # filled there, not copied: a copy would make the host wait for the device
            self._total = torch.full((), self._total, dtype=_sum_dtype(mean.device), device=mean.device)
        self._total.add_(mean.detach(), alpha=items)
        self.items += items

    def sums(self, device: torch.device) -> Tensor:
        """Total and number of items, `(2,)`, to be added over ranks."""
        dtype = _sum_dtype(device)
        total = self._total if isinstance(self._total, Tensor) else torch.full((), self._total, device=device)
        return torch.stack([total.to(device, dtype), torch.full((), self.items, dtype=dtype, device=device)])


def _sum_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
