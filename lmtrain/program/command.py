"""Helpers shared by all commands: exit status, the command's name in messages, a guard against overwriting files."""

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from lmtrain.errors import UserError, raise_if_any
from lmtrain.program.files import is_stream
from lmtrain.program.output import OutputGone, protected_output
from lmtrain.program.shell import pasteable
from lmtrain.program.signals import Interrupted, SignalWatch, print_interruption
from lmtrain.program.starting import work_is_over

_CHECKOUT = Path(__file__).resolve().parents[2]


def run(main: Callable[[], None]) -> int:
    """Calls a command's `main` and returns the exit status.

    0 for success; 2 for a mistake of the user, which is printed on stderr without a traceback; 128 + its number for a
    signal; 1 if standard output cannot be written; 141 if it is a pipe whose reader has ended.
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
            signals.where = "before the work was done: nothing unfinished is left"
            signals.remedy = "Run the same command again."
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
    """Defers a signal that comes within the block, such as Ctrl-C, to the block's end; a second one acts at once.

    Gives a function that lets a deferred signal act earlier.

    Args:
        hurry: called when the signal comes, to make the block end.
    """
    if threading.current_thread() is not threading.main_thread():  # other threads get no signals
        yield lambda: None
        return
    deferred: list[int] = []
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def restore() -> None:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)

    def take_effect() -> None:
        if deferred:
            restore()
            signal.raise_signal(deferred.pop())

    def defer(signum: int, *_) -> None:
        take_effect()
        deferred.append(signum)
        hurry()

    for signum, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(signum, defer)
    try:
        yield take_effect
    finally:
        restore()
        take_effect()  # also if the block failed, perhaps because the signal ended a process that it waited for


def program() -> str:
    """What the user typed to start this process: an installed command's name, or `python` and a script's path."""
    path = Path(sys.argv[0])
    if path.parts[-2:] == ("lmtrain", "__main__.py"):
        return "python -m lmtrain"
    return pasteable("python", path) if path.suffix == ".py" else path.name


def has_subcommands() -> bool:
    """Whether the words of this process are `lmtrain COMMAND ...`."""
    return program() in ("lmtrain", "python -m lmtrain")


_call: ContextVar[str | None] = ContextVar("call", default=None)


@contextmanager
def called(text: str) -> Iterator[None]:
    """Within the block, `typed` gives this call in Python instead of a command."""
    token = _call.set(text)
    try:
        yield
    finally:
        _call.reset(token)


def typed() -> str:
    """What the user typed: a command that can be pasted into a shell, or a call in Python."""
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
"""The word after `lmtrain` → the name of the module in cli/ and scripts/ and, with hyphens, after `lmtrain-`."""


def is_installed() -> bool:
    """Whether this process is `lmtrain` or one of the commands `lmtrain-NAME`."""
    return has_subcommands() or program().startswith("lmtrain-")


def script(name: str) -> str:
    """What the user types here to run a script: an installed command if this process is one."""
    return _command_for(_CHECKOUT / "scripts" / f"{name}.py", name)


def train_program() -> str:
    """What the user types here to train."""
    return _command_for(_CHECKOUT / "train.py", "train")


def _command_for(path: Path, name: str) -> str:
    if program().startswith("lmtrain-"):
        return f"lmtrain-{name.replace('_', '-')}"
    if is_installed() or not path.is_file():
        short = next(short for short, script in SUBCOMMANDS.items() if script == name)
        return f"{program() if has_subcommands() else 'lmtrain'} {short}"
    relative = os.path.relpath(path)
    return pasteable("python", path if relative.startswith("..") else relative)


def as_typed_here(text: str) -> str:
    """Replaces `scripts/NAME.py` and `python train.py` in a text by installed commands, if this process is one."""
    if not is_installed():
        return text
    names = "|".join(SUBCOMMANDS.values())
    text = re.sub(rf"(?<![\w/.])(?:python )?scripts/({names})\.py", lambda match: script(match[1]), text)
    return text.replace("python train.py", train_program())


def check_outputs(*paths: str | Path, overwrite: bool = False) -> None:
    """Raises `UserError` if an output is a folder, or a file that must not be overwritten and is no stream."""
    problems = []
    for path in map(Path, paths):
        if path.is_dir():
            problems.append(f"{path} is a folder; --output must name a file.")
        elif path.is_file() and not overwrite and not is_stream(path):
            problems.append(f"{path} exists. Choose another --output, or replace it with --overwrite.")
    raise_if_any(problems)


def check_can_be_trained_on(output: str | Path | None) -> None:
    """Raises `UserError` if an output's name is not UTF-8, because train.py could not be given that name."""
    try:
        str(output).encode()
    except UnicodeEncodeError:
        name = os.fsencode(output or "").decode("utf-8", "backslashreplace")
        raise UserError(
            f"--output {name}: the name must be UTF-8, because train.py takes no other. Choose another."
        ) from None
