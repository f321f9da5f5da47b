"""Fixtures that several tests share, and the settings of hypothesis."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: small tensors, and tests that share two cores with others
os.environ["no_proxy"] = "127.0.0.1"  # where the servers of the tests are

import pytest
from corpora import sentences, write_corpus
from hypothesis import HealthCheck, settings
from preparing import lines
from processes import ROOT
from running import Ended

from lmtrain.cli.train import main
from lmtrain.config.compose import compose_config

# a busy machine must not fail a test: nothing is timed
settings.register_profile("lmtrain", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lmtrain")

# whose files take longest: both workers begin with these, so that at the end neither waits for the other
LONG = ("docs", "faults", "training", "cli", "interop", "prepare", "program", "test_packaging.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the folders of `LONG` first, and changes nothing else in the order."""
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.relative_to(ROOT / "tests").parts[0], len(LONG)))


@pytest.fixture
def corpus_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a corpus: `corpus_folder(train={"1.txt": "..."}, valid="...", test="...")`."""

    def make(**parts) -> Path:
        return write_corpus(tmp_path / "corpus", **parts)

    return make


@pytest.fixture
def train_py(tmp_path, monkeypatch, capsys) -> Callable[..., Ended]:
    """Runs `train.py ARGUMENTS` in this process, in a folder that holds a small corpus."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # as main does, but undone afterwards
    write_corpus(Path("corpus"))

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py"), *arguments])
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as error:
            status = error.code
        return Ended(status, capsys.readouterr().err)

    return run


@pytest.fixture
def installed_command(tmp_path: Path) -> Path:
    """The command `lmtrain`, as pip writes it into a folder of programs."""
    command = tmp_path / "bin/lmtrain"
    command.parent.mkdir()
    code = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom lmtrain.cli.main import main\nsys.exit(main())\n"
    command.write_text(f"#!{sys.executable}\n{code}")
    command.chmod(0o755)
    return command


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder of text to prepare, with duplicates, empty lines and other line ends."""
    folder = tmp_path / "raw"
    (folder / "more").mkdir(parents=True)
    all_lines = lines(900)
    (folder / "a.txt").write_bytes("\n".join(all_lines[:500]).encode())
    (folder / "more" / "b.txt").write_bytes(("\r\n".join(all_lines[400:]) + "\r\n\r\n").encode())
    (folder / ".hidden").write_text("not this\n")
    (folder / "empty.txt").touch()
    return folder


@pytest.fixture(scope="session")
def pair_of_runs(tmp_path_factory) -> Path:
    """A folder with the finished runs `forward` and `backward`, of one epoch over a corpus that was prepared from two
    files. Copy a run before you change it."""
    from lmtrain.prepare.folder import prepare_corpus
    from lmtrain.prepare.options import PrepareOptions
    from lmtrain.prepare.shuffling import Dealing
    from lmtrain.training.train import train

    folder = tmp_path_factory.mktemp("pair")
    for name, seed in (("one.txt", 1), ("two.txt", 2)):
        (folder / name).write_text(sentences(150, seed), encoding="utf-8")
    options = PrepareOptions(dealing=Dealing(valid=0.1, test=0.1))
    prepare_corpus([folder / "one.txt", folder / "two.txt"], folder / "corpus", options, workers=1)
    for direction in ("forward", "backward"):
        train(
            compose_config(
                *("data=folder", f"data.path={folder}/corpus", f"data.cache_dir={folder}/cache", "data.batch_size=4"),
                *("data.sequence_length=20", "data.validations_per_epoch=3", "model=tiny", "model.hidden_size=16"),
                *(f"runs_dir={folder}/runs", f"name={direction}", f"direction={direction}", "trainer.max_epochs=1"),
                *("trainer.log_every_n_steps=10", "trainer.accelerator=cpu", "logger=csv"),
            )
        )
    return folder / "runs"
