"""The version of lmtrain, which stands in pyproject.toml only."""

import re
from importlib.metadata import version
from pathlib import Path


def lmtrain_version() -> str:
    """The version of the checkout that has this file, which may be newer than the installed one; else the latter."""
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    try:
        stated = re.search(r'^name = "lmtrain"\nversion = "(.+)"$', project.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        stated = None
    return stated[1] if stated else version("lmtrain")
