"""The files of a run's last two checkpoints, of which at least one is whole at any time."""

import logging
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmtrain.program.files import atomic_write

log = logging.getLogger(__name__)


class CheckpointFiles:
    """`last.ckpt` and `previous.ckpt` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last = folder / "last.ckpt"
        self.previous = folder / "previous.ckpt"

    @contextmanager
    def next(self) -> Iterator[Path]:
        """Gives a path for the next checkpoint, which becomes the last one if the block succeeds."""
        with atomic_write(self.last) as unfinished:
            yield unfinished
            if self.last.exists():
                os.replace(self.last, self.previous)

    def present(self) -> list[Path]:
        """The checkpoints that exist, the newest first."""
        return [path for path in (self.last, self.previous) if os.path.exists(path)]

    def newest_whole(self) -> Path | None:
        """The newest checkpoint that is not damaged; warns of damaged ones."""
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
