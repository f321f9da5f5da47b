"""Calls a function in a new process, so that threads, the allocator and other settings of this one do not affect it."""

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_CODE = "import sys; from benchmarks.children import answer; answer(*sys.argv[1:])"


def call(function: str, *arguments: Any) -> Any:
    """The result of the function, which must be made of values that JSON has.

    Args:
        function: "module:name".
        arguments: passed on as strings.

    Raises:
        RuntimeError: it failed.
    """
    path = os.pathsep.join([str(_ROOT / "scripts"), str(_ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", _CODE, function, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{function} {' '.join(map(str, arguments))}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def answer(function: str, *arguments: str) -> None:
    """Prints the function's result as the last line."""
    print(json.dumps(pkgutil.resolve_name(function)(*arguments)))
