"""The loss in chunks is the loss of all logits at once."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lmtrain.model import loss as loss_module
from lmtrain.model.loss import decoder_loss, rows_of_chunk


def problem(dtype=torch.float64, rows: int = 37, vocabulary: int = 50, size: int = 8):
    torch.manual_seed(1)
    decoder = nn.Linear(size, vocabulary, dtype=dtype)
    output = torch.randn(rows, size, dtype=dtype, requires_grad=True)
    return decoder, output, torch.randint(vocabulary, (rows,))


def gradients(value, decoder, output):
    return torch.autograd.grad(value, (output, decoder.weight, decoder.bias))


@pytest.mark.parametrize("most", [8, 8 * 50, 8 * 50 * 5, 8 * 50 * 36])
def test_value_and_gradients_equal_torchs_cross_entropy(most, monkeypatch):
    decoder, output, targets = problem()
    expected = F.cross_entropy(decoder(output), targets)
    monkeypatch.setattr(loss_module, "MOST_LOGITS", most if most < 37 * 50 else 37 * 50 - 1)
    value = decoder_loss(decoder, output, targets)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    for ours, theirs in zip(
        gradients(3 * value, decoder, output), gradients(3 * expected, decoder, output), strict=True
    ):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-14)


def test_bf16_autocast_stays_close_to_float32(monkeypatch):
    decoder, output, targets = problem(torch.float32, rows=500)
    expected = F.cross_entropy(decoder(output), targets)
    monkeypatch.setattr(loss_module, "MOST_LOGITS", 8 * 50 * 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = decoder_loss(decoder, output, targets)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=0.01)
    for ours, theirs in zip(gradients(value, decoder, output), gradients(expected, decoder, output), strict=True):
        assert F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.999


def test_without_gradients_it_needs_none(monkeypatch):
    decoder, output, targets = problem()
    monkeypatch.setattr(loss_module, "MOST_LOGITS", 400)
    with torch.no_grad():
        assert decoder_loss(decoder, output, targets).item() == pytest.approx(
            F.cross_entropy(decoder(output), targets).item()
        )


def test_chunks_add_to_the_gradient_of_a_large_vocabulary_a_few_times_only():
    items, vocabulary, size = 250 * 100, 50_000, 2048
    rows = rows_of_chunk(loss_module.MOST_LOGITS, vocabulary, size)
    assert items / rows < 30
    assert rows * vocabulary <= vocabulary * size / 2  # the logits take half of what the gradient takes
    on_80_gb = rows_of_chunk((80 << 30) // 256, vocabulary, size)
    assert on_80_gb >= rows
    assert 4 * on_80_gb * vocabulary < (80 << 30) / 64
