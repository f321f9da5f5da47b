"""What CONTRIBUTING.md says about extending lmtrain works as it stands there."""

import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from corpora import write_corpus

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = {  # what CONTRIBUTING.md says of files that are there
    "lmtrain/data/formats/registry.py": (
        "_BY_LINES: tuple[Reader, ...] = (",
        "from lmtrain.data.formats.verses import Verses\n_BY_LINES = (Verses(), ",
    ),
    "lmtrain/model_files/export_formats.py": (
        "for form in (",
        "for form in (__import__('lmtrain.model_files.npz', fromlist=['Npz']).Npz(), ",
    ),
}


def commands_and_checkout(tmp_path: Path) -> tuple[list[list[str]], Path]:
    """The options of the commands for train.py, and a copy of lmtrain with all that is shown."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL)
    checkout = tmp_path / "checkout"
    for name in ("lmtrain", "conf", "scripts"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "benchmarks"))
    shutil.copy(ROOT / "train.py", checkout)
    for language, code in blocks:
        if language:
            with (checkout / code.split("\n")[0].removeprefix("# ")).open("a") as file:  # of an old file: at its end
                file.write(code)
    for name, (before, after) in ENTRIES.items():
        text = (checkout / name).read_text()
        assert text.count(before) == 1
        (checkout / name).write_text(text.replace(before, after))
    commands = [line for _, code in blocks for line in code.splitlines() if line.startswith("python train.py ")]
    return [shlex.split(command)[2:] for command in commands], checkout


def run(checkout: Path, *command: str) -> str:
    """What a command prints, which must succeed."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_what_is_shown_works(tmp_path):
    said, checkout = commands_and_checkout(tmp_path)
    assert len(said) == 5
    corpus = write_corpus(tmp_path / "corpus")
    tiny = ["data=folder", f"data.path={corpus}", f"data.cache_dir={tmp_path}/cache", "data.batch_size=2"]
    tiny += ["data.sequence_length=5", "model=tiny", "name=run", "trainer.accelerator=cpu", "callbacks.stop.loss=3"]
    run(checkout, "train.py", *(option for options in said for option in options), *tiny)
    folder = checkout / "runs/run"
    assert yaml.safe_load((folder / "config.yaml").read_text())["optimizer"] == {
        "_target_": "lmtrain.sign_sgd.SignSGD",
        "lr": 0.001,
    }
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "then falls over the last 0.3 of the run in a straight line to zero at the run's end (10 epochs)" in card
    results = json.loads((folder / "results.json").read_text())
    assert results["val/loss"] < 3 < math.log(len(json.loads((folder / "dictionary.json").read_text())["items"]))
    assert results["epochs"] < 10  # the callback ended it
    log = (folder / "train.log").read_text()
    assert "forward LEAKY, 2 layers of 128" in log
    assert "Flair cannot read a model with model.recurrent_type=LEAKY" in log
    assert "It writes:" in log  # through the cell's own layers
    assert json.loads((folder / "now.json").read_text())["test/loss"] == pytest.approx(results["test/loss"], rel=1e-6)

    said_of_output = run(checkout, "scripts/export.py", "--help")
    assert "the weights as NumPy's arrays, without the dictionary" in said_of_output
    run(checkout, "scripts/export.py", "runs/run/best-lm.pt", "--format", "npz", "--output", "model.npz")
    with np.load(checkout / "model.npz") as weights:
        assert weights["decoder.bias"].shape == (len(json.loads((folder / "dictionary.json").read_text())["items"]),)


def test_the_new_corpus_format_is_recognised_and_read(tmp_path):
    _, checkout = commands_and_checkout(tmp_path)
    texts = [f"And it came to pass {number} times." for number in range(300)]
    lines = [f"GEN {1 + number // 30}:{1 + number % 30}\t{text}" for number, text in enumerate(texts)]
    (checkout / "genesis.txt").write_text("".join(f"{line}\n" for line in lines))
    run(checkout, "scripts/prepare_corpus.py", "genesis.txt", "--output", "corpus", "--valid", "0.1", "--test", "0.1")
    parts = [*(checkout / "corpus/train").iterdir(), checkout / "corpus/valid.txt", checkout / "corpus/test.txt"]
    assert sorted(line for part in parts for line in part.read_text().splitlines()) == sorted(texts)
    (source,) = json.loads((checkout / "corpus/manifest.json").read_text())["sources"]
    assert source["format"] == "verses"
