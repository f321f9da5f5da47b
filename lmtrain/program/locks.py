"""Locks for folders that processes of several hosts share; a process that waits logs which one holds the lock."""

import errno
import fcntl
import logging
import os
import shlex
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, SoftFileLease, Timeout

from lmtrain.errors import UserError

log = logging.getLogger(__name__)

_FIRST_LOG, _LONGEST_SILENCE = 1.0, 600.0  # seconds of waiting between messages, doubled each time
_LEASE = 120.0  # seconds without a touch after which a process loses a lock without flock; the same for all processes
_BREAKING = 3.0  # seconds in which filelock removes the marker of a process that has ended, or a damaged one
_NO_FLOCK = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
CANNOT_WRITE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)


class Lock:
    """A lock that one process of all hosts holds at a time.

    It is the file system's own (flock), which frees it when its process ends. Where there is none, the existence of the
    file is the lock: its process touches it regularly, and another process takes it over when that one has ended on
    the same host, or has not touched the file for two minutes (`filelock.SoftFileLease`).

    Args:
        path: the file, in a folder that exists.
        remedy: what to do where no lock can be taken, such as "Give another runs_dir".
        on_loss: called, in another thread, when another process took over the lock.
    """

    def __init__(self, path: Path, remedy: str, on_loss: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self.remedy = remedy
        self.on_loss = on_loss
        self._lock: FileLock | SoftFileLease | None = None

    def acquire(self, what: str, is_needless: Callable[[], bool] = lambda: False) -> bool:
        """Waits until no other process has the lock, and logs which one does.

        Args:
            what: what the lock is for, for messages.
            is_needless: called again and again; waiting ends when it returns True.

        Returns:
            whether this process has the lock.

        Raises:
            UserError: the file system has no locks.
            OSError: the folder cannot be written; the error's number is one of `CANNOT_WRITE`.
        """
        lock, seconds = self._made(), _FIRST_LOG
        while not self._take(lock, seconds, is_needless):
            if is_needless():
                return False
            log.info("Waiting for %s: %s", what, self._about_owner())
            seconds = min(2 * seconds, _LONGEST_SILENCE)
        return True

    def acquire_now(self) -> str | None:
        """Takes the lock without waiting, or returns a text about its owner.

        It waits only to find out whether an owner on another host, in a lease without flock, is still alive.

        Raises:
            UserError, OSError: as in `acquire`.
        """
        lock = self._made()
        if self._take(lock, 0 if isinstance(lock, FileLock) else _BREAKING):
            return None
        owner = self._owner()
        if isinstance(lock, SoftFileLease) and owner and owner.is_lease and owner.host != socket.gethostname():
            log.info("%s. Waiting up to %.0f seconds to see whether it is alive", self._about_owner(), _LEASE)
            seen = self._touched()
            if self._take(lock, 1.2 * _LEASE, cancelled=lambda: self._touched() != seen):
                return None
        return self._about_owner()

    def release(self) -> None:
        """Releases the lock, if this process has it."""
        if self._lock is None:
            return
        if isinstance(self._lock, FileLock):
            with suppress(OSError):
                self.path.write_text("free\n", encoding="utf-8")  # not empty, for `_remove_left_by_flock`
        self._lock.release()
        self._lock = None

    def _made(self) -> "FileLock | SoftFileLease":
        try:
            if _has_flock(self.path.parent):
                return FileLock(self.path, mode=0o666)  # others may share the folder
            _remove_left_by_flock(self.path)
            return SoftFileLease(self.path, lease_duration=_LEASE, on_compromise=lambda _: self._lose())
        except OSError as error:
            if error.errno in CANNOT_WRITE:
                raise
            raise UserError(
                f"The lock {self.path} cannot be taken: {error.strerror}. Its file system must support locks: NFS with "
                f"its lock service, Lustre mounted with flock. {self.remedy} on another file system."
            ) from None

    def _take(self, lock, seconds: float, cancelled: Callable[[], bool] | None = None) -> bool:
        try:
            lock.acquire(timeout=seconds, poll_interval=0.1, cancel_check=cancelled)
        except Timeout:
            return False
        self._lock = lock
        since = f"since={datetime.now():%Y-%m-%d %H:%M:%S}\n"
        with suppress(OSError):  # the disk is full, perhaps
            if isinstance(lock, FileLock):
                self.path.write_text(f"pid={os.getpid()}\nhost={socket.gethostname()}\n{since}", encoding="utf-8")
            else:
                with self.path.open("a", encoding="utf-8") as marker:
                    marker.write(since)
        return True

    def _lose(self) -> None:
        log.error("Another process has taken over the lock %s, which this one did not touch for too long", self.path)
        self.on_loss()

    def _touched(self) -> float:
        try:
            return self.path.stat().st_mtime
        except OSError:
            return 0.0

    def _owner(self) -> "Owner | None":
        with suppress(OSError, ValueError):
            return read_owner(self.path)
        return None

    def _about_owner(self) -> str:
        owner = self._owner()
        if owner is None:
            return f"a process that has not written its number yet holds {self.path}"
        text = f"process {owner.pid} on {owner.host} holds {self.path} since {owner.since}"
        if owner.has_ended():
            return (
                f"{text}, but has ended; a process that it started holds it now: fuser -v {shlex.quote(str(self.path))}"
            )
        if owner.is_lease:
            seconds = time.time() - self._touched()
            return f"{text} and touched it {seconds:.0f} seconds ago; after {_LEASE:.0f} it loses the lock"
        if owner.is_marker:
            return f"{text}; if that process has ended: rm {shlex.quote(str(self.path))}"
        return text


@dataclass(frozen=True)
class Owner:
    """The process that has a lock, as the lock's file says.

    Args:
        pid, host: the process.
        since: local time of that host.
        is_marker: the existence of the file is the lock.
        is_lease: its process touches the file regularly.
    """

    pid: int
    host: str
    since: str
    is_marker: bool
    is_lease: bool

    def has_ended(self) -> bool:
        """Whether the process is known to have ended; of other hosts nothing is known."""
        if self.host != socket.gethostname() or self.is_marker:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
        return False


def read_owner(path: Path) -> Owner:
    """Reads a lock's file: lines KEY=VALUE, or a process number and a host as filelock's `SoftFileLock` writes them.

    Raises:
        OSError, ValueError: the file is missing, or names no process.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    written = f"{datetime.fromtimestamp(path.stat().st_mtime):%Y-%m-%d %H:%M:%S}"
    if "pid" not in values and len(lines) >= 2:
        values = {"pid": lines[0], "host": lines[1], "mode": "marker"}
    if not {"pid", "host"} <= values.keys():
        raise ValueError(f"{path} does not say whose it is")
    host = values["host"].partition("?pidns-")[0]  # filelock appends the container's id
    return Owner(
        int(values["pid"]), host, values.get("since", written), "mode" in values, values.get("mode") == "lease"
    )


def _has_flock(folder: Path) -> bool:
    """Whether the file system has flock; raises `OSError` if the folder cannot be written, or flock fails."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_FLOCK:
                return False
            raise
    return True


def _remove_left_by_flock(path: Path) -> None:
    """Removes an old empty file, which flock leaves behind and a lease would take for the lock of a living process."""
    with tempfile.TemporaryFile(dir=path.parent) as file, suppress(FileNotFoundError):
        now, left = os.fstat(file.fileno()).st_mtime, path.stat()
        if left.st_size == 0 and now - left.st_mtime > 10:
            path.unlink()
