"""`train()` is called by programs: in threads, in notebooks, again and again; it leaves their process as it was."""

import asyncio
import io
import logging
import signal
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch
from corpora import write_corpus
from lightning.pytorch import Callback
from running import SMALL, compose, train
from stopping import Killed

from lmtrain.errors import UserError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_corpus(Path("corpus"))


def settings(*more: str) -> dict:
    return compose(*SMALL, "test=false", *more)


def in_a_thread(work) -> list:
    """What the work returned or raised in a thread."""
    results = []

    def perform() -> None:
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=perform)
    thread.start()
    thread.join()
    return results


def process_wide() -> list:
    """What a program would notice if it were another afterwards."""
    names = ("lmtrain", "lightning.pytorch", "lightning.fabric")
    loggers = [logging.getLogger(name) for name in names]
    return [
        *((logger.level, logger.propagate, list(logger.handlers)) for logger in loggers),
        *(signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)),
        list(warnings.filters),
        torch.get_float32_matmul_precision(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        Path.cwd(),
    ]


def test_in_a_thread_it_trains_without_watching_signals_and_says_so_once(capsys):
    (results,) = in_a_thread(lambda: train(settings("name=run")))
    assert results["steps"] == 3
    said = capsys.readouterr().err
    assert said.count("This run is in a thread, where signals are not watched") == 1
    assert said.count("This run is in a thread") == Path("runs/run/train.log").read_text().count(
        "This run is in a thread"
    )


class Meanwhile(Callback):
    """Does something in the middle of a run."""

    work = staticmethod(lambda: None)

    def on_train_start(self, trainer, pl_module) -> None:  # noqa: ARG002
        Meanwhile.work()


MEANWHILE = {"meanwhile": {"_target_": "test_program.Meanwhile"}}


def test_a_second_thread_is_told_to_wait(monkeypatch):
    other, seen = settings("name=other"), []
    monkeypatch.setattr(Meanwhile, "work", lambda: seen.extend(in_a_thread(lambda: train(other))))
    assert train(settings("name=run") | {"callbacks": MEANWHILE})["steps"] == 3
    assert "Another thread of this process is training" in str(seen[0])
    assert isinstance(seen[0], UserError)
    assert not Path("runs/other").exists()
    assert train(other)["steps"] == 3


def test_it_leaves_the_process_as_it_was_however_it_ends():
    before = process_wide()
    train(settings("name=good"))
    assert process_wide() == before
    with pytest.raises(UserError, match=r"data\.path=nowhere does not exist"):
        train(settings("name=bad", "data.path=nowhere"))
    assert process_wide() == before
    with pytest.raises(Killed):
        train(settings("name=killed", "+callbacks.kill={_target_: stopping.KillAt, windows: 2}"))
    assert process_wide() == before
    with open("runs/good/train.log", "a") as log:  # nobody has it open any more
        log.truncate(0)
    logging.getLogger("lmtrain").warning("not for the run")
    assert Path("runs/good/train.log").read_text() == ""


def test_relative_paths_are_those_of_the_working_directory_at_the_call(tmp_path, monkeypatch):
    values = settings("name=run")
    for place in ("one", "two"):
        write_corpus(tmp_path / place / "corpus")
        monkeypatch.chdir(tmp_path / place)
        assert train(values)["steps"] == 3
        assert (tmp_path / place / "runs/run/best-lm.pt").exists()
        assert (tmp_path / place / "cache").exists()
    assert not (tmp_path / "runs").exists()


def test_where_an_event_loop_runs_and_standard_error_is_no_file(monkeypatch):
    """As in a notebook: IPython's streams have no file number."""

    class Stream(io.StringIO):
        def fileno(self) -> int:
            raise io.UnsupportedOperation("fileno")

    screen = Stream()

    async def cell() -> dict:
        return train(settings("name=run"))

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", screen)
        patch.setattr(sys, "stdout", screen)
        assert asyncio.run(cell())["steps"] == 3
    assert "Best validation" in screen.getvalue()


def test_a_notebook_is_told_that_it_cannot_start_several_processes(monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    for strategy in ("auto", "ddp"):
        with pytest.raises(UserError, match=r"cannot be started from a notebook .*python train\.py"):
            train(settings("trainer.devices=2", f"trainer.strategy={strategy}"))
    assert not Path("runs").exists()
