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

_LINKS = 40  # symbolic links that are followed, as in Linux
_LONGEST_NAME = 255  # bytes, on almost all file systems
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_write(path: str | Path, removes_left: bool = True, is_kept: bool = True) -> Iterator[Path]:
    """Gives a path beside `path` to write to; flushed to disk and renamed over `path` if the block succeeds.

    If the block raises, the former file is untouched and the unfinished one is removed. Of several processes that write
    the same file at once, one wins, with a whole file. A device, a pipe or an open file (/dev/stdout) is not replaced:
    the content is copied into it. An `OSError` of a full disk names the file.

    Args:
        removes_left: remove what killed processes left of this file, for which the folder is listed: not for many
            files in one folder.
        is_kept: wait until the content is on the disk; not for what can be made again and has a checksum.
    """
    path = Path(path)
    if is_stream(path):
        with tempfile.TemporaryDirectory() as folder:
            unfinished = Path(folder, path.name)
            with _full_disk_explained(path):
                yield unfinished
                _copy(unfinished, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if removes_left:
        remove_left(path.parent, f".{glob.escape(path.name)}.*.tmp")
    unfinished, descriptor = _new_claimed(path)
    try:
        with _full_disk_explained(path):
            yield unfinished
            if is_kept:
                with unfinished.open("rb") as file:
                    os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
        if descriptor is not None:  # held until the file has its name, so that `remove_left` does not remove it
            os.close(descriptor)


def _copy(unfinished: Path, stream_path: Path) -> None:
    """Copies a file into a stream; raises `OutputGone` if its reader has ended."""
    number = open_file(stream_path)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()  # what was printed before comes before the file
        target = stream_path if number is None else os.dup(number)  # opening the path would truncate a file
        with unfinished.open("rb") as file, open(target, "wb") as stream:
            shutil.copyfileobj(file, stream)
    except BrokenPipeError as error:
        raise OutputGone(error) from None


@contextmanager
def _full_disk_explained(path: Path) -> Iterator[None]:
    """Makes errors of a full disk name the file. torch.save hides them behind a `RuntimeError`."""
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
            continue  # another process takes it for a leftover and removes it
        except OSError:
            return unfinished, None
        if unfinished.exists():
            return unfinished, descriptor
        os.close(descriptor)


@contextmanager
def claimed(unfinished: Path) -> Iterator[None]:
    """Within the block holds a lock that tells processes of all hosts and containers that the file is being written."""
    descriptor = None
    with suppress(OSError):  # without locks, leftovers are not removed either
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
    """Lets one process or thread at a time into the block for a folder, to write files that belong together.

    Where folders cannot be locked, as on some network file systems, it has no effect.
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
    """A folder beside `output`, for what will be renamed to it; removed at the end, or by the next call."""
    remove_left(output.parent, f".{glob.escape(output.name)}-unfinished-*")
    with (
        tempfile.TemporaryDirectory(
            dir=output.parent, prefix=f".{output.name}-unfinished-", ignore_cleanup_errors=True
        ) as place,
        claimed(Path(place)),
    ):
        yield Path(place)


def remove_left(folder: Path, pattern: str = ".*.tmp") -> None:
    """Removes unfinished files and folders whose process has ended."""
    for place in folder.glob(pattern):
        with suppress(OSError):  # also raised if the process holds its lock
            descriptor = _locked(place)
            log.info("Removing %s, which a killed process left unfinished", place)
            if place.is_dir():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink(missing_ok=True)
            os.close(descriptor)


def _locked(place: Path) -> int:
    """A descriptor that holds a lock on a file or folder; raises `OSError` if it cannot be locked."""
    descriptor = os.open(place, os.O_RDONLY if place.is_dir() else os.O_RDWR)  # NFS locks only files opened for writing
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def unfinished_name(name: str) -> str:
    """`.NAME.HOST.PID.RANDOM.tmp`, for a file or folder that will be renamed to NAME when it is whole.

    It is unique among hosts that share a file system and containers with equal process ids. A long NAME is cut.
    """
    host = socket.gethostname().replace("/", "-")[:64]
    middle = f".{host}.{os.getpid()}.{secrets.token_hex(8)}.tmp"
    room = _LONGEST_NAME - len(os.fsencode(f".{middle}"))
    return f".{os.fsdecode(os.fsencode(name)[:room])}{middle}"


def open_file(path: str | Path) -> int | None:
    """The file descriptor that a path such as /dev/stdout or /dev/fd/3 stands for, or None."""
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
    """Whether a path is to be written into instead of being replaced: a device, a pipe, or an open file.

    With `> FILE`, /dev/stdout looks like a file, and replacing it would remove it for the whole machine.
    """
    if open_file(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
