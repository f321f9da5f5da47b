"""What is beside a run fails for a while or for good: the run goes on, or ends saved and with a sentence."""

import resource
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from corpora import write_corpus
from processes import ROOT, run
from running import SMALL, compose, read_metrics, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_phases import assert_made_up_for, outcome

from lmtrain.training.loggers import guarded as guarded_logger
from lmtrain.training.loggers.guarded import guarded
from lmtrain.training.loggers.mlflow import MLflow
from lmtrain.training.loggers.run_logger import RunInfo

RUN = (
    *SMALL,
    "logger=csv",
    "name=run",
    "trainer.max_steps=6",
    "trainer.log_every_n_steps=1",
    "data.validations_per_epoch=12",
)
SAVING = (*RUN, "checkpoint.every_steps=1")


def failing(name: str, **arguments) -> str:
    settings = ", ".join(f"{key}: {value}" for key, value in arguments.items())
    return f"+callbacks.failing={{_target_: failing.{name}, {settings}}}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run beside which nothing failed."""
    folder = tmp_path_factory.mktemp("whole")
    write_corpus(folder / "corpus")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        train(compose(*RUN))
    return folder / "runs/run"


def assert_same_model(folder: Path, whole: Path) -> None:
    results, weights, _ = outcome(folder)
    expected, expected_weights, _ = outcome(whole)
    assert results == expected
    assert all(map(lambda one, other: one.equal(other), weights, expected_weights))


# ----- loggers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["all", "log_metrics"])
def test_a_logger_of_a_users_that_fails_is_said_once(method, train_py, whole):
    status, message = train_py(*RUN, f"+logger.mine={{_target_: failing.FailingLogger, failing: {method}}}")
    assert status == 0, message
    assert message.count("The logger FailingLogger failed in") == 1
    assert "(ConnectionError: the service has gone). The run goes on without" in message
    assert_same_model(Path("runs/run"), whole)


def test_a_guarded_logger_is_what_it_guards():
    from failing import FailingLogger

    logger = FailingLogger("save")
    stand_in = guarded(logger)
    assert isinstance(stand_in, FailingLogger)
    assert stand_in.name == "failing"
    stand_in.experiment.append("mine")
    assert logger.calls == ["experiment", "mine"]
    stand_in.more = 1
    assert logger.more == 1
    with pytest.raises(AttributeError):
        stand_in.missing  # noqa: B018
    assert stand_in.save() is None


def test_a_disk_that_is_full_for_a_while_costs_no_run_and_no_row(train_py, whole, monkeypatch):
    monkeypatch.setattr(guarded_logger, "_REOPEN_SECONDS", 0)
    more = ("callbacks=histograms", "+logger.tensorboard={_target_: lmtrain.training.loggers.tensorboard.TensorBoard}")
    try:
        status, message = train_py(*RUN, *more, failing("FullDisk", step=1, until=4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert status == 0, message
    assert "Traceback" not in message
    assert message.count("The logger TensorBoard failed in") == 1
    assert_same_model(Path("runs/run"), whole)
    for name in ("train/loss", "val/loss", "step"):
        assert read_metrics(Path("runs/run"), name) == read_metrics(whole, name)
    events = EventAccumulator("runs/run/tensorboard").Reload()
    assert {5, 6} <= {event.step for event in events.Scalars("train/loss")}


def test_a_metrics_file_that_is_removed_begins_anew(train_py, whole):
    status, message = train_py(*RUN, failing("Remove", step=3, path="runs/run/metrics.csv"))
    assert status == 0, message
    losses = read_metrics(whole, "val/loss")
    assert read_metrics(Path("runs/run"), "val/loss") == losses[-len(read_metrics(Path("runs/run"), "val/loss")) :]
    assert_same_model(Path("runs/run"), whole)


def test_wandb_goes_on_without_its_helper(tmp_path):
    write_corpus(tmp_path / "corpus")
    more = ("logger=wandb", "logger.wandb.mode=offline", failing("KillHelper", step=3))
    status, message = run([sys.executable, ROOT / "train.py", *RUN, *more], cwd=tmp_path)
    assert status == 0, message
    assert "The logger Wandb failed in" in message
    assert (tmp_path / "runs/run/results.json").exists()


@pytest.mark.filterwarnings("ignore:.*noload:DeprecationWarning")
def test_runs_that_begin_at_once_make_mlflows_database_once(tmp_path):
    uri = f"sqlite:///{tmp_path}/runs/mlflow.db"
    with ThreadPoolExecutor(3) as threads:
        loggers = list(
            threads.map(
                lambda key: MLflow(RunInfo(tmp_path, key, key, {}), "lmtrain", key, uri), ("one", "two", "three")
            )
        )
    assert len({logger.run_id for logger in loggers}) == 3


# ----- the report -----------------------------------------------------------------------------------------------


def test_a_report_that_cannot_be_written_is_made_up_for(train_py, whole):
    for name in ("report.png", "README.md"):
        Path("runs/run", name).mkdir(parents=True)
    status, message = train_py(*RUN)
    assert status == 0, message
    assert message.count("could not be written") == 2
    assert_same_model(Path("runs/run"), whole)
    for name in ("report.png", "README.md"):
        Path("runs/run", name).rmdir()
    status, message = train_py(*RUN)
    assert status == 0
    assert "is finished" in message
    assert_made_up_for(Path("runs/run"), whole)


# ----- what the run itself needs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "removed", [failing("Remove", step=1, path="cache"), "+callbacks.failing={_target_: failing.RemoveCacheAtEnd}"]
)
def test_a_cache_that_is_removed_ends_the_run_saved(removed, train_py, whole):
    status, message = train_py(*RUN, removed)
    assert status == 2
    assert "Traceback" not in message
    assert "in the cache cannot be read any more: No such file or directory. Run the same command again" in message
    status, message = train_py(*RUN)
    assert status == 0, message
    assert "Going on from" in message
    assert_same_model(Path("runs/run"), whole)


def test_a_cache_that_is_removed_within_an_epoch(train_py):
    """The third split is read when the second one begins."""
    for name in ("3.txt", "4.txt"):
        shutil.copy("corpus/train/1.txt", f"corpus/train/{name}")
    steps = ("trainer.max_steps=50", "data.validations_per_epoch=1", "test=false")
    assert train_py(*RUN, *steps, "runs_dir=whole").status == 0
    status, message = train_py(*RUN, *steps, failing("Remove", step=2, path="cache"))
    assert status == 2
    assert "in the cache cannot be read any more" in message
    assert "saved" in message
    status, message = train_py(*RUN, *steps)
    assert status == 0
    assert "Going on from" in message
    assert_same_model(Path("runs/run"), Path("whole/run"))


def test_without_file_descriptors_the_run_ends_with_a_sentence(train_py, whole):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        status, message = train_py(*SAVING, failing("NoDescriptors", step=3))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert status == 2
    assert "Too many open files" in message.splitlines()[-1]
    assert "same command again: it goes on from the last checkpoint" in message.splitlines()[-1]
    status, message = train_py(*RUN)
    assert status == 0, message
    assert "Going on from" in message
    assert_same_model(Path("runs/run"), whole)


@pytest.mark.parametrize("path", ["runs/run", "runs/run/checkpoints"])
def test_what_is_removed_of_the_run_is_written_again(path, train_py, whole):
    status, message = train_py(*SAVING, failing("Remove", step=3, path=path))
    assert status == 0, message
    assert_same_model(Path("runs/run"), whole)
    if path == "runs/run":
        assert message.count("was removed during the run") == 1
        assert "Best validation" in Path("runs/run/train.log").read_text()
    status, message = train_py(*RUN, "trainer.max_steps=7")
    assert status == 0, message
    assert "Going on from" in message


def test_the_best_model_that_is_removed_is_the_best_of_what_comes(train_py):
    status, message = train_py(*RUN, failing("Remove", step=5, path="runs/run/best-lm.pt"))
    assert status == 0, message
    results = outcome(Path("runs/run"))[0]
    assert results["best_step"] == 6
    assert results["val/loss"] == pytest.approx(read_metrics(Path("runs/run"), "val/loss")[-1])


def test_a_best_model_that_is_removed_after_the_last_step_is_the_last(train_py):
    status, message = train_py(*RUN, "+callbacks.failing={_target_: failing.RemoveBestAtEnd}")
    assert status == 0, message
    results = outcome(Path("runs/run"))[0]
    assert results["best_step"] == 6
    assert results["val/loss"] == pytest.approx(read_metrics(Path("runs/run"), "val/loss")[-1])


def test_a_folder_that_another_run_has_taken_over_is_left_to_it(train_py):
    taken = Path("runs/run/.key")
    status, message = train_py(*RUN, "+callbacks.failing={_target_: failing.TakeOver, step: 3, path: runs/run}")
    assert status == 2
    assert "another run has begun there" in message.splitlines()[-1]
    assert {path.name for path in taken.parent.iterdir()} == {".key", ".lock"}
    assert taken.read_text() == "another"
