"""Sweeps: every job has its own run folder, a search finds the best, and the same command goes on."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from corpora import write_corpus
from hypothesis import example, given, settings
from hypothesis import strategies as st
from processes import ROOT, run
from running import SMALL

from lmtrain.cli.sweep import as_name

# Optuna 2.10, which is what Hydra's sweeper takes, was written for an older SQLAlchemy
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:optuna")

SEARCH = (*SMALL, "hparams_search=optuna", "hydra.sweeper.n_trials=2")


def runs() -> dict[str, dict]:
    """By name, the results of the runs that ended."""
    return {path.parent.name: json.loads(path.read_text()) for path in Path("runs").glob("*/results.json")}


def losses() -> dict[str, float]:
    return {name: results["val/loss"] for name, results in runs().items()}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("direction=forward,backward",), {"tiny-folder-forward", "tiny-folder-backward"}),
        (("model=tiny,small",), {"tiny-folder-forward", "small-folder-forward"}),
        (("name=mine", "direction=forward,backward"), {"mine-direction-forward", "mine-direction-backward"}),
        (("name=mine-${seed}", "seed=1,2"), {"mine-1", "mine-2"}),
        (
            ("optimizer.lr=5,1e-05", "seed=1"),
            {"tiny-folder-forward-optimizer.lr-5", "tiny-folder-forward-optimizer.lr-1e-05"},
        ),
    ],
)
def test_a_job_is_named_by_what_is_swept_and_not_in_its_name_already(arguments, names, train_py):
    status, message = train_py("-m", *SMALL, "trainer.max_steps=1", "test=false", *arguments)
    assert status == 0, message
    assert runs().keys() == names


def test_values_that_are_no_names_are_told_apart_and_fit_a_file_system(train_py):
    Path("a").mkdir()
    names = ["a_b", "a/b", "a/../a/b", "a//b", f"{'./' * 150}a_b"]
    for name in ("a_b", "a/b"):
        Path(name).symlink_to(Path("corpus").resolve())
    choices = ",".join(f"'{name}'" for name in names)
    status, message = train_py("-m", *SMALL, "trainer.max_steps=1", "test=false", f"data.path={choices}")
    assert status == 0, message
    assert len(runs()) == len(names)
    assert "tiny-folder-forward-data.path-a_b" in runs()
    assert max(len(name.encode()) for name in runs()) <= 200
    assert all(re.fullmatch(r"[\w.+-]+", name, re.ASCII) for name in runs())
    configs = [yaml.safe_load(path.read_text())["data"]["path"] for path in Path("runs").glob("*/config.yaml")]
    assert sorted(configs) == sorted(names)


@settings(max_examples=30)
@given(st.lists(st.text(min_size=1, max_size=300), min_size=2, max_size=4, unique=True), st.integers(0, 250))
@example(["1", "1-m=2"], 9)
def test_other_values_give_other_names(values, length):
    names = [as_name([f"key={value}"], length) for value in values]
    assert len(set(names)) == len(values)
    assert all(len(name) <= max(length, 9) and name.isascii() for name in names)


def test_jobs_of_a_sweep_of_fine_tunings_have_names_of_their_own(train_py):
    assert train_py(*SMALL, "trainer.max_steps=1", "direction=backward")[0] == 0
    Path("runs/tiny-folder-backward").rename("base")
    tuning = [setting for setting in SMALL if not setting.startswith("model")]
    status, message = train_py(
        *("-m", *tuning, "experiment=fine_tune", "init_from=base/best-lm.pt", "optimizer.lr=1,5", "test=false")
    )
    assert status == 0, message
    assert runs().keys() == {f"tuned-folder-backward-optimizer.lr-{rate}" for rate in (1, 5)}


def test_a_search_keeps_the_size_of_a_model_that_was_chosen(train_py):
    status, message = train_py(
        *SEARCH[:4], "data.sequence_length=20", *SEARCH[7:], "model=tiny", "hydra.sweeper.n_trials=1"
    )
    assert status == 0, message
    [name] = runs()
    assert "hidden_size" not in name
    assert yaml.safe_load(Path("runs", name, "config.yaml").read_text())["model"]["hidden_size"] == 128


def test_jobs_of_a_grid_go_on_together_and_alone(train_py):
    grid = ("-m", *SMALL, "optimizer.lr=1,2", "direction=forward,backward")
    assert train_py(*grid)[0] == 0
    before = runs()
    assert before.keys() == {f"tiny-folder-{way}-optimizer.lr-{lr}" for way in ("forward", "backward") for lr in (1, 2)}
    assert len(set(losses().values())) == 4
    status, message = train_py(*grid)
    assert status == 0
    assert message.count("is finished") == 4
    assert runs() == before
    one = "tiny-folder-backward-optimizer.lr-2"
    status, message = train_py(*SMALL, f"name={one}", "optimizer.lr=2", "direction=backward", "trainer.max_steps=5")
    assert status == 0
    assert f"Going on from runs/{one}/checkpoints/last.ckpt" in message
    assert runs()[one]["steps"] == 5


def test_a_search_finds_the_lowest_loss_and_more_trials_may_follow(train_py):
    status, message = train_py("-m", *SEARCH)
    assert status == 0, message
    before = losses()
    assert len(before) == 2
    found = yaml.safe_load(Path("runs/optimization_results.yaml").read_text())
    best = min(before, key=before.get)
    assert found["best_value"] == before[best]
    trained = yaml.safe_load(Path("runs", best, "config.yaml").read_text())
    assert found["best_params"] == {
        "optimizer.lr": trained["optimizer"]["lr"],
        "model.dropout": trained["model"]["dropout"],
    }
    assert f"val/loss {before[best]:.4f} with" in message.splitlines()[-1]
    status, message = train_py(*SEARCH, "hydra.sweeper.n_trials=3")  # without -m, too
    assert status == 0
    assert message.count("is finished") == 2
    after = losses()
    assert len(after) == 3
    assert before.items() < after.items()


def test_an_interrupted_search_ends_and_goes_on(train_py):
    assert train_py(*SEARCH, "runs_dir=whole")[0] == 0
    stop = "+callbacks.stop={_target_: stopping.InterruptSecondRun}"
    status, message = train_py(*SEARCH, "hydra.sweeper.n_trials=9", stop)
    assert status == 130
    assert "SIGINT at step 1: saved. The same command goes on from there." in message
    assert len(runs()) == 1
    status, message = train_py(*SEARCH)
    assert status == 0
    assert message.count("Going on from") == message.count("is finished") == 1
    assert Path("runs/optimization_results.yaml").read_text() == Path("whole/optimization_results.yaml").read_text()


def diverging(step: int, times: int) -> tuple[str, str]:
    return (
        f"+callbacks.poison={{_target_: stopping.PoisonAt, step: {step}, times: {times}}}",
        "divergence.max_rollbacks=0",
    )


def test_a_trial_that_diverges_does_not_end_the_search(train_py):
    status, message = train_py(*SEARCH, "trainer.max_steps=5", *diverging(2, times=1))
    assert status == 0, message
    assert "Training diverged" in message
    assert "Traceback" not in message
    [loss] = losses().values()
    assert yaml.safe_load(Path("runs/optimization_results.yaml").read_text())["best_value"] == loss


def test_a_search_without_a_trial_that_succeeds_says_so(train_py):
    status, message = train_py(*SEARCH, "trainer.max_steps=5", *diverging(3, times=9))
    assert status == 2
    assert message.splitlines()[-1] == "Error: no trial of the search succeeded, see above."


def test_a_job_of_a_grid_that_diverges_lets_the_others_run_and_is_told_in_the_status(train_py):
    status, message = train_py("-m", *SMALL, "trainer.max_steps=5", "optimizer.lr=1,2", *diverging(1, times=1))
    assert status == 2
    assert "Traceback" not in message
    assert runs().keys() == {"tiny-folder-forward-optimizer.lr-2"}


def test_a_mistake_ends_a_search_at_its_first_trial(train_py):
    status, message = train_py(*SEARCH, "data.batch_size=-1")
    assert status == 2
    assert message.count("data.batch_size=-1") == 1


def test_joblib_runs_jobs_at_once_from_one_cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_corpus(tmp_path / "corpus")
    more = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "optimizer.lr=1,2")
    status, message = run([sys.executable, ROOT / "train.py", "-m", *SMALL, *more], cwd=tmp_path)
    assert status == 0, message
    assert runs().keys() == {"tiny-folder-forward-optimizer.lr-1", "tiny-folder-forward-optimizer.lr-2"}
    assert message.count("Encoding train/1.txt") == 1


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [(["hparams_search=optuna"], "sweep"), (["-m", "hydra/launcher=slurm"], "slurm")],
)
def test_plugins_that_are_not_installed_are_named(arguments, extra):
    code = "import sys, hydra_plugins; hydra_plugins.__path__ = []; from lmtrain.cli.train import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=ROOT, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("Error: ")
    assert result.stderr.endswith(f"needs packages that are not installed: pip install 'lmtrain[{extra}]'.\n")
    assert result.stderr.count("\n") == 1


class QueuedAgain(Exception):
    """What submitit's handler of the signal does: it queues the job again and ends the process."""


def test_the_time_limit_of_a_job_of_submitit_saves_and_lets_submitit_queue_it_again(train_py, monkeypatch):
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")

    def handler(*_):
        raise QueuedAgain(torch.load("runs/run/checkpoints/last.ckpt", weights_only=True)["global_step"])

    before = signal.signal(signal.SIGUSR2, handler)
    try:
        with pytest.raises(QueuedAgain, match=r"^2$"):
            train_py(*SMALL, "name=run", "+callbacks.limit={_target_: stopping.SignalAt, windows: 2, name: SIGUSR2}")
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert "Going on from runs/run/checkpoints/last.ckpt" in train_py(*SMALL, "name=run").message
