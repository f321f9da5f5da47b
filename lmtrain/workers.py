"""Jobs of a sweep in several processes of one machine (hydra/launcher=joblib): one terminal, one Ctrl-C for all."""

import os
import signal
from collections.abc import Callable
from typing import Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

_INTERRUPTED = 128 + signal.SIGINT
_is_stopped = False  # Ctrl-C has come
_is_running = False  # in a worker: a job runs


class ShareTerminal(Callback):
    """Leaves Ctrl-C to the jobs, which save, and takes their progress bars away, which would overwrite each other."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        if are_used(config.hydra):
            signal.signal(signal.SIGINT, _stop)
            os.environ["TERM"] = "dumb"


class Stopped(Exception):
    """Ctrl-C ended a job or came before it.

    A job that raises has ended for joblib, which then waits for the others; it would kill them if one exited. In the
    process of the sweep this is a KeyboardInterrupt, which no sweeper takes for a job that failed.
    """

    def __reduce__(self) -> tuple:
        return KeyboardInterrupt, ()


def are_used(hydra: DictConfig) -> bool:
    return hydra.mode == RunMode.MULTIRUN and hydra.launcher._target_.endswith("JoblibLauncher")


def are_stopped() -> bool:
    """Whether Ctrl-C has come."""
    return _is_stopped


def run_in_worker(job: Callable[[], float]) -> float:
    """Runs a job; one that Ctrl-C ends is the last of this process.

    Raises:
        Stopped: Ctrl-C ended it, or one before it.
    """
    global _is_running, _is_stopped
    signal.signal(signal.SIGINT, _stop)
    if _is_stopped:
        raise Stopped
    _is_running = True
    try:
        return job()
    except KeyboardInterrupt:
        raise Stopped from None
    except SystemExit as end:
        if end.code != _INTERRUPTED:
            raise
        _is_stopped = True
        raise Stopped from None
    finally:
        _is_running = False


def _stop(*_: Any) -> None:
    global _is_stopped
    _is_stopped = True
    if _is_running:
        raise KeyboardInterrupt
