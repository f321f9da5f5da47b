"""Remembers which entries of the cache were found undamaged, so that not every process reads them all at its start.

A record holds for one host since it was booted, because a crash may lose what had not reached the disk. An array counts
as unchanged while its size, times and inode are those of when it was read. What a disk changes without a write goes
unnoticed until the host is booted again or the records are removed: `rm CACHE/checked-*`.
"""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from lmtrain.data.id_cache import ARRAYS, read_checked, write_checked
from lmtrain.program.files import atomic_write

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_OLD = 30 * 24 * 3600  # seconds
_PATIENCE = 2.5  # seconds within which the clock of every file system advances

State = list[list[int]]


class Checked:
    """This host's record of a cache."""

    def __init__(self, cache_dir: Path) -> None:
        self.cache_dir = cache_dir
        self.path = cache_dir / f"checked-{this_host()}.json"
        self._states: dict[str, State] = {}
        with suppress(OSError, ValueError):
            self._states = read_checked(self.path)
        self._new: dict[str, State] = {}

    def holds(self, entry: Path) -> bool:
        """Whether an entry was found undamaged on this host and has not changed since."""
        known = self._states.get(entry.name)
        return known is not None and known == state(entry)

    def add(self, entry: Path, before: State) -> None:
        """Notes that an entry was found undamaged or was written; `before` is its state before it was read."""
        self._new[entry.name] = before

    def save(self) -> None:
        """Writes the record, for other processes and the next start, if the cache can be written."""
        if not self._new:
            return
        with suppress(OSError):
            self._wait_for_the_clock()
            there = set(os.listdir(self.cache_dir))
            with suppress(OSError, ValueError):  # another process may have written
                self._states = {**read_checked(self.path), **self._states}
            new = {name: known for name, known in self._new.items() if known == state(self.cache_dir / name)}
            self._states = {name: known for name, known in {**self._states, **new}.items() if name in there}
            self._new = {}
            with atomic_write(self.path, is_kept=False) as unfinished:
                write_checked(unfinished, self._states)
            self._remove_old()

    def _wait_for_the_clock(self) -> None:
        """Waits until a write would give another time: file systems' clocks tick a few hundred times a second, old
        ones once.

        Otherwise an array could be changed right after it was read and still have the same times.
        """
        newest = max(time_ns for known in self._new.values() for array in known for time_ns in array[1:3])
        tick = self.cache_dir / f".clock-{this_host()}"
        end = time.monotonic() + _PATIENCE
        try:
            while True:
                tick.write_bytes(b"")
                if tick.stat().st_mtime_ns > newest:
                    return
                if time.monotonic() > end:  # the times may be in the future: then nothing can be recorded
                    self._new = {}
                    return
                time.sleep(0.002)
        finally:
            tick.unlink(missing_ok=True)

    def _remove_old(self) -> None:
        """Removes the records of hosts that were last booted long ago."""
        for path in self.cache_dir.glob("checked-*.json"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _OLD and path != self.path:
                    path.unlink()


def state(entry: Path) -> State | None:
    """Size, modification and change time in nanoseconds, and inode, of both arrays; None if they are not there."""
    try:
        stats = [(entry / name).stat() for name in ARRAYS]
    except OSError:
        return None
    return [[status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino] for status in stats]


def this_host() -> str:
    """The id of this boot of the host, the same in all its containers; outside Linux the host's name."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname().replace("/", "-")
