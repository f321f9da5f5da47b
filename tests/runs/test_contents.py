"""A run goes on with the same text, dictionary and model, wherever they stand now, and with no others."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from corpora import sentences, write_corpus
from running import SMALL, compose, read_metrics, train

from lmtrain.config.keys import is_marked
from lmtrain.config.schema import Mark, all_fields
from lmtrain.errors import UserError
from lmtrain.model_files.export import save_safetensors
from lmtrain.model_files.flair import load_language_model, save_language_model

STEPS = ("trainer.max_steps=6", "data.validations_per_epoch=100", "test=false", "trainer.precision=32-true")


def run(*overrides: str, name: str = "run") -> dict:
    """Trains in this process; gives the results."""
    return train(
        compose(*SMALL, "logger=csv", *STEPS, f"name={name}", *overrides),
        {over.partition("=")[0] for over in overrides},
    )


def refusal(*overrides: str, name: str = "run") -> str:
    before = {path: path.read_bytes() for path in Path(f"runs/{name}").rglob("*") if path.is_file()}
    with pytest.raises(UserError) as error:
        run(*overrides, name=name)
    assert {path: path.read_bytes() for path in Path(f"runs/{name}").rglob("*") if path.is_file()} == before
    return str(error.value)


def outcome(folder: str) -> tuple:
    checkpoint = torch.load(Path(folder, "checkpoints/last.ckpt"), weights_only=True)
    weights = {name: tensor.numpy().tobytes() for name, tensor in checkpoint["state_dict"].items()}
    return (
        weights,
        checkpoint["global_step"],
        read_metrics(Path(folder), "val/loss"),
        Path(folder, "best-lm.pt").read_bytes(),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a corpus, a dictionary, a model, an uninterrupted run of 6 steps and one that stopped after 3."""
    place = Path.cwd()
    folder = tmp_path_factory.mktemp("contents")
    os.chdir(folder)
    try:
        write_corpus(folder / "corpus")
        run("trainer.max_steps=2", name="base")
        shutil.copy("runs/base/best-lm.pt", "base.pt")
        shutil.copy("runs/base/dictionary.json", "items.json")
        for kind, more in (("plain", ()), ("file", OWN_DICTIONARY), ("tuned", TUNED)):
            run(*more, name=f"{kind}-whole")
            run(*more, "trainer.max_steps=3", name=kind)
    finally:
        os.chdir(place)
    return folder


OWN_DICTIONARY = ("dictionary=file", "dictionary.path=items.json")
TUNED = ("init_from=base.pt", "optimizer.lr=2")


@pytest.fixture
def begun(whole, tmp_path, monkeypatch):
    """A copy of that folder, to change."""
    shutil.copytree(whole, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def assert_goes_on(kind: str, *overrides: str, name: str | None = None, folder: str | None = None) -> None:
    results = run(*overrides, name=name or kind)
    assert results["steps"] == 6
    folder = folder or f"runs/{name or kind}"
    assert "Going on from" in Path(folder, "train.log").read_text()
    assert outcome(folder) == outcome(f"runs/{kind}-whole")


def test_a_corpus_may_have_moved(begun):
    Path("corpus").rename("elsewhere")
    Path("link").symlink_to("elsewhere")
    for step, path in enumerate(["link", f"{begun}/elsewhere/", f"file://{begun}/elsewhere"], 4):
        run(f"data.path={path}", f"trainer.max_steps={step}", name="plain")
    assert outcome("runs/plain") == outcome("runs/plain-whole")
    assert yaml.safe_load(Path("runs/plain/config.yaml").read_text())["data"]["path"] == f"file://{begun}/elsewhere"


def test_a_corpus_may_stand_in_the_home_folder(begun, monkeypatch):
    monkeypatch.setenv("HOME", str(begun))
    assert_goes_on("plain", "data.path=~/corpus", "data.cache_dir=~/other", "runs_dir=~/runs")
    assert not Path("~").exists()


@pytest.mark.usefixtures("begun")
def test_files_of_a_corpus_may_have_other_names_in_the_same_order():
    Path("corpus/train").rename("corpus/texts")
    Path("corpus/texts/1.txt").rename("corpus/texts/a.txt")
    Path("corpus/texts/2.txt").rename("corpus/texts/b.txt")
    Path("corpus/valid.txt").rename("corpus/dev.txt")
    assert_goes_on("plain", "data.train=texts", "data.valid=dev", "data.test=test.txt")


@pytest.mark.usefixtures("begun")
def test_files_in_another_order_are_other_text():
    Path("corpus/train/1.txt").rename("corpus/train/9.txt")
    message = refusal(name="plain")
    assert "The corpus has changed since the run in runs/plain began: its files are in another order" in message


@pytest.mark.usefixtures("begun")
def test_a_text_in_another_part_is_other_text():
    shutil.copy("corpus/valid.txt", "corpus/x.txt")
    shutil.copy("corpus/test.txt", "corpus/valid.txt")
    shutil.move("corpus/x.txt", "corpus/test.txt")
    assert "which is that of their names, or in other parts" in refusal(name="plain")


@pytest.mark.parametrize("file", ["train/2.txt", "valid.txt", "test.txt"])
@pytest.mark.usefixtures("begun")
def test_other_text_at_the_same_place_is_refused_by_name(file):
    Path("corpus", file).write_text(sentences(45, seed=9))
    message = refusal(*OWN_DICTIONARY, name="file")
    assert f"The corpus has changed since the run in runs/file began: {file}. Put the text back" in message


@pytest.mark.usefixtures("begun")
def test_a_run_folder_may_have_moved_and_have_another_name():
    Path("other place").mkdir()
    Path("runs/plain").rename("other place/mine")
    assert_goes_on("plain", "runs_dir=other place", name="mine", folder="other place/mine")


def test_a_dictionary_may_have_moved(begun, monkeypatch):
    monkeypatch.setenv("HOME", str(begun))
    Path("items.json").rename("moved.json")
    run("dictionary=file", f"dictionary.path=file://{begun}/moved.json", "trainer.max_steps=4", name="file")
    assert_goes_on("file", "dictionary=file", "dictionary.path=~/moved.json")


@pytest.mark.usefixtures("begun")
def test_another_dictionary_at_the_same_place_is_refused():
    content = json.loads(Path("items.json").read_text())
    content["items"].append("€")  # which occurs nowhere: no id changes
    Path("items.json").write_text(json.dumps(content))
    message = refusal(*OWN_DICTIONARY, name="file")
    assert "dictionary.path=items.json gives another dictionary than the one that the run in runs/file began" in message


def test_the_model_to_start_from_may_have_moved_and_have_any_form(begun):
    save_language_model(load_language_model("base.pt"), "again.pt")  # other bytes would not matter
    save_safetensors(load_language_model("base.pt"), "again.safetensors")
    Path("base.pt").unlink()
    Path("link.pt").symlink_to("again.pt")
    run("init_from=./link.pt", "optimizer.lr=2", "trainer.max_steps=4", name="tuned")
    run("init_from=runs/base", "optimizer.lr=2", "trainer.max_steps=5", name="tuned")
    assert_goes_on("tuned", f"init_from=file://{begun}/again.safetensors", "optimizer.lr=2")


@pytest.mark.usefixtures("begun")
def test_another_model_at_the_same_place_is_refused():
    other = load_language_model("base.pt")
    other.model.decoder.bias.data[0] += 1
    save_language_model(other, "base.pt")
    message = refusal(*TUNED, name="tuned")
    assert "init_from=base.pt is not the model that the run in runs/tuned began with" in message
    assert "init_from=None is not the model that the run in runs/tuned began with" in refusal(
        "optimizer.lr=2", "model.name=tuned", name="tuned"
    )


@pytest.mark.usefixtures("begun")
def test_overwrite_takes_what_is_there_now():
    Path("corpus/train/1.txt").write_text(sentences(45, seed=9))
    assert run("overwrite=true", "trainer.max_steps=2", name="plain")["steps"] == 2


def test_a_folder_from_before_contents_were_kept_goes_on(begun):
    for kind in ("plain", "tuned"):
        Path(f"runs/{kind}/contents.json").unlink()
    Path("base.pt").rename("moved.pt")
    assert "is not the model that the run in runs/tuned began with" in refusal(
        "init_from=moved.pt", "optimizer.lr=2", name="tuned"
    )
    Path("moved.pt").rename("base.pt")
    assert_goes_on("tuned", f"init_from={begun}/base.pt", "optimizer.lr=2")
    Path("corpus").rename("elsewhere")
    assert_goes_on("plain", "data.path=elsewhere")
    assert Path("runs/plain/contents.json").exists()


def test_every_key_that_names_a_place_is_compared_by_its_contents():
    places = {"name", "init_from", "runs_dir", "dictionary.path", "model.name"}
    places |= {f"data.{name}" for name in ("name", "path", "train", "valid", "test")}
    assert {key for key, field in all_fields().items() if Mark.PLACE in field.metadata} == places
    assert is_marked("data.cache_dir", Mark.MAY_CHANGE)


def test_what_changes_the_training_may_not_change_on_the_way():
    fixed = {
        *("direction", "seed", "data.batch_size", "data.sequence_length", "data.level", "data.document_delimiter"),
        *("data.shuffle", "data.random_case_flip", "data.max_split_size", "data.validations_per_epoch"),
        *("model.hidden_size", "model.dropout", "optimizer.lr", "optimizer.weight_decay", "anneal.patience"),
        *("trainer.precision", "trainer.gradient_clip_val", "trainer.accumulate_grad_batches", "dictionary.min_count"),
    }
    assert not [key for key in fixed if is_marked(key, Mark.MAY_CHANGE, Mark.PLACE)]
