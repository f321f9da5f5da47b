"""Writing files so that a crash never leaves a half-written one in place."""

import errno
import fcntl
import glob
import logging
import os
import secrets
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lmtrain.program.output import OutputGone

log = logging.getLogger(__name__)

_LINKS = 40  # of links that lead to links, as of Linux
_LONGEST_NAME = 255  # bytes, of almost all file systems
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_write(path: str | Path, removes_left: bool = True, is_kept: bool = True) -> Iterator[Path]:
    """Gives a path beside `path` to write to; flushed to disk and renamed over `path` if the block succeeds.

    If the block raises, the file that was there before is untouched and the unfinished one is removed. Of several
    processes that write the same file at once, one wins, with a whole file. What one that was killed while it wrote the
    file has left is removed. A device, a pipe or an open file (/dev/stdout) is not replaced: what was written is copied
    into it.
    An `OSError` for want of room names the file.

    Args:
        removes_left: look through the folder for what was left. Not where many files are written to one folder, which
            would be listed for each of them.
        is_kept: wait until it is on the disk; not for what can be made again and has a checksum.
    """
    path = Path(path)
    if is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            unfinished = Path(folder, path.name)
            with _want_of_room_explained(path):
                yield unfinished
                _copy(unfinished, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if removes_left:
        remove_left(path.parent, f".{glob.escape(path.name)}.*.tmp")
    unfinished, descriptor = _new_claimed(path)
    try:
        with _want_of_room_explained(path):
            yield unfinished
            if is_kept:
                with unfinished.open("rb") as file:
                    os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
        if descriptor is not None:  # held until the file has its name: who removes what is left must not meet it before
            os.close(descriptor)


def _copy(unfinished: Path, stream_path: Path) -> None:
    """Raises `OutputGone` if whoever read the stream has gone."""
    number = open_file(stream_path)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()  # what was printed before stands before it
        target = stream_path if number is None else os.dup(number)  # to open its path would begin a file anew
        with unfinished.open("rb") as file, open(target, "wb") as stream:
            shutil.copyfileobj(file, stream)
    except BrokenPipeError as error:
        raise OutputGone(error) from None


@contextmanager
def _want_of_room_explained(path: Path) -> Iterator[None]:
    """Errors of a full disk name no file, and torch.save hides them behind a `RuntimeError`: they get a name here."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = error if isinstance(error, OSError) else error.__context__
        if not isinstance(reason, OSError) or reason.errno not in _NO_ROOM or reason.filename:
            raise
        raise OSError(reason.errno, reason.strerror, str(path)) from error


def _new_claimed(path: Path) -> tuple[Path, int | None]:
    """An empty unfinished file for `path`, and a descriptor that holds its lock; None where nothing can be locked."""
    while True:
        unfinished = path.with_name(unfinished_name(path.name))
        unfinished.touch()
        try:
            descriptor = _locked(unfinished)
        except (BlockingIOError, FileNotFoundError):
            continue  # another process takes it for one that was left, and removes it
        except OSError:
            return unfinished, None
        if unfinished.exists():
            return unfinished, descriptor
        os.close(descriptor)


@contextmanager
def claimed(unfinished: Path) -> Iterator[None]:
    """Within the block tells the processes of all hosts and containers, by a lock, that somebody is at work on it."""
    descriptor = None
    with suppress(OSError):  # where nothing can be locked, nothing that was left is removed
        descriptor = _locked(unfinished)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Gives a new folder beside `folder` to fill; renamed to it if the block succeeds, removed if it raises.

    Of several processes that make the same folder at once the first one wins, and what the others made is removed.
    """
    unfinished = folder.with_name(unfinished_name(folder.name))
    try:
        unfinished.mkdir(parents=True)
        with claimed(unfinished):
            yield unfinished
            try:
                unfinished.rename(folder)
            except OSError:
                if not folder.exists():
                    raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Within the block no other process or thread is in such a block for that folder: for files that belong together.

    Where folders cannot be locked, as on some network file systems, the block is entered all the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def unfinished_folder(output: Path) -> Iterator[Path]:
    """A folder beside `output`, to make there what will be renamed to it; it is removed at the end, or by the next."""
    remove_left(output.parent, f".{glob.escape(output.name)}-unfinished-*")
    with (
        tempfile.TemporaryDirectory(
            dir=output.parent, prefix=f".{output.name}-unfinished-", ignore_cleanup_errors=True
        ) as place,
        claimed(Path(place)),
    ):
        yield Path(place)


def remove_left(folder: Path, pattern: str = ".*.tmp") -> None:
    """Removes the unfinished files and folders of that name that nobody is at work on any more."""
    for place in folder.glob(pattern):
        with suppress(OSError):  # also if somebody is
            descriptor = _locked(place)
            log.info("Removing %s, which a killed process left unfinished", place)
            if place.is_dir():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink(missing_ok=True)
            os.close(descriptor)


def _locked(place: Path) -> int:
    """A descriptor that holds a lock on a file or folder; raises `OSError` if there can be none."""
    descriptor = os.open(place, os.O_RDONLY if place.is_dir() else os.O_RDWR)  # NFS locks only what can be written
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def unfinished_name(name: str) -> str:
    """`.NAME.HOST.PID.RANDOM.tmp`, for a file or folder that will be renamed to NAME when it is whole.

    Nobody else has it: containers have the same process ids, and machines may share a file system. A NAME that is too
    long for that is cut.
    """
    host = socket.gethostname().replace("/", "-")[:64]
    middle = f".{host}.{os.getpid()}.{secrets.token_hex(8)}.tmp"
    room = _LONGEST_NAME - len(os.fsencode(f".{middle}"))
    return f".{os.fsdecode(os.fsencode(name)[:room])}{middle}"


def open_file(path: str | Path) -> int | None:
    """The number of the open file that a path such as /dev/stdout or /dev/fd/3 stands for, or None."""
    place = os.path.abspath(path)
    for _ in range(_LINKS):
        folder, name = os.path.split(place)
        if name.isdecimal() and os.path.realpath(folder) in ("/dev/fd", f"/proc/{os.getpid()}/fd"):
            return int(name)
        if not os.path.islink(place):
            return None
        place = os.path.normpath(os.path.join(folder, os.readlink(place)))
    return None


def is_stream(path: str | Path) -> bool:
    """Whether to write into what stands there, instead of replacing it: a device, a pipe, or a file that is open.

    /dev/stdout stands for an open file, whatever that is: with `> FILE` it looks like a file, and to put another one in
    its place would take it from the whole machine.
    """
    if open_file(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
