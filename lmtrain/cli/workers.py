"""Jobs of a sweep in several processes of one machine (hydra/launcher=joblib): a signal to stop is one for all.

submitit's local launcher (1.5) was tried instead: it starts all jobs at once, whatever their number, and after a
SIGTERM to the sweep its jobs ran on without it. joblib limits the jobs (`n_jobs`), but passes no signal on to its
workers.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_came: int | None = None  # the signal that ends the sweep
_is_running = False  # in a worker: a job runs


class ShareTerminal(Callback):
    """Leaves Ctrl-C to the jobs, which save, tells them of SIGTERM, and takes their progress bars away, which would
    overwrite each other."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        if are_used(config.hydra):
            _watch()
            os.environ["TERM"] = "dumb"


class Stopped(Exception):
    """A signal ended a job or came before it.

    A job that raises has ended for joblib, which then waits for the others; it would kill them if one exited. In the
    process of the sweep this is a KeyboardInterrupt, which no sweeper takes for a job that failed.
    """

    def __reduce__(self) -> tuple:
        return KeyboardInterrupt, ()


def are_used(hydra: HydraConf) -> bool:
    return hydra.mode == RunMode.MULTIRUN and hydra.launcher._target_.endswith("JoblibLauncher")


def stopped_status() -> int:
    """The exit status of a sweep that a signal has ended; 0 if none came."""
    return 128 + _came if _came else 0


def call_in_process_of_job(
    job: Callable[[DictConfig, list[str]], float], config: DictConfig, typed: list[str]
) -> float:
    """Calls `job(config, typed)`; in a worker process, a job that a signal ends is the last one.

    Raises:
        Stopped: a signal ended a worker's job, or one before it.
    """
    global _is_running, _came
    if not are_used(HydraConfig.get()):
        return job(config, typed)
    _watch()
    if _came:
        raise Stopped
    _is_running = True
    try:
        return job(config, typed)
    except KeyboardInterrupt:
        raise Stopped from None
    except SystemExit as end:
        if end.code not in [128 + signum for signum in _SIGNALS]:
            raise
        _came = end.code - 128
        raise Stopped from None
    finally:
        _is_running = False


def _watch() -> None:
    for signum in _SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:  # as nohup does with SIGHUP
            signal.signal(signum, _stop)


def _stop(signum: int, *_: Any) -> None:
    global _came
    is_first, _came = not _came, _came or signum
    if _is_running and is_first:
        raise KeyboardInterrupt
    if not _is_running:  # who sends a signal may tell the first process only; a job that the terminal told ignores this
        _tell_workers(signal.SIGTERM)


def _tell_workers(signum: int) -> None:
    """Sends a signal to those that joblib has started from this process."""
    from joblib.externals.loky import reusable_executor

    executor = reusable_executor._executor
    for pid in list(executor._processes) if executor is not None and executor._processes else []:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)
