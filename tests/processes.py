"""Starting `python train.py` as a user does, and watching what it has done."""

import os
import subprocess
import sys
import time
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
    return subprocess.Popen(
        arguments, stderr=subprocess.PIPE, text=True, env=environment | options.pop("environment", {}), **options
    )


def run(arguments: list[str], **options) -> tuple[int, str]:
    process = start(arguments, **options)
    _, errors = process.communicate(timeout=200)
    return process.returncode, errors


def wait_until(is_so, process: subprocess.Popen, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        if process.poll() is not None or time.monotonic() > until:
            raise AssertionError(f"it did not happen: {process.stderr.read()}")
        time.sleep(0.01)


def steps_done(folder: Path) -> int:
    try:
        return len((folder / "run/metrics.csv").read_text().splitlines()) - 1
    except OSError:
        return -1


# a callback that makes steps take a while, so that what happens to a run meets it in its middle
SLOW = "+callbacks.slow={_target_: stopping.Slow, seconds: 0.02}"
