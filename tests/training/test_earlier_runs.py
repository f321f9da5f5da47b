"""Runs of earlier versions go on, and their files are read and written as they were; `fixtures/earlier` holds some."""

import shutil
from pathlib import Path

import pytest
import torch
from fixtures.earlier.make import COMMON, HERE, RUNS
from running import compose, read_metrics, train

from lmtrain.data.dictionary import Dictionary
from lmtrain.model_files.flair import load_language_model, save_language_model
from lmtrain.runs.compare import read_runs

VERSIONS = ["032fadd", "8f66341"]


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """Copies a run of an earlier version to runs/ in a folder that also holds its corpus, the present one."""
    shutil.copytree(HERE / "corpus", tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)

    def copy(version: str, name: str) -> Path:
        return shutil.copytree(HERE / version / name, Path("runs", name))

    return copy


def go_on(name: str) -> dict:
    """The command that the run began with, without the callback that cut it."""
    arguments = RUNS[name.rpartition("-")[0]][0]
    return train(compose(*COMMON, *arguments, f"name={name}"))


def figures(run: Path, *names: str) -> dict[str, list[float]]:
    return {name: read_metrics(run, name) for name in ("step", "chars", "lr", "val/loss", "test/loss", *names)}


def approximately(columns: dict[str, list[float]], precision: float) -> dict:
    return {name: pytest.approx(column, rel=precision) for name, column in columns.items()}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", RUNS)
def test_a_run_that_was_cut_goes_on_to_the_losses_of_the_one_that_was_not(kind, version, earlier):
    run, whole = earlier(version, f"{kind}-cut"), HERE / version / f"{kind}-whole"
    go_on(f"{kind}-cut")
    if (kind, version) == ("words", "032fadd"):  # dropout draws its masks in another way since then
        assert figures(run) == approximately(figures(whole), 3e-4)
    else:
        assert figures(run, "train/loss") == approximately(figures(whole, "train/loss"), 1e-5)
        weights = [load_language_model(folder / "best-lm.pt").model.state_dict() for folder in (run, whole)]
        torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)
    assert (run / "dictionary.json").read_bytes() == (whole / "dictionary.json").read_bytes()
    assert "| validation |" in (run / "README.md").read_text(encoding="utf-8")
    assert (run / "report.png").stat().st_size > 0


@pytest.mark.parametrize("version", VERSIONS)
def test_a_finished_run_is_not_trained_again(version, earlier):
    run = earlier(version, "sgd-whole")
    before = {path: path.read_bytes() for path in (run / "best-lm.pt", run / "checkpoints/last.ckpt")}
    losses = read_metrics(run, "train/loss")
    expected = read_metrics(run, "test/loss")[0]
    assert go_on("sgd-whole")["test/loss"] == pytest.approx(expected, rel=1e-5)
    assert {path: path.read_bytes() for path in before} == before
    assert read_metrics(run, "train/loss") == losses


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", RUNS)
def test_the_files_that_flair_and_scripts_read_are_written_as_ever(kind, version, tmp_path):
    folder = HERE / version / f"{kind}-whole"
    save_language_model(load_language_model(folder / "best-lm.pt"), tmp_path / "best-lm.pt")
    assert (tmp_path / "best-lm.pt").read_bytes() == (folder / "best-lm.pt").read_bytes()
    Dictionary.load(folder / "dictionary.json").save(tmp_path / "dictionary.json")
    assert (tmp_path / "dictionary.json").read_bytes() == (folder / "dictionary.json").read_bytes()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_checkpoint_is_a_model_too(version):
    folder = HERE / version / "words-whole"
    models = [load_language_model(folder / name) for name in ("checkpoints/last.ckpt", "best-lm.pt")]
    assert models[0].dictionary == models[1].dictionary
    assert models[0].level == models[1].level == "word"
    torch.testing.assert_close(*(model.model.state_dict() for model in models), rtol=0, atol=0)  # the last was the best


def test_runs_of_all_versions_are_compared(tmp_path):
    for version in VERSIONS:
        shutil.copytree(HERE / version, tmp_path / version)
    runs = {run.name: run for run in read_runs(sorted(tmp_path.glob("*/*")))}
    for name, run in runs.items():
        assert run.is_finished == name.endswith("whole"), name
        assert ("test/ppl" in run.figures) == run.is_finished
    for kind in RUNS:
        assert len({runs[f"{version}/{kind}-whole"].kind for version in VERSIONS}) == 1
