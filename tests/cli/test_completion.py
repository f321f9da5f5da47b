"""The TAB key after `python train.py`, in the bash function that Hydra installs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT

# bash sets these before it calls the function, which leaves its proposals in COMPREPLY
PRESS_TAB = """
eval "$({} -sc install=bash)"
for COMP_LINE in "$@"; do
    COMP_WORDS=($COMP_LINE)
    COMP_POINT=${#COMP_LINE} COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    hydra_bash_completion
    echo "${COMPREPLY[@]}"
done
"""


def pressed(program: str, folder: Path, lines: list[str]) -> list[list[str]]:
    """What the TAB key proposes after each line, where a folder is on the path."""
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "-c", PRESS_TAB.replace("{}", program, 1), "bash", *lines]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    return [*map(str.split, done.stdout.splitlines())]


def test_bash_completes_the_commands_and_what_follows_them(installed_command) -> None:
    lines = [f"lmtrain {typed}" for typed in ("che", "score m.pt --p", "train model=la", "-m")]
    commands, options, models, _ = pressed("lmtrain train", installed_command.parent, lines)
    assert commands == ["check", "check-gpu"]
    assert options == ["--per-line", "--precision"]
    assert models == ["model=large"]


def test_bash_completes_groups_their_choices_and_keys() -> None:
    lines = [f"python train.py {typed}" for typed in ("model=", "-m data=folder opt", "data=folder data.sequence")]
    models, groups, keys = pressed("python train.py", Path(sys.executable).parent, lines)
    assert models == sorted(f"model={path.stem}" for path in (ROOT / "conf/model").glob("*.yaml"))
    assert groups == ["optimizer.", "optimizer="]
    assert keys == ["data.sequence_length="]


@pytest.mark.parametrize("wrong", [[], ["install=tcsh"], ["instal=bash"]])
def test_a_wrong_request_is_answered_by_what_can_be_asked_for(wrong, train_py) -> None:
    status, message = train_py("-sc", *wrong)
    assert status == 2
    assert message.startswith("Error: -sc takes install=SHELL or uninstall=SHELL, and SHELL is bash, zsh or fish. ")
    assert message.count("\n") == 1
