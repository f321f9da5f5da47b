"""What a killed process has left unfinished is removed by the next; what a live one is writing is not."""

import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT

from lmtrain.program.files import atomic_write, remove_left, unfinished_folder

WRITING = """
import sys
from pathlib import Path
from lmtrain.program import files
with getattr(files, sys.argv[1])(Path("output")) as place:
    (place / "part" if place.is_dir() else place).write_text("half")
    print("writing", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts a process that is in the middle of writing `output`."""
    monkeypatch.chdir(tmp_path)
    processes = []

    def started(how: str) -> subprocess.Popen:
        command = [sys.executable, "-c", WRITING, how]
        environment = {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        processes.append(process)
        assert process.stdout.readline() == "writing\n"
        return process

    yield started
    for process in processes:
        process.kill()
        process.communicate()


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()


def test_the_next_that_writes_a_file_removes_what_is_left_of_it(start):
    kill(start("atomic_write"))
    assert len(list(Path().iterdir())) == 1
    alive = start("atomic_write")
    assert len(list(Path().iterdir())) == 1
    with atomic_write(Path("output")) as unfinished:
        unfinished.write_text("mine")
        assert len(list(Path().iterdir())) == 2
    alive.communicate("go on\n")
    assert alive.returncode == 0
    assert [path.name for path in Path().iterdir()] == ["output"]
    assert Path("output").read_text() == "half"  # the last one wins, whole


def test_the_next_that_makes_a_folder_removes_what_is_left_of_it(start):
    kill(start("unfinished_folder"))
    alive = start("unfinished_folder")
    with unfinished_folder(Path("output")):
        assert len(list(Path().iterdir())) == 2
    alive.communicate("go on\n")
    assert alive.returncode == 0
    assert list(Path().iterdir()) == []


def test_what_is_left_of_others_is_removed_where_the_whole_folder_is_held(start):
    kill(start("unfinished_folder"))
    kill(start("atomic_write"))
    start("atomic_write")
    Path("mine.txt").touch()
    remove_left(Path(), ".*")
    assert len(list(Path().iterdir())) == 2
