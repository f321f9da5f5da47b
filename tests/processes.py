"""Starts `python train.py` as a user does, and stops it at points that it announces."""

import atexit
import errno
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def command(corpus, folder, *more) -> list[str]:
    """Trains a tiny model in `folder/run`; every step is a row of its metrics.csv."""
    return [
        *(sys.executable, ROOT / "train.py", "data=folder", f"data.path={corpus}", f"data.cache_dir={corpus}/cache"),
        *("data.batch_size=4", "data.sequence_length=10", "model.hidden_size=16", "model.dropout=0.2"),
        *("optimizer.lr=2", "name=run", f"runs_dir={folder}", "logger=csv", "trainer.precision=32-true"),
        *("trainer.accelerator=cpu", "trainer.max_epochs=2", "trainer.log_every_n_steps=1"),
        *("checkpoint.every_steps=7", *more),
    ]


def start(arguments: list[str], **options) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "tests")}
    options = {"stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen(arguments, env=environment | options.pop("environment", {}), **options)


def run(arguments: list[str], **options) -> tuple[int, str]:
    """The exit status, negative after a signal, and what it said on standard error.

    `python train.py` is forked from a process that has imported everything, where nothing else is asked for: importing
    takes ten times as long as training does here.
    """
    if arguments[1] == ROOT / "train.py" and not options.keys() - {"environment"}:
        return _run_forked(list(map(str, arguments[1:])), options.get("environment", {}))
    process = start(arguments, **options)
    _, errors = process.communicate(timeout=200)
    return process.returncode, errors


def _run_forked(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "lmtrain.training.train", "lmtrain.cli.train"])
    with tempfile.TemporaryDirectory() as folder:
        errors = Path(folder) / "errors"
        process = context.Process(target=_be_the_command, args=(arguments, environment, errors))
        process.start()
        process.join(200)
        if process.exitcode is None:
            process.kill()
            process.join()
        return process.exitcode, errors.read_text(encoding="utf-8")


def _be_the_command(arguments: list[str], environment: dict[str, str], errors: Path) -> None:
    """Goes on as `python ARGUMENTS` does, with standard error in a file."""
    os.environ.update({"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "tests")} | environment)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = arguments
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()


@contextmanager
def met(run: Path, process: subprocess.Popen) -> Iterator[None]:
    """The process has come to its `stopping.HaltAt`, and stays there within the block. `make_halt` comes first."""
    while True:
        try:
            end = os.open(run / "halt", os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError as error:
            if error.errno != errno.ENXIO:  # nobody reads it yet
                raise
        if process.poll() is not None:
            raise AssertionError(f"it ended before: {process.communicate()[1]}")
        time.sleep(0.01)
    try:
        yield
    finally:
        os.close(end)


def halt_at(windows: int) -> str:
    return f"+callbacks.halt={{_target_: stopping.HaltAt, windows: {windows}}}"


def make_halt(run: Path) -> None:
    """Where the run in this folder halts, if it is told `halt_at`."""
    run.mkdir(parents=True, exist_ok=True)
    os.mkfifo(run / "halt")


def signal_at(windows: int, name: str, rank: int = 0) -> str:
    """The process of that rank gets the signal after so many windows of the whole run."""
    return f"+callbacks.{name.lower()}={{_target_: stopping.SignalAt, windows: {windows}, name: {name}, rank: {rank}}}"
