"""Turns signals into an orderly end: while a run steps, before the next step; at any other time at once."""

import contextlib
import os
import signal
import sys
import threading
from enum import IntEnum
from types import FrameType
from typing import Any, NamedTuple


class Request(IntEnum):
    """Requests in order of urgency; before the next step all ranks follow the most urgent one."""

    NONE = 0
    SAVE = 1
    SAVE_AND_GO_ON = 2  # SIGUSR1; the log says that it was done
    END = 3  # the run's time is over: save, validate and end the run
    STOP = 4  # a signal: save and leave at once


class Asked(NamedTuple):
    """A request, and for `STOP` the signal behind it. The greater of two is the more urgent one."""

    request: Request = Request.NONE
    signum: int = 0


_STOPPING = ("SIGTERM", "SIGINT", "SIGHUP")
_REMEDY = "The same command goes on from there."


class Interrupted(BaseException):
    """A signal ended the run. It is no `Exception`, so that code that it interrupts does not handle it as a failure.

    Args:
        signum: the signal.
        where: where the run was and what is saved, such as "at step 30: saved".
        is_alone: the other ranks were not told of the signal.
        remedy: what to do.
    """

    def __init__(self, signum: int, where: str, is_alone: bool = False, remedy: str = _REMEDY) -> None:
        self.signum = signum
        self.where = where
        self.is_alone = is_alone
        super().__init__(f"{signal.Signals(signum).name} {where}. {remedy}")


def print_interruption(interruption: Interrupted) -> None:
    """Prints what happened and what to do, on standard error."""
    with contextlib.suppress(OSError):  # after SIGHUP the terminal may be gone
        print(interruption, file=sys.stderr)


def submitits_signal() -> int | None:
    """The signal that announces a time limit to a job of submitit (hydra/launcher=slurm); None in other processes."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        return None
    return getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}", None)


class SignalWatch:
    """Notices SIGTERM, SIGINT and SIGHUP (stop), SIGUSR1 (save and go on) and a signal that asks to requeue.

    A signal to stop raises `Interrupted` wherever the program is, so that context managers clean up; while signals are
    held, it is stored in `asked` instead. A second SIGINT ends the process at once. Signals that are ignored, as SIGHUP
    is under nohup, stay ignored. Outside the main thread, which alone gets signals, nothing is watched.
    """

    def __init__(self) -> None:
        self.are_watched = threading.current_thread() is threading.main_thread()
        self._requeue: int | None = None
        self.asked = Asked()
        self.where = "before a step was made: what was saved before is kept"  # for `Interrupted`
        self.remedy = _REMEDY
        self._is_held = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "SignalWatch":
        if self.are_watched:
            names = [name for name in (*_STOPPING, "SIGUSR1") if hasattr(signal, name)]
            ignored = [name for name in names if signal.getsignal(getattr(signal, name)) is signal.SIG_IGN]
            self._watch(*(getattr(signal, name) for name in names if name not in ignored))
        return self

    def also_watch(self, requeue: str | None) -> None:
        """Watches the signal that asks to stop and to queue the job again, such as "SIGUSR2", and that of submitit."""
        self._requeue = getattr(signal, requeue) if requeue else submitits_signal()
        if self.are_watched:
            self._watch(*({self._requeue, submitits_signal()} - {None}))

    def _watch(self, *signals: int) -> None:
        self._before = {signum: signal.signal(signum, self._notice) for signum in signals} | self._before

    def __exit__(self, *_: object) -> None:
        """Restores the former handlers."""
        for signum, handler in self._before.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def hold(self) -> None:
        """From now on signals are only stored: the caller looks at `asked` before each step."""
        self._is_held = True

    def let_go(self) -> None:
        """From now on signals act at once; raises `Interrupted` if one has come."""
        self._is_held = False
        if self.is_asked_to_stop():
            raise self.interruption(self.asked.signum, is_alone=True)

    def is_asked_to_stop(self) -> bool:
        return self.asked.request == Request.STOP

    def interruption(self, signum: int, is_alone: bool = False) -> Interrupted:
        """What to raise for a signal that stops the run where nothing more can be saved."""
        return Interrupted(signum, self.where, is_alone, self.remedy)

    def _notice(self, signum: int, frame: FrameType | None) -> None:
        if signum == getattr(signal, "SIGUSR1", None) and signum != self._requeue:
            self.asked = max(self.asked, Asked(Request.SAVE_AND_GO_ON))
        elif not self.is_asked_to_stop():
            self.asked = Asked(Request.STOP, signum)
            if not self._is_held:
                raise self.interruption(signum, is_alone=True)
        elif signum == signal.SIGINT and self.asked.signum == signum:
            message = f"SIGINT twice: ended at once. What was saved before is kept. {self.remedy}\n"
            with contextlib.suppress(OSError):  # written directly, because the process ends here
                os.write(2, message.encode(errors="replace"))
            os._exit(128 + signum)
