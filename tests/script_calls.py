"""Calls a script's command in this process."""

import importlib.util
from pathlib import Path

SCRIPTS = Path(__file__).parent.parent / "scripts"


def call(script: str, *arguments) -> int:
    """The exit status of `python scripts/<script>.py <arguments>`."""
    spec = importlib.util.spec_from_file_location(f"script_{script}", SCRIPTS / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.command([str(argument) for argument in arguments])
