"""Measures whole processes: the time of their start, and their peak memory."""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from benchmarks.texts import english, write_corpus

ROOT = Path(__file__).resolve().parents[2]

_FLAIR = """
import sys
from flair.data import Dictionary
from flair.models import LanguageModel
from flair.trainers.language_model_trainer import LanguageModelTrainer, TextCorpus
corpus, hidden, length, lanes, steps = sys.argv[1], *map(int, sys.argv[2:])
dictionary = Dictionary()
for character in sorted(set(open(corpus + "/train/1.txt", encoding="utf-8").read())): dictionary.add_item(character)
for code in range(0x4E00, 0x4E00 + EXTRA): dictionary.add_item(chr(code))
model = LanguageModel(dictionary, True, hidden_size=hidden, nlayers=1)
trainer = LanguageModelTrainer(model, TextCorpus(corpus, dictionary, True))
def stop(hidden):
    global steps
    steps -= 1
    if not steps: sys.exit()
    return tuple(part.detach() for part in hidden)
trainer._repackage_hidden = stop
trainer.train(corpus + "/flair", sequence_length=length, mini_batch_size=lanes, max_epochs=1, num_workers=0)
"""

# Runs between this process and the command, since Linux counts the memory that a process had before `exec`.
_MEASURE = """
import resource, subprocess, sys, time
began = time.perf_counter()
if status := subprocess.call(sys.argv[1:]):
    sys.exit(status)
print("\\n", time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def measure(arguments: list[str]) -> tuple[float, float]:
    """Runs a command; returns the seconds that it took, and its peak memory in MiB.

    Raises:
        RuntimeError: the command failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "scripts")}  # for Leave
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:])
    seconds, kilobytes = map(float, done.stdout.split()[-2:])
    return seconds, kilobytes / 1024


def _lmtrain(corpus: Path, *more: str) -> list[str]:
    return [
        *(sys.executable, "train.py", "data=folder", f"data.path={corpus}", f"data.cache_dir={corpus}/cache"),
        *(f"runs_dir={corpus}/runs", "name=run", "overwrite=true", "test=false", *more),
    ]


def _flair(corpus: Path, hidden: int, length: int, lanes: int, steps: int, extra: int = 0) -> list[str]:
    script = _FLAIR.replace("EXTRA", str(extra))
    return [sys.executable, "-c", script, str(corpus), *map(str, (hidden, length, lanes, steps))]


class Leave(Callback):
    """Ends the process on the spot after the first step."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        os._exit(0)


def benchmark_startup(rounds: int) -> dict[str, Any]:
    """Seconds from the command to the end of the first step, and of --help."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder) / "corpus", 2_000_000, 20_000)
        contestants = {
            "Flair, the tutorial's script": _flair(corpus, 128, 10, 10, 1),
            "lmtrain, warm cache": _lmtrain(
                *(corpus, "model=tiny", "data.sequence_length=10", "data.batch_size=10"),
                "+callbacks.leave._target_=benchmarks.processes.Leave",
            ),
            "lmtrain --help": [sys.executable, "train.py", "--help"],
        }
        measure(contestants["lmtrain, warm cache"])
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, arguments in contestants.items():
                seconds[name].append(measure(arguments)[0])
    return {
        "task": "from the command to the first step",
        "size": "2,000,000 characters",
        "unit": "seconds",
        "values": seconds,
        "reference": "Flair, the tutorial's script",
        "notes": {},
    }


def benchmark_vocabulary(rounds: int) -> dict[str, Any]:
    """Peak memory of a few steps at V = 8,000, H1024·T250·B100, above that of a tiny run of the same program."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder) / "corpus", 200_000, 60_000)
        characters = "".join(chr(0x4E00 + i) for i in range(7900))
        train = corpus / "train/1.txt"
        train.write_text(train.read_text() + characters, encoding="utf-8")
        large = ("model.hidden_size=1024", "trainer.max_steps=3", "data.sequence_length=250", "data.batch_size=100")
        small = ("model.hidden_size=8", "trainer.max_steps=3", "data.sequence_length=5", "data.batch_size=2")
        contestants = {
            "Flair": (_flair(corpus, 1024, 250, 100, 3), _flair(corpus, 8, 5, 2, 3)),
            "lmtrain, default precision": (_lmtrain(corpus, *large), _lmtrain(corpus, *small)),
            "lmtrain, float32": (_lmtrain(corpus, *large, "trainer.precision=32-true"), _lmtrain(corpus, *small)),
        }
        measure(_lmtrain(corpus, *small))
        values: dict[str, list[float]] = {name: [] for name in contestants}
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, (whole, base) in contestants.items():
                (whole_seconds, whole_memory), (base_seconds, base_memory) = measure(whole), measure(base)
                values[name].append(whole_memory - base_memory)
                seconds[name].append(whole_seconds - base_seconds)
    return {
        "task": "peak memory of training",
        "size": "H1024·T250·B100, 8,000 characters",
        "unit": "MiB above a tiny run",
        "values": values,
        "reference": "Flair",
        "notes": {f"seconds that the steps took, {name}": statistics.median(some) for name, some in seconds.items()},
    }


def benchmark_corpus_memory(rounds: int) -> dict[str, Any]:
    """Peak memory of training on one file of 200 MB and on one of 2 GB, over the first two splits of each."""
    values: dict[str, list[float]] = {"200 MB": [], "2 GB": []}
    with tempfile.TemporaryDirectory() as folder:
        piece = english(20_000_000)
        for name, pieces in (("200 MB", 10), ("2 GB", 100)):
            corpus = write_corpus(Path(folder) / name.replace(" ", ""), 100, 5_000_000)
            with (corpus / "train/1.txt").open("w") as file:
                for number in range(pieces):
                    file.write(f"{number}\n{piece}\n")
        for _ in range(rounds):
            for name in values:
                corpus = Path(folder) / name.replace(" ", "")
                more = (
                    "model.hidden_size=4",
                    "model.embedding_size=2",
                    "data.batch_size=2000",
                    "trainer.max_steps=210",
                )
                values[name].append(
                    measure(_lmtrain(corpus, *more, "data.sequence_length=100", "data.validations_per_epoch=1"))[1]
                )
    ratio = statistics.median(values["2 GB"]) / statistics.median(values["200 MB"])
    return {
        "task": "peak memory of training",
        "size": "the first two splits",
        "unit": "MiB",
        "values": values,
        "reference": "200 MB",
        "notes": {"2 GB / 200 MB": ratio},
    }
