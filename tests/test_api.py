"""What `import lmtrain` offers, and names that were printed once."""

import pickle
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from processes import ROOT
from running import SMALL, compose
from small_models import make_model

import lmtrain
from lmtrain.aliases import present_name
from lmtrain.config.saved import as_saved
from lmtrain.config.schema import check_config
from lmtrain.inference.embeddings import StringEmbeddings
from lmtrain.model_files.export import load_model
from lmtrain.runs.publishing import write_hub_folder

# what README, docs, model cards and the files in conf/ have named since the first version
PRINTED = (
    *("lmtrain.callbacks.histograms.Histograms", "lmtrain.callbacks.probe.Probe", "lmtrain.compose.compose_values"),
    *("lmtrain.embeddings.StringEmbeddings", "lmtrain.export.load_model", "lmtrain.export.load_safetensors"),
    *("lmtrain.flair_format.load_language_model", "lmtrain.flair_format.save_language_model"),
    *("lmtrain.generation.generate", "lmtrain.long_texts.score_in_lanes", "lmtrain.metrics_csv.MetricsCSV"),
    *("lmtrain.mlflow_logger.mlflow_logger", "lmtrain.muon.Muon", "lmtrain.pair.load_pair", "lmtrain.scoring.score"),
    *("lmtrain.tensorboard_logger.TensorBoard", "lmtrain.trainer_arguments.TRAINER_ARGUMENTS"),
    *("lmtrain.vector_file.read_vectors", "lmtrain.wandb_logger.wandb_logger", "lmtrain.model.LanguageModel"),
    *("lmtrain.sweep.TellJobsApart", "lmtrain.sweep.SayBest", "lmtrain.workers.ShareTerminal"),
)


def test_importing_the_package_imports_nothing_that_is_slow():
    code = "import lmtrain, sys; print(sorted({'torch', 'numpy', 'lightning', 'hydra', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_is_there_and_another_is_not():
    assert {"train", "load", "save", "generate", "score", "embed", "Muon", "__version__"} <= set(dir(lmtrain))
    for name in lmtrain.__all__:
        assert getattr(lmtrain, name) is not None
    assert f'version = "{lmtrain.__version__}"\n' in (ROOT / "pyproject.toml").read_text()
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        lmtrain.trian  # noqa: B018


@pytest.mark.parametrize("name", PRINTED)
def test_what_was_printed_is_found_and_is_the_present_one(name):
    found = pkgutil.resolve_name(name)
    if callable(found):
        assert present_name(found.__module__) == found.__module__  # not a second copy of the module
        assert found is getattr(sys.modules[found.__module__], found.__name__)


def test_training_in_python_is_training_by_the_command(train_py):
    results = lmtrain.train(*SMALL, "name=python")
    assert train_py(*SMALL, "name=command").status == 0
    assert results["steps"] == 3
    scores = [lmtrain.score(lmtrain.load(f"runs/{name}"), "the cat").loss for name in ("python", "command")]
    assert scores[0] == scores[1]
    assert "- `lmtrain.train('data=folder', 'data.path=corpus'," in Path("runs/python/README.md").read_text()
    assert lmtrain.train(*SMALL, "name=python") == results


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=tny"], "model=tny is no option. Did you mean tiny?"),
        (["optimizer.lr=1,2"], "are several values, for -m"),
        (["data.batch_size=0", "seed=-1"], "seed=-1: it must .*\ndata.batch_size=0: it must be greater than 0"),
        ([["model=tiny"]], r"train\(\*LIST\)"),
    ],
)
def test_a_mistake_in_training_is_said_as_on_the_command_line(overrides, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(lmtrain.UserError, match=words) as caught:
        lmtrain.train(*overrides)
    assert not caught.value.report().startswith("Error: Error")
    assert list(tmp_path.iterdir()) == []


def test_an_old_run_with_the_former_name_of_its_optimizer_goes_on(train_py):
    muon = (*SMALL, "optimizer=muon", "name=muon")
    assert train_py(*muon).status == 0
    config = Path("runs/muon/config.yaml")
    text = config.read_text()
    assert "_target_: lmtrain.Muon\n" in text
    config.write_text(text.replace("lmtrain.Muon", "lmtrain.muon.Muon"))
    ended = train_py(*muon, "trainer.max_steps=5")
    assert ended.status == 0, ended.message
    assert lmtrain.load("runs/muon/checkpoints/last.ckpt").level == "character"
    values = compose("optimizer=muon", "optimizer._target_=lmtrain.muon.Muon", "+callbacks.h={_target_: CLASS}")
    values["callbacks"]["h"]["_target_"] = "lmtrain.callbacks.histograms.Histograms"
    config = check_config(values).model_dump()
    assert config["optimizer"]["_target_"] == "lmtrain.Muon"
    assert config["callbacks"]["h"]["_target_"] == "lmtrain.training.callbacks.histograms.Histograms"
    assert as_saved(values) == config


def test_every_form_of_a_model_is_loaded(pair_of_runs, tmp_path):
    run = pair_of_runs / "forward"
    expected = load_model(run / "best-lm.pt")
    lmtrain.save(expected, tmp_path / "a.pt")
    lmtrain.save(expected, tmp_path / "a.safetensors")
    write_hub_folder(run / "best-lm.pt", tmp_path / "hub")
    (tmp_path / "hub/best-lm.pt").rename(tmp_path / "b.pt")
    ids = torch.arange(5)[:, None]
    for path in (run, run / "best-lm.pt", *(tmp_path / name for name in ("a.pt", "a.safetensors", "hub", "b.pt"))):
        model = lmtrain.load(path)
        assert model.dictionary == expected.dictionary
        assert torch.equal(model.model(ids)[0], expected.model(ids)[0]), path
    assert lmtrain.load(str(run / "checkpoints/last.ckpt")).dictionary == expected.dictionary


def test_folders_without_a_model_and_files_that_are_there(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(lmtrain.UserError, match="has neither best-lm"):
        lmtrain.load(tmp_path)
    (tmp_path / "checkpoints/last.ckpt").touch()
    with pytest.raises(lmtrain.UserError, match="its last checkpoint is"):
        lmtrain.load(tmp_path)
    (tmp_path / "a.json").write_text("mine")
    for name, words in (
        ("a.safetensors", "a.json exists.*overwrite=True"),
        ("a.bin", "must end in .pt"),
        ("b/a.pt", "no folder"),
    ):
        with pytest.raises(lmtrain.UserError, match=words):
            lmtrain.save(make_model(), tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "checkpoints"]
    assert (tmp_path / "a.json").read_text() == "mine"
    lmtrain.save(make_model(), tmp_path / "a.safetensors", overwrite=True)
    assert lmtrain.load(tmp_path / "a.safetensors").dictionary == make_model().dictionary
    with pytest.raises(lmtrain.UserError, match=r"ONNX.*\.pt or \.safetensors"):
        lmtrain.load(tmp_path / "a.onnx")


def test_one_in_one_out_and_several_in_a_list_out():
    model = make_model()
    one, several = lmtrain.score(model, "the cat"), lmtrain.score(model, ["the cat", "a"])
    assert several[0] == one
    assert (one.items, several[1].items) == (6, 0)
    text, texts = (lmtrain.generate(model, "the ", 9, seed=3, samples=count) for count in (None, 2))
    assert text.startswith("the ")
    assert len(text) == 13
    assert [len(each) for each in texts] == [13, 13]
    backward = make_model(is_forward_lm=False, seed=1)
    expected = StringEmbeddings(model, backward).embed([["the", "cat"], ["a"]])
    found = lmtrain.embed([model, backward], ["the  cat", ["a"]])
    assert all(map(torch.equal, found, expected))
    assert torch.equal(lmtrain.embed(model, "the cat"), StringEmbeddings(model).embed([["the", "cat"]])[0])


def test_what_would_be_taken_for_something_else_is_refused():
    from lmtrain.inference.scoring import score

    with pytest.raises(lmtrain.UserError, match=r"score\(model, \[text\]\)"):
        score(make_model(), "the cat")
    with pytest.raises(lmtrain.UserError, match="batch_size is -1"):
        lmtrain.score(make_model(), ["the cat"], batch_size=-1)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("score", ("runs/run", "the cat"), r"not the name of its file: lmtrain\.load\('runs/run'\) reads it"),
        ("generate", (Path("lm.pt"),), r"lmtrain\.load\('lm.pt'\) reads it"),
        ("embed", ("runs/run", "the cat"), r"lmtrain\.load\('runs/run'\) reads it"),
        ("embed", (["lm.pt"], "the cat"), r"lmtrain\.load\('lm.pt'\) reads it"),
        ("save", (None, "lm.pt"), r"takes a model as lmtrain\.load gives it, not None \(NoneType\)"),
        ("score", (None, b"the cat"), r"A text is a str, and several are a list of them, not b'the cat' \(bytes\)"),
        ("score", (None, ["the cat", 1]), r"A text is a str, not 1 \(int\)"),
        ("embed", (None, None), r"not None \(NoneType\)"),
        ("embed", (None, [["the", b"cat"]]), r"A text is a str, not b'cat' \(bytes\)"),
        ("generate", (None, b"the"), r"A text is a str, not b'the' \(bytes\)"),
        ("generate", (None, "the", 2.5), r"length is 2\.5; it must be a whole number"),
        ("generate", (None, "the", 5, "1"), r"temperature is '1'; it must be a number"),
    ],
)
def test_a_wrong_type_is_named_with_what_is_right(name, arguments, said):
    model, *others = arguments
    if model is None and name != "save":
        model = make_model()
    with pytest.raises(lmtrain.UserError, match=said):
        getattr(lmtrain, name)(model, *others)


def test_numbers_and_texts_of_numpy_are_taken():
    text = lmtrain.generate(make_model(), np.str_("the"), np.int64(3), np.float32(0.5), samples=np.int32(1))
    assert len(text[0]) == 6
    assert [score.items for score in lmtrain.score(make_model(), np.array(["the cat", "sat"]))] == [6, 2]


def test_embeddings_that_were_pickled_under_former_names_are_read():
    embeddings = StringEmbeddings(make_model(), make_model(recurrent_type="GRU"))
    former = {
        b"clmtrain.inference.embeddings\n": b"clmtrain.embeddings\n",
        b"clmtrain.model.language_model\nLanguageModel": b"clmtrain.model\nLanguageModel",
        b"clmtrain.model.language_model\nRecurrentLM": b"clmtrain.model\nCharLM",
        b"clmtrain.kernels.lstm\n": b"clmtrain.lstm\n",
        b"clmtrain.kernels.cuda\n": b"clmtrain.cuda_recurrence\n",
        b"clmtrain.kernels.dropout\n": b"clmtrain.dropout\n",
        b"clmtrain.data.dictionary\n": b"clmtrain.dictionary\n",
    }
    pickled = pickle.dumps(embeddings, protocol=0)  # in which names stand on lines of their own
    for now, before in former.items():
        assert now in pickled
        pickled = pickled.replace(now, before)
    read = pickle.loads(pickled)
    assert type(read) is StringEmbeddings
    assert torch.equal(read.embed([["a"]])[0], embeddings.embed([["a"]])[0])


def blocks(text: str) -> list[str]:
    found = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for block in found if "import lmtrain\n" in block]


def run_blocks(found: list[str]) -> dict:
    names: dict = {}
    for block in found:
        exec(compile(block, "example", "exec"), names)
    return names


@pytest.mark.usefixtures("train_py")
def test_the_examples_of_the_documentation_run(monkeypatch):
    """With small sizes, and a folder in place of one on the Hub."""
    from lmtrain import api

    original = api.train
    monkeypatch.setattr(lmtrain, "train", lambda *keys: original(*SMALL, *keys, "model.hidden_size=8", "model=tiny"))
    for page, count in (("docs/api.md", 3), ("README.md", 1)):
        found = blocks((ROOT / page).read_text())
        assert len(found) == count
        text = "\n".join(found).replace("base-folder", "tiny-folder")
        names = run_blocks([text])
        assert names["results"]["steps"] == 3
        assert tuple(names["vectors"].shape) == (7 if page == "README.md" else 4, 8)
    (block,) = blocks((ROOT / "docs/publishing.md").read_text())
    assert "from huggingface_hub import snapshot_download\n" in block
    place = "def snapshot_download(name): return 'runs/tiny-folder-forward'\n"
    run_blocks([block.replace("from huggingface_hub import snapshot_download\n", place)])
    monkeypatch.chdir("runs/tiny-folder-forward")
    card = Path("README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["library_name"]
    (block,) = blocks(card)
    assert run_blocks([block])["vectors"].shape == (3, 8)
