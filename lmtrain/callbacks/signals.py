"""Signals: what came is remembered, and followed between two steps."""

import logging
import os
import signal
import threading
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

# What a rank wishes for; the greatest wish of all ranks is followed. From STOP on: STOP + the number of a signal.
SAVE = 1
SAVE_AND_GO_ON = 2
STOP = 100


class Interrupted(Exception):
    """A signal ended the run.

    Args:
        signum: which.
        step: optimizer steps done.
        is_saved: whether the run's state could be saved.
    """

    def __init__(self, signum: int, step: int, is_saved: bool) -> None:
        self.signum = signum
        self.step = step
        self.is_saved = is_saved
        super().__init__(signal.Signals(signum).name)


class SignalWatch:
    """Remembers SIGTERM and SIGINT (save and stop), SIGUSR1 (save and go on) and a signal that asks to requeue.

    A second SIGINT ends the process at once.

    Args:
        requeue: the signal that a cluster sends before it takes the machine back, such as "SIGUSR2"; None for none.
    """

    def __init__(self, requeue: str | None = None) -> None:
        self.requeue = getattr(signal, requeue) if requeue else None
        self.wish = 0
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Watches from now on; called after Lightning has set its own handlers.

        In a thread it does not: only a process's main thread can, and a signal is then its program's affair.
        """
        if threading.current_thread() is not threading.main_thread():
            log.info("This run is in a thread, where signals are not watched: one that ends the process saves nothing")
            return
        watched = {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, self.requeue} - {None}
        self._before = {signum: signal.signal(signum, self._remember) for signum in watched}

    def remove(self) -> None:
        """Gives the signals back to whom they belonged before."""
        for signum, handler in self._before.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and self.wish == STOP + signum:
            os._exit(128 + signum)
        goes_on = signum == signal.SIGUSR1 and signum != self.requeue
        self.wish = max(self.wish, SAVE_AND_GO_ON if goes_on else STOP + signum)
