"""The files of a run's checkpoints: the last one, and the one before."""

import logging
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmtrain.program.files import atomic_write

log = logging.getLogger(__name__)


class CheckpointFiles:
    """`last.ckpt` and `previous.ckpt`, of which one is whole at any time.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last = folder / "last.ckpt"
        self.previous = folder / "previous.ckpt"

    @contextmanager
    def next(self) -> Iterator[Path]:
        """Where to write the next checkpoint; when the block ends without an exception, it is the last one."""
        with atomic_write(self.last) as unfinished:
            yield unfinished
            if self.last.exists():
                os.replace(self.last, self.previous)

    def present(self) -> list[Path]:
        """Those that exist, the newest first."""
        return [path for path in (self.last, self.previous) if path.exists()]

    def newest_whole(self) -> Path | None:
        """The newest that is not damaged; warns of one that is."""
        for path in self.present():
            if _is_whole(path):
                return path
            log.warning("%s is damaged%s", path, ": the one before is used" if path == self.last else "")
        return None


def _is_whole(path: Path) -> bool:
    """Whether the archive's checksums are right."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, ValueError):
        return False
