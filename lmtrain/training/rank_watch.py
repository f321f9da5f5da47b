"""Watches the processes that Lightning has started for the other ranks, and ends the run when one ends early."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lmtrain.program.signals import SignalWatch, print_interruption
from lmtrain.training.lightning_internals.processes import observing_with

_LOOK_SECONDS = 0.2
_STUCK_SECONDS = 10.0  # how long this process may wait for a rank that is gone before it is killed
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class RankWatch:
    """Watches, in the process of rank 0, the processes of the other ranks.

    A rank that gets a signal outside of training, where ranks do not exchange requests, exits with 128 + the signal's
    number; this process then sends itself that signal. If a rank fails, all are killed, since they would wait for it
    forever. Lightning's own observer, which this replaces, kills them in both cases.

    Args:
        signals: of this process.
    """

    def __init__(self, signals: SignalWatch) -> None:
        self.signals = signals
        self._processes: list[subprocess.Popen] = []
        self._is_over = False
        self._lock = threading.Lock()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Watches the processes that Lightning starts within the block."""
        try:
            with observing_with(self._start):
                yield
        finally:
            with self._lock:
                self._is_over = True

    def _start(self, processes: list[subprocess.Popen]) -> None:
        self._processes = processes
        threading.Thread(target=self._watch, name="watch ranks", daemon=True).start()

    def _watch(self) -> None:
        while any(process.poll() is None for process in self._processes):
            if self._failed():
                break
            time.sleep(_LOOK_SECONDS)
        if (signum := self._signal()) is not None:
            with self._lock:
                if not self.signals.is_asked_to_stop() and not self._is_over:
                    os.kill(os.getpid(), signum)
            time.sleep(_STUCK_SECONDS)  # this thread ends with the process
            with self._lock:
                if not self._is_over:
                    print_interruption(self.signals.interruption(signum))
                    self._kill(signal.SIGKILL)
                    os._exit(128 + signum)
        elif statuses := self._failed():
            ended = f"ended with status {statuses[0]}" if statuses[0] > 0 else f"was ended by signal {-statuses[0]}"
            print(
                f"Another process of this run {ended}, so all are ended. The last checkpoint is kept.", file=sys.stderr
            )
            self._kill(signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    def _failed(self) -> list[int]:
        return [process.returncode for process in self._processes if process.poll()]

    def _signal(self) -> int | None:
        """The signal that has ended a rank, if one has."""
        ended = [128 - status if status < 0 else status for status in self._failed()]
        return next((status - 128 for status in ended if status - 128 in _SIGNALS), None)

    def _kill(self, signum: int) -> None:
        for process in self._processes:
            process.send_signal(signum)

    def signal_behind_failure(self, seconds: float = 5.0) -> int | None:
        """The signal by which another rank ended, so that a collective failed here; waits a while for that end."""
        end = time.monotonic() + seconds
        while self._processes and time.monotonic() < end:
            if self._failed() or self.signals.is_asked_to_stop():
                break
            time.sleep(_LOOK_SECONDS / 10)
        return self.signals.asked.signum if self.signals.is_asked_to_stop() else self._signal()
