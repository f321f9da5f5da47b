import pytest
import torch

from lmtrain.inference.stepper import Stepper
from lmtrain.kernels import step_layers
from lmtrain.model.language_model import RecurrentLM, Sizes


def make(recurrent_type: str, nlayers: int, hidden_size: int = 24) -> RecurrentLM:
    torch.manual_seed(3)
    model = RecurrentLM(Sizes(17, hidden_size, nlayers, embedding_size=7, recurrent_type=recurrent_type))
    return model.eval()


def run(model: RecurrentLM, ids: torch.Tensor, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, tuple]:
    runner = Stepper(model, ids.shape[1], dtype)
    return torch.stack([runner.step(row).clone() for row in ids]), runner.hidden


@pytest.mark.parametrize("recurrent_type", ["LSTM", "GRU", "MINGRU"])
@pytest.mark.parametrize("nlayers", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 5, 16])
def test_equals_the_modules_forward(recurrent_type, nlayers, batch_size):
    model = make(recurrent_type, nlayers)
    ids = torch.randint(17, (50, batch_size))
    with torch.no_grad():
        expected, expected_hidden = model(ids)
    output, hidden = run(model, ids)
    torch.testing.assert_close(output, expected, atol=2e-6, rtol=0)
    for part, expected_part in zip(hidden, expected_hidden, strict=True):
        torch.testing.assert_close(part, expected_part, atol=2e-6, rtol=0)


@pytest.mark.parametrize("recurrent_type", ["LSTM", "GRU"])
def test_equals_the_modules_forward_without_the_table_and_without_packed_weights(monkeypatch, recurrent_type):
    monkeypatch.setattr(step_layers, "_MAX_TABLE_ELEMENTS", 0)
    monkeypatch.setattr(step_layers, "packed_product", lambda *_: torch.ops.mkl.no_such_operator)
    model = make(recurrent_type, nlayers=2)
    ids = torch.randint(17, (50, 8))
    with torch.no_grad():
        expected, _ = model(ids)
    torch.testing.assert_close(run(model, ids)[0], expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("recurrent_type", ["LSTM", "GRU"])
@pytest.mark.parametrize("is_amd", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_few_sequences_equal_the_modules_forward_on_each_kind_of_processor(
    recurrent_type, is_amd, batch_size, monkeypatch
):
    monkeypatch.setattr(step_layers, "is_amd", lambda: is_amd)
    model = make(recurrent_type, nlayers=2)
    ids = torch.randint(17, (50, batch_size))
    with torch.no_grad():
        expected, _ = model(ids)
        logits = model.decoder(expected)
    runner = Stepper(model, batch_size, decode=True)
    for row, wanted, scores in zip(ids, expected, logits, strict=True):
        torch.testing.assert_close(runner.step(row), wanted, atol=2e-6, rtol=0)
        torch.testing.assert_close(runner.scores + runner.decoder_bias, scores, atol=2e-6, rtol=0)


@pytest.mark.parametrize("recurrent_type", ["LSTM", "GRU"])
def test_bfloat16_is_near(recurrent_type):
    model = make(recurrent_type, nlayers=2, hidden_size=64)
    ids = torch.randint(17, (50, 8))
    exact, near = run(model, ids)[0], run(model, ids, torch.bfloat16)[0]
    assert near.dtype == torch.float32
    assert torch.cosine_similarity(exact, near, dim=-1).min() > 0.999
    assert not torch.equal(exact, near)


@pytest.mark.parametrize("recurrent_type", ["LSTM", "GRU"])
def test_reset_and_set_hidden_touch_what_they_name(recurrent_type):
    model = make(recurrent_type, nlayers=2)
    runner, fresh = Stepper(model, 3), Stepper(model, 3)
    ids = torch.tensor([1, 2, 3])
    runner.step(ids)
    before = runner.hidden
    runner.reset(torch.tensor([0, 2]))
    after = runner.hidden
    for old, new in zip(before, after, strict=True):
        assert torch.equal(new[:, 1], old[:, 1])
        assert not new[:, [0, 2]].any()
    runner.set_hidden(before)
    fresh.set_hidden(before)
    assert torch.equal(runner.step(ids), fresh.step(ids))
    fresh.set_hidden(tuple(part[:, 1:2] for part in before))
    assert torch.equal(fresh.hidden[0], before[0][:, 1:2].expand(-1, 3, -1))
