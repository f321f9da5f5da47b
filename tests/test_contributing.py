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

import yaml
from corpora import write_corpus

ROOT = Path(__file__).resolve().parent.parent


def test_the_new_optimizer_cell_schedule_and_callback_work(tmp_path):
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL)
    checkout = tmp_path / "checkout"
    for name in ("lmtrain", "conf"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", checkout)
    for language, code in blocks:
        if language:
            with (checkout / code.split("\n")[0].removeprefix("# ")).open("a") as file:  # of an old file: at its end
                file.write(code)
    commands = [line for _, code in blocks for line in code.splitlines() if line.startswith("python train.py ")]
    said = [shlex.split(command)[2:] for command in commands]
    assert len(said) == 4
    corpus = write_corpus(tmp_path / "corpus")
    tiny = ["data=folder", f"data.path={corpus}", f"data.cache_dir={tmp_path}/cache", "data.batch_size=2", "logger=csv"]
    tiny += ["data.sequence_length=5", "model=tiny", "name=run", "trainer.accelerator=cpu", "callbacks.stop.loss=3"]
    done = subprocess.run(
        [sys.executable, "train.py", *(argument for command in said for argument in command), *tiny],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    run = checkout / "runs/run"
    assert yaml.safe_load((run / "config.yaml").read_text())["optimizer"] == {
        "_target_": "lmtrain.sign_sgd.SignSGD",
        "lr": 0.001,
    }
    card = (run / "README.md").read_text(encoding="utf-8")
    assert "then falls over the last 0.3 of the run in a straight line to zero at the run's end (10 epochs)" in card
    results = json.loads((run / "results.json").read_text())
    assert results["val/loss"] < 3 < math.log(len(json.loads((run / "dictionary.json").read_text())["items"]))
    assert results["epochs"] < 10  # the callback ended it
    log = (run / "train.log").read_text()
    assert "forward LEAKY, 2 layers of 128" in log
    assert "Flair cannot read a model with model.recurrent_type=LEAKY" in log
    assert "It writes:" in log  # through the cell's own layers
