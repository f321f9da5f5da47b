"""lmtrain's clipping is torch's, to the bit."""

import math

import pytest
import torch

from lmtrain.training.clipping import clip_norm

SHAPES = ((7, 3), (5,), (2, 4, 6))


def parameters(dtypes, scale: float = 1.0, first: float | None = None) -> list[torch.Tensor]:
    """Three with gradients and one without; `first` is the first number of each gradient."""
    torch.manual_seed(3)
    made = [torch.zeros(shape, dtype=dtype, requires_grad=True) for shape, dtype in zip(SHAPES, dtypes, strict=True)]
    for parameter in made:
        parameter.grad = (scale * torch.randn(parameter.shape)).to(parameter.dtype)
        if first is not None:
            parameter.grad.view(-1)[0] = first
    return [*made, torch.zeros(3, requires_grad=True)]


@pytest.mark.parametrize(
    "dtypes",
    [(torch.float32,) * 3, (torch.float64,) * 3, (torch.bfloat16,) * 3, (torch.float32, torch.float64, torch.float32)],
    ids=["float32", "float64", "bfloat16", "mixed"],
)
@pytest.mark.parametrize("limit", [0.25, 7.5, 1e9, 1e300, math.inf])
@pytest.mark.parametrize(("scale", "first"), [(1.0, None), (1e-4, None), (0.0, None), (1.0, math.nan), (1.0, math.inf)])
def test_gradients_and_norm_are_torchs(dtypes, limit, scale, first):
    ours, theirs = (parameters(dtypes, scale, first) for _ in range(2))
    norm, expected = clip_norm(ours, limit), torch.nn.utils.clip_grad_norm_(theirs, limit)
    torch.testing.assert_close(norm, expected, rtol=0, atol=0, equal_nan=True)
    for one, other in zip(ours, theirs, strict=True):
        if other.grad is None:
            assert one.grad is None
        else:
            torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0, equal_nan=True)


def test_no_gradient_at_all():
    assert clip_norm([torch.zeros(2, requires_grad=True)], 0.5).item() == 0
