"""lmtrain's dropout is dropout."""

import pytest
import torch
from torch import nn

from lmtrain.kernels.dropout import Dropout

SMALL, LARGE = (10, 10, 100), (60, 50, 333)  # of fewer and of more elements than its two ways to draw are for
DTYPES = [torch.float32, torch.bfloat16, torch.float64]


@pytest.mark.parametrize("shape", [SMALL, LARGE])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.93])
def test_drops_the_share_it_should_and_scales_the_rest(shape, dtype, p):
    torch.manual_seed(5)
    ones = torch.ones(shape, dtype=dtype, requires_grad=True)
    output = Dropout(p)(ones)
    output.backward(torch.ones_like(ones))
    kept = output[output != 0]
    assert (output.dtype, output.shape) == (dtype, ones.shape)
    share, deviation = 1 - kept.numel() / ones.numel(), (p * (1 - p) / ones.numel()) ** 0.5
    assert abs(share - p) < 4 * deviation
    torch.testing.assert_close(
        kept, torch.full_like(kept, 1 / (1 - p)), rtol=0.01 if dtype == torch.bfloat16 else 2e-4, atol=0
    )
    assert torch.equal(ones.grad, output)


@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_what_is_dropped_is_independent_of_place(shape):
    torch.manual_seed(6)
    dropped = (Dropout(0.3)(torch.ones(shape)) == 0).float().flatten()
    deviation = dropped.numel() ** -0.5
    for distance in (1, 2, 3, 4, shape[-1]):
        near = torch.corrcoef(torch.stack([dropped[distance:], dropped[:-distance]]))[0, 1]
        assert abs(near) < 4 * deviation


@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_torchs_generator_decides(shape):
    ones, drop = torch.ones(shape), Dropout(0.2)
    torch.manual_seed(1)
    first, second = drop(ones), drop(ones)
    torch.manual_seed(1)
    assert torch.equal(drop(ones), first)
    assert torch.equal(drop(ones), second)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("drop", [Dropout(0.0), Dropout(0.4).eval()])
def test_nothing_is_dropped_without_a_probability_or_in_evaluation(drop):
    ones = torch.ones(LARGE)
    assert torch.equal(drop(ones), ones)


def test_a_module_with_it_has_the_same_names_as_with_torchs():
    assert nn.Sequential(Dropout(0.1), nn.Linear(2, 3)).state_dict().keys() == (
        nn.Sequential(nn.Dropout(0.1), nn.Linear(2, 3)).state_dict().keys()
    )


def test_the_default_dtype_does_not_coarsen_the_probability():
    torch.manual_seed(2)
    torch.set_default_dtype(torch.bfloat16)  # as Lightning does for trainer.precision=bf16-true
    try:
        dropped = sum((Dropout(0.003)(torch.ones(SMALL)) == 0).sum().item() for _ in range(40))
    finally:
        torch.set_default_dtype(torch.float32)
    assert abs(dropped - 1200) < 4 * 1200**0.5


@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_all_is_dropped_if_that_is_asked_for(shape):
    assert not Dropout(1.0)(torch.ones(shape)).any()
