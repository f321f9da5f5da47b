"""The version of lmtrain, which pyproject.toml alone states."""

import re
from importlib.metadata import version
from pathlib import Path


def lmtrain_version() -> str:
    """That of the checkout that this file lies in, which may be newer than its installation; else the installed one."""
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    try:
        stated = re.search(r'^name = "lmtrain"\nversion = "(.+)"$', project.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        stated = None
    return stated[1] if stated else version("lmtrain")
