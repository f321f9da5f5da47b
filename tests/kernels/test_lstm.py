"""The LSTM for large hidden states gives what nn.LSTM gives, forward and backward."""

import pytest
import torch
from corpora import write_corpus
from running import SMALL, compose, read_metrics, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from lmtrain.kernels import lstm as lstm_module
from lmtrain.kernels.lstm import LSTM

T, B, E = 9, 5, 7


def problem(H: int = 24, layers: int = 1, dropout: float = 0.0):
    torch.manual_seed(4)
    rnn = LSTM(E, H, layers, dropout=dropout)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.mul_(4)  # so that gates saturate, some of them
    inputs = torch.randn(T, B, E, requires_grad=True)
    hidden = tuple(torch.randn(layers, B, H, requires_grad=True) for _ in range(2))
    return rnn, inputs, hidden


def results(rnn, inputs, hidden, output, last):
    """Output and state, and the gradients of a loss that uses all of them."""
    weights = torch.linspace(-1, 1, output.numel()).view(output.shape)
    loss = (weights * output.float()).sum() + sum((part * (1 + part)).sum() for part in last)
    gradients = torch.autograd.grad(loss, [inputs, *(hidden or ()), *rnn.parameters()])
    return [output, *last, *gradients]


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("H", [24, 64, 77])
def test_output_state_and_gradients_equal_torchs(H, layers):
    rnn, inputs, hidden = problem(H, layers)
    expected = results(rnn, inputs, hidden, *nn.LSTM.forward(rnn, inputs, hidden))
    ours = results(rnn, inputs, hidden, *rnn._run(inputs, hidden, torch.float32))
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-5)


def test_bfloat16_is_as_near_as_torchs_own():
    rnn, inputs, hidden = problem(layers=2)
    exact = results(rnn, inputs, hidden, *nn.LSTM.forward(rnn, inputs, hidden))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = results(rnn, inputs, hidden, *nn.LSTM.forward(rnn, inputs, hidden))
    ours = results(rnn, inputs, hidden, *rnn._run(inputs, hidden, torch.bfloat16))
    assert ours[0].dtype == torch.bfloat16
    for one, other, wanted in zip(ours, theirs, exact, strict=True):
        error, their_error = ((x.float() - wanted).norm() / wanted.norm() for x in (one, other))
        assert error < max(2 * their_error, 0.01)


def test_drops_between_layers_only_and_only_in_training():
    rnn, inputs, hidden = problem(layers=2, dropout=0.9)
    whole, whole_last = nn.LSTM.forward(rnn.eval(), inputs, hidden)
    torch.testing.assert_close(rnn._run(inputs, hidden, torch.float32)[0], whole, rtol=2e-4, atol=2e-5)
    output, last = rnn.train()._run(inputs, hidden, torch.float32)
    torch.testing.assert_close(last[0][0], whole_last[0][0], rtol=2e-4, atol=2e-5)  # the first layer's
    assert not torch.allclose(output, whole, atol=1e-2)
    assert (output != 0).all()


def test_a_second_derivative_is_refused():
    rnn, inputs, hidden = problem()
    output, _ = rnn._run(inputs, hidden, torch.float32)
    (gradient,) = torch.autograd.grad(output.square().sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.fixture
def processor(monkeypatch):
    """Makes this one an AMD, or an Intel with AMX, that gains by bfloat16."""

    def put(amd: bool) -> None:
        monkeypatch.setattr(lstm_module, "is_amd", lambda: amd)
        monkeypatch.setattr(lstm_module, "gains_by_bfloat16", lambda: True)

    return put


# measured: how many times faster it is than nn.LSTM
MEASURED = {
    "AMD": {
        **{(512, 100, 50): 0.74, (512, 50, 4): 0.81, (768, 100, 50): 0.82, (768, 50, 10): 1.16, (1024, 100, 32): 0.91},
        **{(1024, 100, 50): 1.17, (1024, 250, 100): 1.23, (1024, 50, 1): 2.23, (1024, 10, 10): 1.16},
        **{(1280, 100, 16): 1.45, (2048, 50, 16): 2.12, (2048, 50, 100): 1.12, (2048, 20, 1): 1.7},
    },
    "Intel with AMX": {(512, 100, 50): 0.72, (1024, 100, 50): 0.94, (1024, 250, 100): 1.08, (2048, 50, 100): 1.32},
}


@pytest.mark.parametrize("kind", MEASURED)
def test_it_is_taken_where_it_was_measured_to_be_faster(kind, processor):
    processor(amd=kind == "AMD")
    for sizes, gain in MEASURED[kind].items():
        assert lstm_module.is_faster(*sizes) == (gain > 1), sizes


def test_goes_its_own_way_in_training_in_bfloat16_only(processor, monkeypatch):
    processor(amd=True)
    x = torch.zeros(2, 2, 3)

    def is_own(rnn):
        state = torch.zeros(1, 2, rnn.hidden_size)
        return type(rnn(x, (state, state))[0].grad_fn).__name__ == "_LayerBackward"

    large, small = LSTM(3, 1025), LSTM(3, 64)
    assert not is_own(large)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert is_own(large)
        assert not is_own(small)
        with torch.no_grad():
            assert not is_own(large)
        processor(amd=False)
        assert not is_own(large)
        monkeypatch.setattr(lstm_module, "_FASTER_WITH_AMX", ((1025, 4),))
        assert is_own(large)
        monkeypatch.setattr(lstm_module, "gains_by_bfloat16", lambda: False)
        assert not is_own(large)


def test_a_run_with_it_learns_what_a_run_with_torchs_learns(tmp_path, monkeypatch, processor):
    processor(amd=True)
    write_corpus(tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)
    losses = {}
    more = ("model.hidden_size=32", "model.nlayers=2", "model.dropout=0", "optimizer.lr=3", "callbacks=histograms")
    for name, smallest in (("ours", 1), ("theirs", 1 << 20)):
        monkeypatch.setattr(lstm_module, "_FASTER_ON_AMD", ((smallest, 1),))
        values = compose(*SMALL, *more, "logger=[csv,tensorboard]", f"name={name}")
        values["trainer"] |= {"precision": "bf16-mixed", "max_steps": 40, "log_every_n_steps": 5}
        train(values)
        losses[name] = read_metrics(tmp_path / "runs" / name, "train/loss")
        histograms = EventAccumulator(f"runs/{name}/tensorboard", {"histograms": 0}).Reload().Tags()["histograms"]
        assert {"activations/output", "activations/hidden"} <= set(histograms)
    assert losses["ours"] != losses["theirs"]
    assert losses["ours"] == pytest.approx(losses["theirs"], rel=0.02)
    assert losses["ours"][-1] < losses["ours"][0] - 0.2
