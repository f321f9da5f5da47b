"""The version of a run's checkpoints, of which the entry `lmtrain` tells."""

from collections.abc import Mapping
from typing import Any

from lmtrain.errors import UserError

CHECKPOINT_VERSION = 1
"""Goes up when an earlier lmtrain would read a checkpoint wrongly; a checkpoint without a version is of version 1."""


def check_version(entry: Mapping[str, Any]) -> None:
    """Raises `UserError` if a later lmtrain wrote a checkpoint.

    Args:
        entry: what it holds as `lmtrain`.
    """
    version = entry.get("version", CHECKPOINT_VERSION)
    if type(version) is not int or version > CHECKPOINT_VERSION:
        raise UserError(
            f"It is a checkpoint of version {version!r}, and this lmtrain reads those up to version "
            f"{CHECKPOINT_VERSION}. Use the lmtrain that wrote it, or a later one."
        )
