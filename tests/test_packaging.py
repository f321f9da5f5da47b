"""What `pip install` gives: built, installed into an environment of its own, and used in an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(
    path.stem for path in (ROOT / "scripts").glob("*.py") if path.stem not in ("__init__", "benchmark", "evidence")
)


def run(*command, cwd: Path) -> subprocess.CompletedProcess:
    """Runs a command as in a new terminal, where nothing says where the checkout is."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["LMTRAIN_CACHE"] = str(cwd.parent / "cache")
    return subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=200)


def make_environment(folder: Path, what: list) -> Path:
    """Installs something of lmtrain beside the packages that it needs; gives the folder of commands."""
    venv.create(folder)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "--disable-pip-version-check"]
    done = run(*pip, "install", "--no-index", "--no-deps", "--no-build-isolation", *what, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy, for building leaves files behind."""
    ignored = (ROOT / ".gitignore").read_text().split()
    everywhere = shutil.ignore_patterns(".git", *(line.strip("/") for line in ignored if not line.startswith("/")))
    at_the_top = shutil.ignore_patterns(*(line.strip("/") for line in ignored))
    folder = tmp_path_factory.mktemp("packaging") / "checkout"

    def ignore(place: str, names: list[str]) -> set[str]:
        return everywhere(place, names) | (at_the_top(place, names) if place == str(ROOT) else set())

    return Path(shutil.copytree(ROOT, folder, ignore=ignore))


@pytest.fixture(scope="module")
def wheel(checkout) -> Path:
    """The wheel that the source distribution makes."""
    output = checkout.parent / "dist"
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", output, checkout, cwd=checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert next(output.glob("lmtrain-*.tar.gz"))
    done = run(sys.executable, "-m", "twine", "check", "--strict", *output.iterdir(), cwd=checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(output.glob("*.whl"))


@pytest.fixture(scope="module")
def commands(wheel) -> Path:
    return make_environment(wheel.parent.parent / "environment", [wheel])


@pytest.fixture(scope="module")
def empty(commands) -> Path:
    folder = commands.parent.parent / "empty"
    folder.mkdir()
    return folder


def test_the_wheel_holds_all_modules_and_the_whole_configuration(wheel, checkout):
    places = {"lmtrain": "lmtrain/**/*.py", "lmtrain/conf": "conf/**/*.yaml"}
    there = {"lmtrain/py.typed", "lmtrain/runs/model_card.md.jinja"} | {
        f"{place}/{path.relative_to(checkout / pattern.split('/')[0])}"
        for place, pattern in places.items()
        for path in checkout.glob(pattern)
    }
    assert {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("lmtrain/")} == there


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_a_command(commands, empty, script):
    name = f"lmtrain-{script.replace('_', '-')}"
    done = run(commands / name, "--help", cwd=empty)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {name} ")


def test_training_and_scoring_in_an_empty_folder(commands, empty):
    done = run(
        commands / "lmtrain-train", "trainer=ddp_cpu", "model=tiny", "trainer.max_steps=2", "name=run", cwd=empty
    )
    assert done.returncode == 0, done.stderr
    assert "lmtrain-generate runs/run/best-lm.pt" in done.stderr
    assert json.loads((empty / "runs/run/results.json").read_text())["steps"] == 2
    assert "`lmtrain-train trainer=ddp_cpu model=tiny" in (empty / "runs/run/README.md").read_text()

    (empty / "text.txt").write_text("To be, or not to be.\n")
    done = run(commands / "lmtrain-score", "runs/run/best-lm.pt", "text.txt", "--json", cwd=empty)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["characters"] == 20


def test_help_names_the_command(commands, empty):
    done = run(commands / "lmtrain-train", "--help", cwd=empty)
    assert done.returncode == 0, done.stderr
    assert "lmtrain-train experiment=fast data=folder data.path=corpus" in done.stdout
    assert "train.py" not in done.stdout


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["lmtrain-train", "model=larg"], "model=larg is no option. Did you mean large?"),
        (["lmtrain-score", "nothing.pt"], "nothing.pt cannot be read"),
        (["lmtrain", "scroe"], "Did you mean `lmtrain score`?"),
    ],
)
def test_a_mistake_has_status_2_and_no_traceback(commands, empty, command, message):
    done = run(commands / command[0], *command[1:], cwd=empty)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_checkout_has_its_own_configuration(commands, checkout, empty):
    """`train.py` and an editable install take what lies in the checkout, whatever is installed besides."""
    tiny = checkout / "conf/model/tiny.yaml"
    tiny.write_text(tiny.read_text().replace("hidden_size: 128", "hidden_size: 77"))
    show = ["model=tiny", "--cfg", "job", "--package", "model"]
    assert "hidden_size: 77" in run(commands / "python", "train.py", *show, cwd=checkout).stdout
    assert "hidden_size: 128" in run(commands / "lmtrain-train", *show, cwd=empty).stdout

    editable = make_environment(checkout.parent / "editable", ["--editable", checkout])
    assert "hidden_size: 77" in run(editable / "lmtrain-train", *show, cwd=empty).stdout
    assert run(editable / "lmtrain-score", "nothing.pt", cwd=empty).returncode == 2
