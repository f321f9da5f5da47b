"""Writes the small JSON files of the cache: hashes of files, and counts of items."""

import logging
from functools import cache
from pathlib import Path

from lmtrain.data.id_cache import write_checked
from lmtrain.program.files import atomic_write

log = logging.getLogger(__name__)


def write_record(path: Path, values: dict, is_needed: bool) -> None:
    """Writes a record, whole or not at all.

    Args:
        is_needed: raise `OSError` if it cannot be written, because other processes wait for it; otherwise only warn.
    """
    try:
        with atomic_write(path, removes_left=False, is_kept=False) as unfinished:
            write_checked(unfinished, values)
    except OSError as error:
        if is_needed:
            raise
        _warn(path.parent, error.strerror or str(error))


@cache
def _warn(folder: Path, reason: str) -> None:
    log.warning("The cache %s cannot be written: %s. The text will be read again the next time", folder, reason)
