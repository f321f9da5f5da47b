"""A signal in any stretch of a run: one sentence, nothing half-made, and the same command makes up for the rest."""

import importlib
import json
import signal
from pathlib import Path

import pytest
import torch
from corpora import write_corpus
from running import SMALL, compose, train
from script_calls import call

from lmtrain.model_files.flair import load_language_model

RUN = (*SMALL, "logger=csv", "dictionary=corpus", "name=run", "data.validations_per_epoch=40")
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# what is called in each stretch of a run, and at which of its calls the signal comes
PHASES = {
    "the files are looked for": ("lmtrain.training.text", "find_corpus", 1),
    "the characters are counted": ("lmtrain.data.id_cache", "document_blocks", 1),
    "the dictionary is made": ("lmtrain.data.dictionary", "Dictionary.__init__", 1),
    "a file is encoded": ("lmtrain.data.id_cache", "_count_unknown", 2),
    "the folder is taken": ("lmtrain.runs.run_folder", "yaml.safe_dump", 1),
    "the model is made": ("lmtrain.training.run", "make_module", 1),
    "a step is made": ("lmtrain.training.module", "LanguageModelModule.training_step", 2),
    "it is validated": ("lmtrain.training.module", "LanguageModelModule.validation_step", 2),
    "a checkpoint is written": ("lmtrain.training.callbacks.checkpoint", "torch.save", 1),
    "training has ended": ("lmtrain.training.callbacks.progress", "RunProgress.on_train_end", 1),
    "it is tested": ("lmtrain.training.module", "LanguageModelModule.test_step", 2),
    "the test has ended": ("lmtrain.training.callbacks.monitor", "Monitor.on_test_end", 1),
    "the curves are drawn": ("lmtrain.runs.report", "save_figure", 1),
    "the card is written": ("lmtrain.runs.report", "model_card", 1),
    "the results are written": ("lmtrain.runs.run_folder", "RunFolder.write_results", 1),
    "it is told how it ended": ("lmtrain.training.finish", "log_end", 1),
}


def raise_at(monkeypatch, place: tuple[str, str, int], signum: int) -> None:
    """The signal comes when something is called for the n-th time, which then goes on, if it is not broken off."""
    module, names, number = place
    owner = importlib.import_module(module)
    *path, name = names.split(".")
    for part in path:
        owner = getattr(owner, part)
    original, calls = getattr(owner, name), []

    def called(*arguments, **more):
        calls.append(name)
        if len(calls) == number:
            signal.raise_signal(signum)
        return original(*arguments, **more)

    monkeypatch.setattr(owner, name, called)


def outcome(run: Path) -> tuple[dict, list[torch.Tensor], set[str]]:
    """What a run leaves that does not depend on the clock, and which files."""
    results = json.loads((run / "results.json").read_text())
    del results["seconds"]
    weights = load_language_model(run / "best-lm.pt").model.state_dict()
    return results, list(weights.values()), {str(path.relative_to(run)) for path in run.rglob("*")}


def assert_made_up_for(run: Path, whole: Path) -> None:
    (results, weights, files), (other_results, other_weights, other_files) = outcome(run), outcome(whole)
    assert results == other_results
    assert all(map(torch.equal, weights, other_weights))
    assert files == other_files


def unfinished() -> list[Path]:
    return [path for path in Path().rglob(".*") if path.name.endswith(".tmp") or "unfinished" in path.name]


def assert_stopped(ended, signum: int) -> None:
    assert ended.status == 128 + signum, ended.message
    last = ended.message.splitlines()[-1]
    assert last.startswith(signal.Signals(signum).name)
    assert last.endswith("The same command goes on from there.")
    assert ended.message.count("The same command") == 1
    assert "Traceback" not in ended.message
    assert unfinished() == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that no signal met."""
    folder = tmp_path_factory.mktemp("whole")
    write_corpus(folder / "corpus")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        train(compose(*RUN))
    return folder / "runs/run"


@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_is_followed_in_every_stretch(phase, train_py, monkeypatch, whole):
    signum = SIGNALS[list(PHASES).index(phase) % 3]
    before = [signal.getsignal(number) for number in SIGNALS]
    with monkeypatch.context() as patched:
        raise_at(patched, PHASES[phase], signum)
        assert_stopped(train_py(*RUN), signum)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    ended = train_py(*RUN)
    assert ended.status == 0, ended.message
    assert_made_up_for(Path("runs/run"), whole)


def test_a_signal_in_the_validation_before_fine_tuning(train_py, monkeypatch):
    assert train_py(*SMALL, "name=base", "test=false").status == 0
    arguments = (*SMALL, "name=run", "init_from=runs/base/best-lm.pt")
    assert train_py(*arguments, "runs_dir=whole").status == 0
    with monkeypatch.context() as patched:
        raise_at(patched, PHASES["it is validated"], signal.SIGTERM)
        assert_stopped(train_py(*arguments), signal.SIGTERM)
    assert not Path("runs/run/best-lm.pt").exists()
    assert train_py(*arguments).status == 0
    assert_made_up_for(Path("runs/run"), Path("whole/run"))


def test_a_signal_in_the_test_of_a_job_ends_a_sweep_and_the_same_command_goes_on(train_py, monkeypatch):
    sweep = ("-m", *SMALL, "seed=1,2")
    with monkeypatch.context() as patched:
        raise_at(patched, ("lmtrain.training.module", "LanguageModelModule.test_step", 2), signal.SIGTERM)
        assert_stopped(train_py(*sweep), signal.SIGTERM)
    assert [path.name for path in Path("runs").glob("tiny*")] == ["tiny-folder-forward-seed-1"]
    assert train_py(*sweep).status == 0
    assert len(list(Path("runs").glob("*/results.json"))) == 2


def test_what_killed_processes_left_in_the_run_folder_and_the_cache_is_removed(train_py):
    for folder in ("runs/run", "runs/run/checkpoints", "cache"):
        Path(folder).mkdir(parents=True)
        Path(folder, ".last.ckpt.host.1.0123456789abcdef.tmp").touch()
        Path(folder, ".text.host.1.0123456789abcdef.tmp").mkdir()
    Path("runs/run/checkpoints").rename("elsewhere")  # as long as there is no config.yaml they are not known whose
    assert train_py(*SMALL, "name=run").status == 0
    for path in Path("elsewhere").iterdir():
        path.rename(Path("runs/run/checkpoints", path.name))
    assert train_py(*SMALL, "name=run").status == 0
    assert unfinished() == []


def test_a_signal_while_a_folder_for_the_hub_is_made(whole, tmp_path, monkeypatch, capsys):
    arguments = ("export", whole / "best-lm.pt", "--format", "hub", "--output", tmp_path / "hub")
    with monkeypatch.context() as patched:
        raise_at(patched, ("lmtrain.runs.publishing", "save_safetensors", 1), signal.SIGTERM)
        assert call(*arguments) == 143
    said = "SIGTERM before the work was done: nothing unfinished is left. Run the same command again.\n"
    assert capsys.readouterr().err == said
    assert list(tmp_path.iterdir()) == []
    assert call(*arguments) == 0
