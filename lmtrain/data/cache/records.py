"""Small files of the cache, which only save work the next time: what a file holds, and how often each item occurs."""

import logging
from functools import cache
from pathlib import Path

from lmtrain.data.id_cache import write_checked
from lmtrain.program.files import atomic_write

log = logging.getLogger(__name__)


def write_record(path: Path, values: dict, is_needed: bool) -> None:
    """Writes one, whole or not at all.

    Args:
        is_needed: for what other processes do; otherwise a cache that takes nothing only costs a warning.
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
    log.warning("The cache %s takes nothing: %s. The text will be read again the next time", folder, reason)
