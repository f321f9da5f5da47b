"""Ends a command at once, with one line, on a signal before or after its work, while Python imports or exits.

Programs that import lmtrain keep their own signal handlers.
"""

import contextlib
import os
import signal
import sys

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_CHECKOUT = os.path.dirname(_HERE)
_COMMANDS = (_CHECKOUT, os.path.join(_CHECKOUT, "scripts"), _HERE)  # the last one for `python -m lmtrain`
_where = "before the work had begun: nothing was done. Run the same command again."


def watch_if_command() -> None:
    """Handles signals without a handler, if this process is train.py, a script or a command of lmtrain."""
    if not _is_command():
        return
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):  # not what nohup ignores
            with contextlib.suppress(ValueError):  # in a thread
                signal.signal(signum, _end)


def work_is_over() -> None:
    """From now on the line for a signal says that the work had ended."""
    global _where
    _where = "after the work had ended."


def _is_command() -> bool:
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if path is None:
        return False
    folder, name = os.path.split(os.path.abspath(path))
    return name == "lmtrain" or name.startswith("lmtrain-") or folder in _COMMANDS


def _end(signum: int, *_: object) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # only the first rank prints
        with contextlib.suppress(OSError):
            os.write(2, f"{signal.Signals(signum).name} {_where}\n".encode())
    os._exit(128 + signum)  # a module that is being imported could swallow an exception
