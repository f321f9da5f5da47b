"""The version of a run's checkpoints, which is in their entry `lmtrain`."""

from collections.abc import Mapping
from typing import Any

from lmtrain.errors import UserError

CHECKPOINT_VERSION = 1
"""Raised when an earlier lmtrain would misread a checkpoint; a checkpoint without a version has version 1."""


def check_version(entry: Mapping[str, Any]) -> None:
    """Raises `UserError` if a checkpoint, whose `lmtrain` is `entry`, is of a later version."""
    version = entry.get("version", CHECKPOINT_VERSION)
    if type(version) is not int or version > CHECKPOINT_VERSION:
        raise UserError(
            f"It is a checkpoint of version {version!r}, and this lmtrain reads versions up to "
            f"{CHECKPOINT_VERSION}. Use the lmtrain that wrote it, or a later one."
        )
