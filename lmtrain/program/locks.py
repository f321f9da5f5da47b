"""Locks on folders that processes of several hosts share: who waits for one says for whom."""

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

_FIRST_WORD = 1.0  # seconds of waiting before it is said, then again after twice as long each time, at most after
_SELDOM = 600.0
# seconds without a sign of life after which a process has lost a lock without flock; all that want a lock must agree
_LEASE = 120.0
_BREAKING = 3.0  # seconds in which filelock removes what a process has left that has ended, or that is no marker
_NO_FLOCK = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
CANNOT_WRITE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)


class Lock:
    """A lock that one process has at a time, on whatever host.

    It is the file system's own (flock), which frees it when its process ends. Where there is none, the file is the
    lock: its process touches it again and again, and who waits takes it over when that process has ended on this host,
    or has given no sign of life for two minutes (`filelock.SoftFileLease`). What the file says is for people.

    Args:
        path: the file, in a folder that exists.
        remedy: what to do where no lock can be taken, such as "Give another runs_dir".
        on_loss: called, in another thread, when the lock was taken from this process.
    """

    def __init__(self, path: Path, remedy: str, on_loss: Callable[[], None] = lambda: None) -> None:
        self.path = path
        self.remedy = remedy
        self.on_loss = on_loss
        self._lock: FileLock | SoftFileLease | None = None

    def acquire(self, what: str, is_needless: Callable[[], bool] = lambda: False) -> bool:
        """Waits until no other process has it, and says for whom.

        Args:
            what: what is waited for.
            is_needless: asked again and again; once it says so, nobody waits any more.

        Returns:
            whether this process has it.

        Raises:
            UserError: the file system does not lock.
            OSError: nothing may be written in the folder; the error's number is one of `CANNOT_WRITE`.
        """
        lock, seconds = self._made(), _FIRST_WORD
        while not self._take(lock, seconds, is_needless):
            if is_needless():
                return False
            log.info("Waiting for %s: %s", what, self._about_owner())
            seconds = min(2 * seconds, _SELDOM)
        return True

    def acquire_now(self) -> str | None:
        """Takes it, or tells who has it; only a process of another host that gives no sign of life is waited for.

        Raises:
            UserError, OSError: as in `acquire`.
        """
        lock = self._made()
        if self._take(lock, 0 if isinstance(lock, FileLock) else _BREAKING):
            return None
        owner = self._owner()
        if isinstance(lock, SoftFileLease) and owner and owner.gives_signs and owner.host != socket.gethostname():
            log.info("%s. Waiting for a sign of life, up to %.0f seconds", self._about_owner(), _LEASE)
            seen = self._touched()
            if self._take(lock, 1.2 * _LEASE, cancelled=lambda: self._touched() != seen):
                return None
        return self._about_owner()

    def release(self) -> None:
        """Gives it to the next, if this process has it."""
        if self._lock is None:
            return
        if isinstance(self._lock, FileLock):
            with suppress(OSError):
                self.path.write_text("free\n", encoding="utf-8")  # not empty: `_remove_left_by_flock`
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
                f"The lock {self.path} cannot be taken: {error.strerror}. Its file system must lock: NFS with its "
                f"lock service, Lustre mounted with flock. {self.remedy} on another file system."
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
        log.error("Another process has taken %s, since this one gave no sign of life for too long", self.path)
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
            return f"a process that has not said which holds {self.path}"
        text = f"process {owner.pid} on {owner.host} holds {self.path} since {owner.since}"
        if owner.has_ended():
            return f"{text}, but has ended; a process that it started holds it: fuser -v {shlex.quote(str(self.path))}"
        if owner.gives_signs:
            seconds = time.time() - self._touched()
            return f"{text}, and gave its last sign of life {seconds:.0f} seconds ago; after {_LEASE:.0f} it loses it"
        if owner.is_marker:
            return f"{text}; it gives no signs of life, so if it is gone: rm {shlex.quote(str(self.path))}"
        return text


@dataclass(frozen=True)
class Owner:
    """Who has a lock, as its file says.

    Args:
        pid, host: the process.
        since: local time of that host.
        is_marker: the file itself is the lock.
        gives_signs: and its process touches it again and again.
    """

    pid: int
    host: str
    since: str
    is_marker: bool
    gives_signs: bool

    def has_ended(self) -> bool:
        """Whether it is known to have ended; nothing is known of other hosts."""
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
    """What stands in a lock's file: lines KEY=VALUE; or, by filelock's `SoftFileLock`, a number and a host.

    Raises:
        OSError, ValueError: there is no such file, or nothing of that in it.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    written = f"{datetime.fromtimestamp(path.stat().st_mtime):%Y-%m-%d %H:%M:%S}"
    if "pid" not in values and len(lines) >= 2:
        values = {"pid": lines[0], "host": lines[1], "mode": "marker"}
    if not {"pid", "host"} <= values.keys():
        raise ValueError(f"{path} does not say whose it is")
    host = values["host"].partition("?pidns-")[0]  # filelock appends what container it is
    return Owner(
        int(values["pid"]), host, values.get("since", written), "mode" in values, values.get("mode") == "lease"
    )


def _has_flock(folder: Path) -> bool:
    """Whether the file system has flock; raises `OSError` if nothing can be written there, or it has but fails."""
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_FLOCK:
                return False
            raise
    return True


def _remove_left_by_flock(path: Path) -> None:
    """Removes an empty file, which is no lock unless it is new: filelock takes it for one of a process that lives."""
    with tempfile.TemporaryFile(dir=path.parent) as file, suppress(FileNotFoundError):
        now, left = os.fstat(file.fileno()).st_mtime, path.stat()
        if left.st_size == 0 and now - left.st_mtime > 10:
            path.unlink()
