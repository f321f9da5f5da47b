"""A signal while a command imports what it needs, at a module that is named: one sentence and no traceback."""

import os
import signal
import subprocess
import sys

import pytest
from processes import ROOT

EARLY = "before the work had begun: nothing was done. Run the same command again.\n"
SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py") if path.stem != "__init__")


def ended(folder, command: str, *arguments: str, at: str, name: str, **more: str) -> tuple[int, str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "tests/halting"),
        "SIGNAL_AT": at,
        "SIGNAL_NAME": name,
        **more,
    }
    words = command.split() if command.startswith("-m ") else [ROOT / command]
    done = subprocess.run(
        [sys.executable, *words, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.stdout == ""
    assert list(folder.iterdir()) == []
    return done.returncode, done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_signal_before_a_script_has_begun(script, tmp_path):
    name = ("SIGTERM", "SIGINT", "SIGHUP")[SCRIPTS.index(script) % 3]
    done = ended(tmp_path, f"scripts/{script}.py", "--help", at="lmtrain.program.output", name=name)
    assert done == (128 + signal.Signals[name], f"{name} {EARLY}")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("command", ["train.py", "-m lmtrain train"])
def test_a_signal_before_training_has_begun(command, name, tmp_path):
    done = ended(tmp_path, command, "--help", at="hydra", name=name)
    assert done == (128 + signal.Signals[name], f"{name} {EARLY}")


def test_of_several_ranks_the_first_alone_speaks(tmp_path):
    assert ended(tmp_path, "train.py", "--help", at="hydra", name="SIGTERM", LOCAL_RANK="1") == (143, "")


def test_a_signal_while_training_imports_torch(tmp_path):
    status, said = ended(tmp_path, "train.py", "data=folder", "data.path=nowhere", at="torch", name="SIGINT")
    assert status == 130
    assert said.startswith("SIGINT before")
    assert said.count("\n") == 1


def test_a_signal_while_a_script_imports_torch(tmp_path):
    status, said = ended(tmp_path, "scripts/score.py", "model.pt", "text", at="torch", name="SIGTERM")
    assert (status, said) == (
        143,
        "SIGTERM before the work was done: nothing unfinished is left. Run the same command again.\n",
    )


def test_a_signal_when_the_work_has_ended():
    code = (
        "import os, signal, sys; sys.argv = ['score.py', '--help'];\n"
        "import __main__; __main__.__file__ = 'lmtrain-score'\n"
        "from lmtrain.cli.score import command\n"
        "try: command()\n"
        "finally: os.kill(os.getpid(), signal.SIGTERM)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (143, "SIGTERM after the work had ended.\n")


def test_a_program_that_imports_lmtrain_keeps_its_signals(tmp_path):
    code = "import signal, lmtrain; print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "True\n"
