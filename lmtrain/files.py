"""Writing files so that a crash never leaves a half-written one in place."""

import os
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST_NAME = 255  # bytes, of almost all file systems


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; flushed to disk and renamed over `path` if the block succeeds.

    If the block raises, the file that was there before is untouched and the unfinished one is removed. Of several
    processes that write the same file at once, one wins, with a whole file. A device or a pipe is not replaced: what
    was written is copied into it.
    """
    path = Path(path)
    if is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            unfinished = Path(folder, path.name)
            yield unfinished
            with unfinished.open("rb") as file, path.open("wb") as stream:
                shutil.copyfileobj(file, stream)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(unfinished_name(path.name))
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def unfinished_name(name: str) -> str:
    """`.NAME.HOST.PID.RANDOM.tmp`, for a file or folder that will be renamed to NAME when it is whole.

    Nobody else has it: containers have the same process ids, and machines may share a file system. A NAME that is too
    long for that is cut.
    """
    host = socket.gethostname().replace("/", "-")[:64]
    middle = f".{host}.{os.getpid()}.{secrets.token_hex(8)}.tmp"
    room = _LONGEST_NAME - len(os.fsencode(f".{middle}"))
    return f".{os.fsdecode(os.fsencode(name)[:room])}{middle}"


def is_stream(path: str | Path) -> bool:
    """Whether something stands there that is neither a file nor a folder, such as /dev/stdout, /dev/null or a pipe."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
