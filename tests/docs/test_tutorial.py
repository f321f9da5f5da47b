"""The tutorials, typed in an empty folder: every command works, and prints what the page says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT


def steps(name: str) -> list[tuple[str, str, str]]:
    """(language, what is typed, what should be seen) of a page. Python that stands together is one session."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    found: list[tuple[str, str, str]] = []
    for language, text in re.findall(r"^```(sh|python|text)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        if language == "text":
            typed = found.pop()
            found.append((*typed[:2], typed[2] + text))
        elif found and language == found[-1][0] == "python":
            found.append(("python", found[-1][1] + text, found.pop()[2]))
        else:
            found.append((language, text, ""))
    return found


def type_in(folder: Path, language: str, text: str) -> str:
    """Runs a block as a user with lmtrain's environment active, and gives all that it printed."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
        "LMTRAIN_CACHE": str(folder / "cache"),
    }
    command = [sys.executable, "-c", text] if language == "python" else ["bash", "-e", "-c", text]
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    )
    assert done.returncode == 0, f"{text}\nends with {done.returncode}:\n{done.stdout}"
    return done.stdout


def pattern(line: str) -> str:
    """A line of the page as a regular expression: any number for a number, anything for `...`, spaces do not count."""
    pieces = re.split(r"(\.\.\.|\d+(?:[.,]\d+)*)", re.sub(r"\s+", "", line))
    return "".join(
        ".*" if piece == "..." else r"\d+(?:[.,]\d+)*" if piece[:1].isdigit() else re.escape(piece) for piece in pieces
    )


def missing(expected: str, printed: str) -> list[str]:
    """The lines of the page that were not printed, in the page's order."""
    rest = [re.sub(r"\s+", "", line) for line in printed.splitlines()]
    absent = []
    for line in filter(lambda line: line.strip() != "...", expected.splitlines()):
        found = next((number for number, one in enumerate(rest) if re.fullmatch(pattern(line), one)), None)
        if found is None:
            absent.append(line)
        else:
            rest = rest[found + 1 :]
    return absent


def follow(name: str, folder: Path) -> tuple[int, dict[str, float]]:
    """Does what a page says, and cleans up; gives the number of its steps, and the validation loss of each run.

    The folder stands for a checkout, so that what is printed about the real one is as a reader of the page sees it.
    """
    (folder / "scripts").symlink_to(ROOT / "scripts")
    (folder / "train.py").symlink_to(ROOT / "train.py")
    *lesson, (_, clean_up, _) = steps(name)
    for language, text, expected in lesson:
        printed = type_in(folder, language, text).replace(f"{ROOT}/", "")
        assert not missing(expected, printed), f"{text}\nprinted:\n{printed}"
    losses = {run.name: json.loads((run / "results.json").read_text())["val/loss"] for run in folder.glob("runs/t*")}
    type_in(folder, "sh", clean_up)
    assert {path.name for path in folder.iterdir()} == {"scripts", "train.py", "cache", "runs"}
    assert not list((folder / "runs").iterdir())
    return len(lesson), losses


@pytest.mark.timeout(900)
def test_the_tutorial_works_as_it_is_written(tmp_path: Path) -> None:
    count, losses = follow("tutorial.md", tmp_path)
    assert count == 9
    assert losses.keys() == {f"{name}-folder-{way}" for name in ("tiny", "tuned") for way in ("forward", "backward")}
    assert max(losses.values()) < 2  # the page says what the model writes looks like words


@pytest.mark.timeout(900)
def test_the_way_from_a_wikipedia_dump_works_as_it_is_written(tmp_path: Path) -> None:
    count, losses = follow("wikipedia.md", tmp_path)
    assert count == 7
    assert losses.keys() == {"tiny-folder-forward", "tiny-folder-backward"}
    assert max(losses.values()) < 2.5
