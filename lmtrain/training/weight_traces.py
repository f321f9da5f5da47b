"""Whether two models have the same weights, told by sums of their bits: what a callback exchanges is noticed."""

import torch
from torch import Tensor

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a weight


def traces(model: torch.nn.Module) -> Tensor:
    """What tells a model's weights from others: sums of the bits of each, int64 `(weights, 2)`, on their device.

    Rows and columns are multiplied with their numbers, so that the same weights in other places have other sums. As
    integers they are summed without rounding: on every device, in every order, to the same.
    """
    with torch.no_grad():
        bits = [weight.view(_INTEGERS[weight.element_size()]) for weight in model.parameters()]
        return torch.stack([_sums_by_place(weight.reshape(len(weight), -1)) for weight in bits])


def _sums_by_place(bits: Tensor) -> Tensor:
    """Integers `(rows, columns)` → int64 `(2,)`: by row and by column."""
    sums = [bits.sum(dim=1, dtype=torch.int64), bits.sum(dim=0, dtype=torch.int64)]
    return torch.stack([(part * torch.arange(1, len(part) + 1, device=part.device)).sum() for part in sums])


def same_traces(one: Tensor, other: Tensor) -> bool:
    """Whether they are of the same weights, on whatever devices: Lightning moves the model to the CPU at the end."""
    return torch.equal(one.cpu(), other.cpu())
