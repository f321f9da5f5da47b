"""minGRU: its formula, computed another way; and a run of it, from training to every use of the model."""

import json
import random

import numpy as np
import pytest
import torch
from emulated_runs import differences
from running import compose, train
from script_calls import call
from stopping import Killed

from lmtrain.model.mingru import MinGRU
from lmtrain.model_files.export import load_model

T, B, E, H, L = 9, 3, 4, 5, 2


@pytest.fixture
def rnn():
    torch.manual_seed(1)
    rnn = MinGRU(E, H, L).double()
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.mul_(4)  # so that gates open and close
    return rnn


def in_numpy(rnn: MinGRU, inputs: torch.Tensor, hidden: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The paper's formula, an element of the state after the other."""
    weights = {name: parameter.detach().numpy() for name, parameter in rnn.named_parameters()}
    output, ends = inputs.detach().numpy(), []
    for layer in range(L):
        W, b = weights[f"weight_ih_l{layer}"], weights[f"bias_ih_l{layer}"]
        h, outputs = hidden[layer].detach().numpy(), []
        for x in output:
            z = 1 / (1 + np.exp(-(x @ W[:H].T + b[:H])))
            h = (1 - z) * h + z * (x @ W[H:].T + b[H:])
            outputs.append(h)
        output = np.stack(outputs)
        ends.append(h)
    return output, np.stack(ends)


def test_it_computes_the_formula(rnn):
    inputs, hidden = torch.randn(T, B, E).double(), torch.randn(L, B, H).double()
    output, (last,) = rnn(inputs, (hidden,))
    expected, ends = in_numpy(rnn, inputs, hidden)
    np.testing.assert_allclose(output.detach().numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(last.detach().numpy(), ends, rtol=1e-12)


@pytest.mark.parametrize("length", [1, 4])
def test_gradients_are_those_of_finite_differences(rnn, length):
    inputs = torch.randn(length, B, E).double().requires_grad_()
    hidden = torch.randn(L, B, H).double().requires_grad_()

    def outputs(inputs, hidden, *_):
        output, (last,) = rnn(inputs, (hidden,))
        return output, last

    assert torch.autograd.gradcheck(outputs, (inputs, hidden, *rnn.parameters()))


@pytest.mark.parametrize("cut", [1, 4, T - 1])
def test_a_window_that_is_cut_gives_the_same(rnn, cut):
    inputs, begin = torch.randn(T, B, E).double(), (torch.zeros(L, B, H).double(),)
    whole, (end,) = rnn(inputs, begin)
    first, hidden = rnn(inputs[:cut], begin)
    second, (last,) = rnn(inputs[cut:], hidden)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(last, end, rtol=1e-12, atol=0)


def test_under_autocast_products_are_bfloat16_and_the_state_is_not(rnn):
    inputs, hidden = torch.randn(T, B, E), torch.randn(L, B, H)
    exact, _ = in_numpy(rnn, inputs.double(), hidden.double())
    with torch.autocast("cpu", torch.bfloat16):
        output, (last,) = rnn.float()(inputs, (hidden,))
    assert (output.dtype, last.dtype) == (torch.bfloat16, torch.float32)
    assert 0 < np.abs(output.detach().float().numpy() - exact).max() < 0.1
    output.float().sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in rnn.parameters())


def test_it_drops_between_layers_and_only_in_training():
    rnn, inputs, hidden = MinGRU(E, H, L, dropout=0.9), torch.randn(T, B, E), (torch.zeros(L, B, H),)
    trained, (states,) = rnn(inputs, hidden)
    used, (exact,) = rnn.eval()(inputs, hidden)
    assert torch.equal(states[0], exact[0])
    assert not torch.allclose(trained, used)
    assert torch.equal(rnn(inputs, hidden)[0], used)


# ----- a run --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of a run, and beside it one that was killed and went on."""
    folder, letters = tmp_path_factory.mktemp("mingru"), random.Random(3)
    (folder / "corpus/train").mkdir(parents=True)
    for name, size in (("train/a.txt", 1600), ("valid.txt", 400), ("test.txt", 400)):
        (folder / "corpus" / name).write_text("".join(letters.choices("the cat sat on a mat\n", k=size)))
    options = (
        *("data=folder", f"data.path={folder}/corpus", f"data.cache_dir={folder}/cache", "data.batch_size=4"),
        *("data.sequence_length=20", "model=tiny", "model.hidden_size=12", "model.recurrent_type=mingru"),
        *("model.nlayers=2", "model.dropout=0.2", "optimizer=muon", "trainer.accelerator=cpu", f"runs_dir={folder}"),
        *("trainer.max_epochs=1", "checkpoint.every_steps=4", "logger=csv"),
    )
    train(compose(*options, "name=whole"))
    with pytest.raises(Killed):
        train(compose(*options, "name=killed", "+callbacks.kill={_target_: stopping.KillAt, windows: 10}"))
    train(compose(*options, "name=killed"))
    return folder


def test_a_killed_run_goes_on_bit_for_bit(runs):
    assert "Going on from" in (runs / "killed/train.log").read_text()
    assert differences(runs / "whole", runs / "killed") == []
    assert json.loads((runs / "whole/results.json").read_text())["val/loss"] < 2.6  # ln 14 = 2.64
    assert "equally probable" not in (runs / "whole/train.log").read_text()


def test_that_flair_cannot_read_it_is_said_first_and_last(runs):
    log = (runs / "whole/train.log").read_text()
    reason = "Flair cannot read a model with model.recurrent_type=MINGRU: it has LSTM and GRU only."
    assert log.index(reason) < log.index("val loss")
    assert "FlairEmbeddings" not in log
    card = (runs / "whole/README.md").read_text()
    assert reason in card
    assert "library_name: lmtrain" in card
    assert "FlairEmbeddings" not in card


def test_that_sgd_does_not_train_it_well_is_said_with_the_remedy(runs):
    values = compose(
        *("data=folder", f"data.path={runs}/corpus", f"data.cache_dir={runs}/cache", "data.batch_size=4", "model=tiny"),
        *("model.hidden_size=12", "model.recurrent_type=mingru", f"runs_dir={runs}", "trainer.max_steps=1", "name=sgd"),
        *("trainer.accelerator=cpu", "logger=[]", "test=false"),
    )
    train(values)
    said = "A MINGRU learns little by SGD, whatever the rate: optimizer=muon reaches a far lower loss"
    assert said in (runs / "sgd/train.log").read_text()
    assert said not in (runs / "whole/train.log").read_text()


def test_its_model_scores_as_it_was_tested(runs, capsys):
    results = json.loads((runs / "whole/results.json").read_text())
    (runs / "one.txt").write_text((runs / "corpus/test.txt").read_text())
    assert call("score", runs / "whole/best-lm.pt", runs / "one.txt", "--json") == 0
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(results["test/loss"], rel=0.05)


def test_its_model_generates_embeds_and_is_exported(runs, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    best = runs / "whole/best-lm.pt"
    assert call("generate", best, "--length", "40", "--seed", "1") == 0
    assert len(capsys.readouterr().out) >= 40
    (tmp_path / "sentences.txt").write_text("the cat sat\n")
    assert call("embed", best, tmp_path / "sentences.txt", "--output", tmp_path / "vectors.npz") == 0
    assert call("export", best, "--format", "onnx", "--output", tmp_path / "model.onnx") == 0
    assert call("export", best, "--format", "safetensors", "--output", tmp_path / "model.safetensors") == 0
    assert call("export", best, "--format", "flair", "--output", tmp_path / "flair.pt") == 2
    assert "Flair cannot read a model with model.recurrent_type=MINGRU" in capsys.readouterr().err
    assert not (tmp_path / "flair.pt").exists()
    assert call("export", best, "--format", "hub", "--output", tmp_path / "hub") == 0
    assert "Without best-lm.pt: Flair does not have" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "hub").iterdir()} == {
        *("README.md", "report.png", "model.safetensors", "model.json")
    }
    ids = torch.randint(10, (15, 2))
    expected = load_model(best).model(ids)[0]
    for other in (tmp_path / "model.safetensors", tmp_path / "hub/model.safetensors"):
        assert torch.equal(load_model(other).model(ids)[0], expected)
