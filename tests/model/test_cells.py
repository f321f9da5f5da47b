"""A recurrent cell that is an entry in CELLS and no more: what is refused says why, all else works."""

import json

import pytest
import torch
from small_models import CHARACTERS, make_model

from lmtrain.config.schema import ModelConfig
from lmtrain.errors import UserError
from lmtrain.inference.stepper import Stepper
from lmtrain.model.cells import CELLS, Cell
from lmtrain.model.language_model import RecurrentLM
from lmtrain.model_files.export import load_model, load_safetensors, save_onnx, save_safetensors
from lmtrain.model_files.flair import save_for_lmtrain, save_language_model
from lmtrain.model_files.settings import SIZES


@pytest.fixture(autouse=True)
def new_cell(monkeypatch):
    """A cell with the very weights of a GRU: nothing but its name tells it from one."""
    monkeypatch.setitem(CELLS, "NEW", Cell(CELLS["GRU"].module, gates=3))


def make(items=CHARACTERS, **sizes):
    return make_model(items, recurrent_type="NEW", **sizes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("nlayers", [1, 2])
def test_the_stepper_runs_it_through_its_own_module(nlayers, dtype):
    model = make(nlayers=nlayers).model
    ids = torch.randint(len(CHARACTERS), (20, 3))
    with torch.no_grad():
        expected, last = model(ids)
        logits = model.decoder(expected)
    runner, tolerance = Stepper(model, 3, dtype, decode=True), 1e-5 if dtype == torch.float32 else 0.1
    for row, wanted, scores in zip(ids, expected, logits, strict=True):
        torch.testing.assert_close(runner.step(row), wanted, atol=tolerance, rtol=0)
        torch.testing.assert_close(runner.scores + runner.decoder_bias, scores, atol=50 * tolerance, rtol=0)
    torch.testing.assert_close(runner.hidden[0], last[0], atol=tolerance, rtol=0)
    runner.reset(torch.tensor([0, 2]))
    assert not runner.hidden[0][:, [0, 2]].any()
    assert runner.hidden[0][:, 1].any()
    runner.set_hidden(tuple(part[:, 1:2] for part in last))
    assert torch.equal(runner.hidden[0], last[0][:, 1:2].expand(-1, 3, -1))


def assert_equal(one, other):
    assert one.model.sizes == other.model.sizes
    assert (one.dictionary, one.is_forward_lm, one.level) == (other.dictionary, other.is_forward_lm, other.level)
    weights, others = one.model.state_dict(), other.model.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize("kind", [{}, {"nlayers": 2, "nout": 5, "is_forward_lm": False}, {"has_decoder": False}])
def test_its_best_model_comes_back_unchanged(tmp_path, kind):
    language_model = make([*CHARACTERS, "\ud800", "\udcff"], **kind)
    save_for_lmtrain(language_model, tmp_path / "best-lm.pt")
    assert_equal(load_model(tmp_path / "best-lm.pt"), language_model)
    save_safetensors(language_model, tmp_path / "model.safetensors")
    assert_equal(load_safetensors(tmp_path / "model.safetensors"), language_model)
    assert (
        json.loads((tmp_path / "model.json").read_text(encoding="utf-8", errors="surrogatepass"))["recurrent_type"]
        == "NEW"
    )


def test_forms_that_cannot_hold_it_are_refused_before_anything_is_written(tmp_path):
    pytest.importorskip("onnx")
    with pytest.raises(UserError, match=r"recurrent_type=NEW: it has LSTM and GRU only.*--format safetensors"):
        save_language_model(make(), tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"recurrent_type=NEW cannot be exported to ONNX.*--format safetensors"):
        save_onnx(make(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_pickled_when_its_sizes_were_attributes_is_read():
    model = make_model(recurrent_type="GRU", nout=5).model
    state = {name: value for name, value in vars(model).items() if name != "sizes"} | vars(model.sizes)
    old = RecurrentLM.__new__(RecurrentLM)
    old.__setstate__(state)
    assert old.sizes == model.sizes
    ids = torch.randint(30, (4, 2))
    assert torch.equal(old(ids)[0], model(ids)[0])


def test_the_configuration_has_the_sizes_of_a_network():
    assert [name for name in ModelConfig.model_fields if name != "name"] == list(SIZES)
