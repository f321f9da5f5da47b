import json
import math
import subprocess
import sys
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from script_calls import SCRIPTS, call
from small_models import CHARACTERS, make_model

from lmtrain.errors import UserError
from lmtrain.inference.scoring import score
from lmtrain.model_files import export
from lmtrain.model_files.export import difference_of, load_model, load_safetensors, save_onnx, save_safetensors
from lmtrain.model_files.flair import load_language_model, save_language_model
from lmtrain.program.command import run
from lmtrain.runs.curves import extreme, read_metrics
from lmtrain.runs.pair import load_pair

KINDS = {
    "LSTM": {},
    "GRU of two layers": {"recurrent_type": "GRU", "nlayers": 2},
    "minGRU of two layers": {"recurrent_type": "MINGRU", "nlayers": 2},
    "projected lstm of three layers": {"recurrent_type": "lstm", "nlayers": 3, "nout": 5},
    "backward without decoder": {"has_decoder": False, "is_forward_lm": False, "document_delimiter": "<end>"},
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def assert_equal(one, other) -> None:
    assert one.dictionary == other.dictionary
    for name in ("is_forward_lm", "document_delimiter", "level"):
        assert getattr(one, name) == getattr(other, name)
    assert one.model.sizes == other.model.sizes
    weights, others = one.model.state_dict(), other.model.state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)


@each_kind
def test_safetensors_come_back_unchanged(tmp_path, kind):
    language_model = make_model([*CHARACTERS, "\ud800", '"', "\\"], **kind)
    save_safetensors(language_model, tmp_path / "model.safetensors")
    loaded = load_safetensors(tmp_path / "model.safetensors")
    assert_equal(loaded, language_model)
    assert_equal(load_model(tmp_path / "model.safetensors"), language_model)
    assert not loaded.model.training
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    ids = torch.randint(30, (9, 2))
    assert torch.equal(loaded.model(ids)[0], language_model.model(ids)[0])


def test_a_device_that_there_is_not(tmp_path):
    with pytest.raises(UserError, match="The device 'quantum' cannot be used"):
        load_model(tmp_path / "model.safetensors", "quantum")


@pytest.fixture
def published(tmp_path):
    save_safetensors(make_model(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


CHANGED = {"is_forward_lm": False, "document_delimiter": "|", "level": "word", "dropout": 0.9}  # sizes stay as they are


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": 33}, "do not fit"),
        ({"hidden_size": 10**12}, "do not fit"),
        ({"hidden_size": -1}, "hidden_size is -1; a whole number above 0 is required"),
        ({"nlayers": 10**9}, "do not fit"),
        ({"hidden_size": "32"}, "hidden_size is '32'; a whole number above 0 is required"),
        ({"recurrent_type": "RNN"}, "recurrent_type is 'RNN'"),
        ({"level": "byte"}, "level is 'byte'"),
        ({"items": ["a", 1]}, "items must be a list of strings"),
        ({"items": ["a", "a"]}, "more than once"),
        ({"items": ["a", "b"]}, "do not fit"),
        *(({name: value}, "do not belong together") for name, value in CHANGED.items()),
        ({"version": 2}, '"version" 1'),
    ],
)
def test_settings_that_were_changed(published, change, words):
    path = published.with_suffix(".json")
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    with pytest.raises(UserError, match=words):
        load_safetensors(published)


def test_weights_beside_the_settings_of_another_model(tmp_path):
    """Each setting that matters, one at a time: the two files are refused, and each pair is read."""
    kinds = [{}, {"is_forward_lm": False}, {"document_delimiter": "|"}, {"items": CHARACTERS[:1] + CHARACTERS[:0:-1]}]
    for number, kind in enumerate(kinds):
        save_safetensors(make_model(**kind), tmp_path / f"{number}.safetensors")
        load_safetensors(tmp_path / f"{number}.safetensors")
    whole = (tmp_path / "0.json").read_bytes()
    for number in range(1, len(kinds)):
        (tmp_path / "0.json").write_bytes((tmp_path / f"{number}.json").read_bytes())
        with pytest.raises(UserError, match="do not belong together"):
            load_model(tmp_path / "0.safetensors")
    (tmp_path / "0.json").write_bytes(whole)
    load_model(tmp_path / "0.safetensors")


def test_a_file_from_before_all_settings_were_in_the_hash_is_read(published):
    weights = load_file(published)
    dictionary = load_model(published).dictionary
    save_file(weights, published, {"format": "pt", "dictionary": dictionary.fingerprint})
    assert load_model(published).dictionary == dictionary


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("weight", ["encoder.weight", "rnn.weight_hh_l0", "decoder.bias"])
def test_weights_that_are_not_finite_are_neither_written_nor_read(tmp_path, capsys, number, weight):
    language_model = make_model()
    with torch.no_grad():
        language_model.model.get_parameter(weight).view(-1)[-1] = number
    save_language_model(language_model, tmp_path / "best-lm.pt")
    for write in (save_safetensors, *([save_onnx] if find_spec("onnx") else [])):
        with pytest.raises(UserError, match=f"weights {weight} have numbers that are not finite"):
            write(language_model, tmp_path / "model.safetensors")
    (tmp_path / "text").write_text("The cat\n")
    for script, *arguments in (
        ("export", "--format", "onnx", "--output", tmp_path / "model.onnx"),
        ("export", "--format", "flair", "--output", tmp_path / "copy.pt"),
        ("score", tmp_path / "text"),
        ("generate",),
        ("embed", tmp_path / "text", "--output", tmp_path / "v.npz"),
    ):
        assert call(script, tmp_path / "best-lm.pt", *arguments) == 2
        assert "not finite" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-lm.pt", "text"]


def test_differences_are_compared_to_the_largest_number_and_must_be_finite():
    ones = np.ones(3, np.float32)
    for scale in (1e-6, 1.0, 1e6):
        assert difference_of(scale * ones, scale * (ones + 0.5)).relative == pytest.approx(0.5)
    assert difference_of(ones * 0, ones * 0) == (0, 0)
    assert difference_of(ones * 0, ones).relative == math.inf
    for one, other in ((ones * np.nan, ones), (ones, ones * np.inf), (ones * np.nan, ones * np.nan)):
        assert math.isnan(difference_of(one, other).relative)


def test_damaged_and_missing_files(published):
    weights = load_file(published)
    published.write_bytes(published.read_bytes()[:-5])
    with pytest.raises(UserError, match="is damaged"):
        load_safetensors(published)
    save_file(weights, published)
    with pytest.raises(UserError, match="do not belong together"):
        load_safetensors(published)
    published.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors cannot be read"):
        load_safetensors(published)
    published.with_suffix(".json").write_text("{")
    with pytest.raises(UserError, match=r"model\.json is not a model's settings"):
        load_safetensors(published)
    published.with_suffix(".json").unlink()
    with pytest.raises(UserError, match=r"model\.json cannot be read"):
        load_safetensors(published)


@each_kind
def test_onnx_computes_what_pytorch_does(tmp_path, kind):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    language_model = make_model(**kind)
    assert save_onnx(language_model, tmp_path / "model.onnx") < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    states = ["h"] if "GRU" in kind.get("recurrent_type", "LSTM") else ["h", "c"]
    logits = ["logits"] if kind.get("has_decoder", True) else []
    assert [value.name for value in session.get_inputs()] == ["ids", *states]
    assert [value.name for value in session.get_outputs()] == ["output", *logits, *(f"{name}_last" for name in states)]
    settings = json.loads(session.get_modelmeta().custom_metadata_map["lmtrain"])
    assert settings["items"] == CHARACTERS
    assert settings["is_forward_lm"] == language_model.is_forward_lm
    # A text in two calls, the state carried from one to the other.
    ids = torch.randint(30, (23, 4))
    with torch.no_grad():
        expected, _ = language_model.model(ids)
    hidden = dict(zip(states, (part.numpy() for part in language_model.model.zero_hidden(4)), strict=True))
    first = session.run(None, {"ids": ids[:9].numpy(), **hidden})
    hidden = dict(zip(states, first[-len(states) :], strict=True))
    second = session.run(None, {"ids": ids[9:].numpy(), **hidden})
    outputs = torch.cat([torch.from_numpy(first[0]), torch.from_numpy(second[0])])
    torch.testing.assert_close(outputs, expected, atol=1e-5, rtol=0)


def test_onnx_that_differs_is_not_written(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setattr(export, "_difference_to_torch", lambda *_: export.Difference(1e-6, 0.5))
    with pytest.raises(UserError, match="differ from PyTorch's"):
        save_onnx(make_model(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_onnx_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'lmtrain\[onnx\]'"):
        save_onnx(make_model(), tmp_path / "model.onnx")


def test_script(tmp_path, capsys):
    language_model = make_model()
    save_language_model(language_model, tmp_path / "best-lm.pt")
    published = tmp_path / "model.safetensors"
    assert call("export", tmp_path / "best-lm.pt", "--format", "safetensors", "--output", published) == 0
    assert capsys.readouterr().out == f"{published} and {tmp_path / 'model.json'}\n"
    assert call("export", published, "--format", "flair", "--output", tmp_path / "again.pt") == 0
    assert_equal(load_language_model(tmp_path / "again.pt"), language_model)
    capsys.readouterr()
    published.unlink()
    assert call("export", tmp_path / "best-lm.pt", "--format", "safetensors", "--output", published) == 2
    assert "model.json exists" in capsys.readouterr().err
    assert call("export", tmp_path / "best-lm.pt", "--format", "flair", "--output", tmp_path / "again.pt") == 2
    assert "--overwrite" in capsys.readouterr().err
    arguments = ["export", tmp_path / "best-lm.pt", "--format", "flair", "--output", tmp_path / "again.pt"]
    assert call(*arguments, "--overwrite") == 0
    assert call("export", tmp_path / "best-lm.pt", "--format", "safetensors", "--output", tmp_path / "x.bin") == 2
    assert "must end in .safetensors" in capsys.readouterr().err


def test_script_exports_onnx(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    save_language_model(make_model(), tmp_path / "best-lm.pt")
    assert call("export", tmp_path / "best-lm.pt", "--format", "onnx", "--output", tmp_path / "model.onnx") == 0
    assert "onnxruntime and PyTorch differ by" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["generate", "score", "embed", "export", "benchmark"])
def test_help_shows_an_example_and_imports_nothing_heavy(script):
    code = f"""if True:
        import runpy, sys
        sys.argv = ["{script}.py", "--help"]
        try:
            runpy.run_path({str(SCRIPTS / script) + ".py"!r}, run_name="__main__")
        except SystemExit as status:
            assert status.code == 0, status
        assert not {{"torch", "numpy", "flair", "onnx"}} & sys.modules.keys()
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "example" in result.stdout
    assert f"scripts/{script}.py" in result.stdout


def test_how_commands_end(capsys):
    def raising(error):
        def main():
            raise error

        return main

    assert run(lambda: None) == 0
    assert run(raising(UserError("It is wrong."))) == 2
    assert capsys.readouterr().err == "Error: It is wrong.\n"
    assert run(raising(KeyboardInterrupt())) == 130
    assert run(raising(PermissionError(13, "Permission denied", "/x"))) == 2
    assert capsys.readouterr().err == "Error: /x: Permission denied.\n"
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0)


def test_a_reader_that_goes_away_is_no_traceback(tmp_path):
    save_language_model(make_model(), tmp_path / "best-lm.pt")
    script = f"{sys.executable} {SCRIPTS / 'generate.py'} {tmp_path / 'best-lm.pt'}"
    command = f"{script} --length 60 --samples 2000 --json | head -n 1"  # more than fits in a pipe
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == ""


def save_pair(folder, forward=None, backward=None, perplexities=(None, None)):
    """Two runs: folders with best-lm.pt and perhaps metrics.csv."""
    paths = []
    models = [make_model(**(forward or {})), make_model(**{"is_forward_lm": False, **(backward or {})})]
    for name, model, perplexity in zip(("forward", "backward"), models, perplexities, strict=True):
        paths.append(folder / name / "best-lm.pt")
        save_language_model(model, paths[-1])
        if perplexity is not None:
            rows = f"step,val/loss,val/ppl\n1,,{perplexity * 3}\n2,,\n3,,{perplexity}\n4,,{perplexity * 2}\n"
            paths[-1].with_name("metrics.csv").write_text(rows)
    return paths


def test_a_pair_that_fits(tmp_path):
    forward, backward = save_pair(tmp_path, perplexities=(5.0, 5.4))
    assert extreme(read_metrics(tmp_path / "backward" / "metrics.csv"), "val/ppl") == 5.4
    for models in (load_pair(forward, backward), load_pair(backward, forward)):
        assert [model.is_forward_lm for model in models] == [True, False]


def test_a_pair_whose_perplexities_differ(tmp_path):
    paths = save_pair(tmp_path, perplexities=(5.0, 5.6))
    with pytest.warns(UserWarning, match=r"differ by more than 10 %: 5\.000 of .*forward.*, 5\.600 of .*backward"):
        load_pair(*paths)


def test_a_pair_without_metrics_is_compared_on_a_text(tmp_path):
    paths = save_pair(tmp_path, perplexities=(5.0, None), backward={"seed": 1})
    text = "a text, some text"
    one, other = (score(load_language_model(path), [text])[0].perplexity for path in paths)
    assert max(one, other) > 1.1 * min(one, other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_pair(*paths)
    with pytest.warns(UserWarning, match=f"the text's.*{one:.3f} of"):
        load_pair(*paths, text)


@pytest.mark.parametrize("content", ["", "step\n1\n", "val/ppl\nnan\n\n", "\0", "val/ppl\nsoon\n"])
def test_metrics_without_a_perplexity(tmp_path, content):
    (tmp_path / "metrics.csv").write_text(content)
    assert extreme(read_metrics(tmp_path / "metrics.csv"), "val/ppl") is None


def test_pairs_that_do_not_fit(tmp_path):
    paths = save_pair(tmp_path, backward={"is_forward_lm": True, "items": ["a", "b"], "level": "word"})
    with pytest.raises(UserError) as error:
        load_pair(*paths)
    direction, dictionary, level = error.value.problems
    assert "are both forward models" in direction
    assert f"different dictionaries, of {len(CHARACTERS)} and 2 items" in dictionary
    assert "model of characters" in level
