"""Compares weights by sums of their bits, to notice that a callback has exchanged them, without keeping a copy."""

import torch
from torch import Tensor

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a weight


def traces(model: torch.nn.Module) -> Tensor:
    """A checksum of a model's weights: two sums of the bits of each tensor, int64 `(weights, 2)`, on their device.

    Rows and columns are multiplied by their index, so that the same values in another place have another sum. Sums of
    integers are not rounded, so they are equal on every device and in every order of summing.
    """
    with torch.no_grad():
        bits = [weight.view(_INTEGERS[weight.element_size()]) for weight in model.parameters()]
        return torch.stack([_sums_by_place(weight.reshape(len(weight), -1)) for weight in bits])


def _sums_by_place(bits: Tensor) -> Tensor:
    """Integers `(rows, columns)` → int64 `(2,)`: sums weighted by the row's and by the column's index."""
    sums = [bits.sum(dim=1, dtype=torch.int64), bits.sum(dim=0, dtype=torch.int64)]
    return torch.stack([(part * torch.arange(1, len(part) + 1, device=part.device)).sum() for part in sums])


def same_traces(one: Tensor, other: Tensor) -> bool:
    """Whether two checksums are equal; they may lie on different devices, since Lightning moves a model to the CPU."""
    return torch.equal(one.cpu(), other.cpu())
