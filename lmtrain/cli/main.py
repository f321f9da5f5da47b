"""`lmtrain COMMAND ...`; each is also `lmtrain-NAME` where lmtrain is installed, and `python scripts/NAME.py`."""

import difflib
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from lmtrain.errors import UserError
from lmtrain.program.command import SUBCOMMANDS, run
from lmtrain.version import lmtrain_version


def main() -> int:
    """Runs the command that was typed and returns the exit status, 2 if there is no such command."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name == "train":
        return _train()
    if name == "-sc":  # Hydra's name for shell completion
        return _complete(os.environ.get("COMP_LINE", "").split(" "))
    if name in SUBCOMMANDS:
        status: int = _module(name).command(sys.argv[2:], f"lmtrain {name}")
        return status
    return run(lambda: _answer(name))


def _answer(name: str) -> None:
    if name in ("-h", "--help", "help"):
        print(_help())
    elif name in ("-V", "--version"):
        print(f"lmtrain {lmtrain_version()}")
    else:
        raise UserError(f"lmtrain has no command {name!r}. {_meant(name)}")


def _module(name: str) -> Any:
    return importlib.import_module(f"lmtrain.cli.{SUBCOMMANDS[name]}")


def _train() -> int:
    _module("train").main()
    return 0


def _complete(line: list[str]) -> int:
    """Prints what the TAB key proposes after the words of a line; the function of `-sc install=SHELL` calls it."""
    name = line[1] if len(line) > 2 else None
    if name == "train" or not sys.argv[2:3] or not sys.argv[2].startswith("query="):
        os.environ["COMP_LINE"] = " ".join([*line[:1], *line[2:]])
        sys.argv.insert(1, "train")
        return _train()
    if name is None:
        print(*SUBCOMMANDS, "--help", "--version")
    elif name in SUBCOMMANDS:
        print("--help", *_module(name).command.flags().values())
    return 0


def _meant(name: str) -> str:
    """A sentence that names the most similar command, or all commands."""
    if "=" in name:  # a key of the configuration
        return f"To train: lmtrain train {name} ..."
    names = {script.replace("_", "-"): short for short, script in SUBCOMMANDS.items()}  # prepare-corpus → prepare
    names |= {short: short for short in SUBCOMMANDS}
    nearest = difflib.get_close_matches(name.replace("_", "-"), names, 1, 0.6)
    if nearest:
        return f"Did you mean `lmtrain {names[nearest[0]]}`? `lmtrain --help` lists all."
    return f"The commands are {', '.join(SUBCOMMANDS)}; `lmtrain --help` says what they do."


def _help() -> str:
    width = max(map(len, SUBCOMMANDS)) + 2
    return "\n".join(
        [
            "usage: lmtrain COMMAND ...",
            "",
            "Trains character language models whose best-lm.pt Flair loads unchanged, and uses them.",
            "",
            *(f"  {name:{width}}{_summary(module)}" for name, module in SUBCOMMANDS.items()),
            "",
            "lmtrain COMMAND --help shows the arguments and examples of a command, lmtrain --version the version.",
        ]
    )


def _summary(module: str) -> str:
    """The beginning of the docstring of a command's module, which is not imported for it."""
    docstring = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8").split('"""')[1]
    return docstring.splitlines()[0].partition(": ")[0].removesuffix(".")
