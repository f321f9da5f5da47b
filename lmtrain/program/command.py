"""What the scripts have in common: how they end, what they are called, and that they overwrite nothing unasked."""

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from lmtrain.errors import UserError
from lmtrain.program.files import is_stream
from lmtrain.program.output import OutputGone, protected_output
from lmtrain.program.shell import pasteable
from lmtrain.program.signals import Interrupted, SignalWatch, print_interruption
from lmtrain.program.starting import work_is_over


def run(main: Callable[[], None]) -> int:
    """Calls a script's `main` and returns the exit status.

    0 if it did its work, 2 for a mistake that the user can mend (printed on stderr, without a traceback), 128 +
    its number if a signal stopped it, 1 if standard output takes no more, 141 if who read it has gone.
    """
    with protected_output():
        try:
            return _status(main)
        except OutputGone as gone:
            print(gone.report(), end="", file=sys.stderr)
            return gone.status


def _status(main: Callable[[], None]) -> int:
    try:
        with SignalWatch() as signals:
            signals.where = "before the work was done: nothing half-made is left"
            signals.remedy = "The same command does it."
            main()
    except Interrupted as interruption:
        print_interruption(interruption)
        return 128 + interruption.signum
    except UserError as error:
        print(as_typed_here(error.report()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.filename is None:
            raise
        print(UserError(f"{error.filename2 or error.filename}: {error.strerror}.").report(), file=sys.stderr)
        return 2
    finally:
        work_is_over()
        sys.stdout.flush()
    return 0


@contextmanager
def interrupt_deferred(hurry: Callable[[], None] = lambda: None) -> Iterator[Callable[[], None]]:
    """Keeps a signal that comes within the block, such as Ctrl-C, from breaking off what must be done whole.

    It takes effect at the block's end, or when the function that this gives is called; a second one at once.

    Args:
        hurry: called when it comes, to make the block end.
    """
    if threading.current_thread() is not threading.main_thread():  # Ctrl-C interrupts no other
        yield lambda: None
        return
    came: list[int] = []
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def restore() -> None:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)

    def take_effect() -> None:
        if came:
            restore()
            signal.raise_signal(came.pop())

    def defer(signum: int, *_) -> None:
        take_effect()
        came.append(signum)
        hurry()

    for signum, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(signum, defer)
    try:
        yield take_effect
    finally:
        restore()
        take_effect()  # also if the block failed: the signal may have ended the processes that it waited for


def program() -> str:
    """What the user typed to start this process: an installed command's name, or `python` and a script's path."""
    path = Path(sys.argv[0])
    return pasteable("python", path) if path.suffix == ".py" else path.name


_call: ContextVar[str | None] = ContextVar("call", default=None)


@contextmanager
def called(text: str) -> Iterator[None]:
    """Within the block the work was begun by this call in Python, not by a command."""
    token = _call.set(text)
    try:
        yield
    finally:
        _call.reset(token)


def typed() -> str:
    """What the user typed to begin the work: a command that can be pasted into a shell, or a call in Python."""
    return _call.get() or " ".join([program(), *([pasteable(*sys.argv[1:])] if sys.argv[1:] else [])])


SUBCOMMANDS = {
    "train": "train",
    "prepare": "prepare_corpus",
    "check": "check_corpus",
    "dictionary": "build_dictionary",
    "score": "score",
    "generate": "generate",
    "embed": "embed",
    "probe": "probe",
    "export": "export",
    "compare": "compare",
    "check-gpu": "check_gpu",
    "download-billion": "download_billion",
}
"""What follows `lmtrain`, and the name of the same in scripts/ and, with hyphens, after `lmtrain-`."""


def is_installed() -> bool:
    """Whether this process is `lmtrain` or one of the commands `lmtrain-NAME`."""
    return program() == "lmtrain" or program().startswith("lmtrain-")


def script(name: str) -> str:
    """What the user types for one of the scripts, here: an installed command if this process is one."""
    path = Path(__file__).resolve().parents[2] / "scripts" / f"{name}.py"
    if program().startswith("lmtrain-"):
        return f"lmtrain-{name.replace('_', '-')}"
    if is_installed() or not path.is_file():
        return _subcommand(name)
    return _python(path)


def _subcommand(name: str) -> str:
    return f"lmtrain {next(short for short, script in SUBCOMMANDS.items() if script == name)}"


def as_typed_here(text: str) -> str:
    """Help or a message, which name `scripts/NAME.py` and `python train.py`, with the commands of an installation.

    In a checkout nothing changes.
    """
    if not is_installed():
        return text
    names = "|".join(SUBCOMMANDS.values())
    text = re.sub(rf"(?<![\w/.])(?:python )?scripts/({names})\.py", lambda match: script(match[1]), text)
    return text.replace("python train.py", train_program())


def train_program() -> str:
    """What the user types to train."""
    path = Path(__file__).resolve().parents[2] / "train.py"
    if program().startswith("lmtrain-"):
        return "lmtrain-train"
    if is_installed() or not path.is_file():
        return _subcommand("train")
    return _python(path)


def _python(path: Path) -> str:
    """The command for a file, from the working directory if it is in there."""
    shorter = os.path.relpath(path)
    return pasteable("python", path if shorter.startswith("..") else shorter)


def check_outputs(*paths: str | Path, overwrite: bool = False) -> None:
    """Raises `UserError` if an output exists, unless it may be overwritten; what `is_stream` knows is written to."""
    existing = [
        path for path in map(Path, paths) if path.is_dir() or (path.is_file() and not overwrite and not is_stream(path))
    ]
    problems = [
        f"{path} is a folder; --output must name a file."
        if path.is_dir()
        else f"{path} exists. Choose another --output, or replace it with --overwrite."
        for path in existing
    ]
    if problems:
        raise UserError(*problems)


def check_can_be_trained_on(output: str | Path | None) -> None:
    """Raises `UserError` if an output has a name that is not UTF-8, which no configuration takes."""
    try:
        str(output).encode()
    except UnicodeEncodeError:
        name = os.fsencode(output or "").decode("utf-8", "backslashreplace")
        raise UserError(f"--output {name}: the name is not UTF-8, and train.py needs one that is.") from None
