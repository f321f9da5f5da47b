"""Measures time and validation loss of whole runs: Flair's trainer with its defaults against lmtrain's recipes."""

import logging
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.children import call

HIDDEN, LENGTH, LANES = 512, 100, 50
RECIPES = {
    "Flair, 6 epochs": ("flair", 6),
    "lmtrain experiment=flair, 6 epochs": ("experiment=flair", 6),
    "lmtrain experiment=fast, 1 epoch": ("experiment=fast", 1),
    "lmtrain experiment=fast, 2 epochs": ("experiment=fast", 2),
    "lmtrain experiment=fast, 6 epochs": ("experiment=fast", 6),
}
_PIECES = 40


def king_james(folder: Path) -> None:
    """The corpus folder of the King James Bible with its verses shuffled, from Debian's package bible-kjv."""
    command = ["bible", "-f", "gen1:1-rev22:21"]
    verses = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    verses = [verse for verse in verses if verse.strip()]
    random.Random(1).shuffle(verses)
    twentieth = len(verses) // 20
    parts = {"valid.txt": verses[:twentieth], "test.txt": verses[twentieth : 2 * twentieth]}
    parts |= {f"train/{number + 1}.txt": verses[2 * twentieth + number :: 4] for number in range(4)}
    (folder / "train").mkdir(parents=True)
    for name, lines in parts.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def python_documentation(folder: Path) -> None:
    """The corpus folder of data=demo."""
    from lmtrain.data.demo_corpus import make_demo_corpus

    shutil.copytree(make_demo_corpus(folder.parent / "demo"), folder)


CORPORA = {"King James Bible": king_james, "Python documentation": python_documentation}


def train(recipe: str, corpus: str, out: str, epochs: str, seed: str, *sizes: str) -> float:
    """Trains in a process of its own; the seconds from the call of the trainer to its end, reading of text and all.

    Args:
        recipe: "flair", which is Flair's own trainer, or overrides of lmtrain's with spaces between them.
        sizes: H, T and B, where they are not this module's.
    """
    hidden, length, lanes = map(int, sizes or (HIDDEN, LENGTH, LANES))
    train_so = _train_flair if recipe == "flair" else _train_lmtrain
    return train_so(recipe, Path(corpus), Path(out), epochs, seed, hidden, length, lanes)


def _train_flair(
    _: str, corpus: Path, out: Path, epochs: str, seed: str, hidden: int, length: int, lanes: int
) -> float:
    import torch
    from flair.data import Dictionary
    from flair.models import LanguageModel
    from flair.trainers.language_model_trainer import LanguageModelTrainer, TextCorpus

    logging.getLogger("flair").setLevel(logging.ERROR)
    torch.manual_seed(int(seed))
    random.seed(int(seed))
    began = time.perf_counter()
    dictionary = Dictionary()
    for character in sorted(set("".join(path.read_text("utf-8") for path in (corpus / "train").iterdir()))):
        dictionary.add_item(character)
    model = LanguageModel(dictionary, True, hidden_size=hidden, nlayers=1)
    trainer = LanguageModelTrainer(model, TextCorpus(corpus, dictionary, True))
    trainer.train(out, sequence_length=length, mini_batch_size=lanes, max_epochs=int(epochs))
    return time.perf_counter() - began


def _train_lmtrain(
    recipe: str, corpus: Path, out: Path, epochs: str, seed: str, hidden: int, length: int, lanes: int
) -> float:
    from lmtrain.config.compose import compose_config
    from lmtrain.training.train import train

    config = compose_config(
        *("data=folder", f"data.path={corpus}", f"data.cache_dir={out}/cache", f"runs_dir={out.parent}"),
        *(f"model.hidden_size={hidden}", f"data.sequence_length={length}", f"data.batch_size={lanes}"),
        *(f"name={out.name}", f"trainer.max_epochs={epochs}", f"seed={seed}", *recipe.split()),
    )
    began = time.perf_counter()
    train(config)
    return time.perf_counter() - began


def validation_loss(corpus: Path, model: Path) -> float:
    """Nats per character of valid.txt, the same measure for all: in pieces, each from a zero state."""
    from lmtrain.inference.scoring import Score, score
    from lmtrain.model_files.flair import load_language_model

    text = (corpus / "valid.txt").read_text(encoding="utf-8")
    length = -(-len(text) // _PIECES)
    pieces = [text[start : start + length] for start in range(0, len(text), length)]
    return sum(score(load_language_model(model), pieces), Score()).loss


def benchmark_quality(name: str, rounds: int) -> dict[str, Any]:
    """Trains every recipe once for each seed; gives the times, and the losses of the best models as notes."""
    seconds: dict[str, list[float]] = {recipe: [] for recipe in RECIPES}
    notes: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        CORPORA[name](corpus)
        for seed in range(1, rounds + 1):
            for number, (shown, (recipe, epochs)) in enumerate(RECIPES.items()):
                out = Path(folder) / f"run-{seed}-{number}"
                seconds[shown].append(call("benchmarks.quality:train", recipe, corpus, out, epochs, seed))
                notes[f"{shown}, seed {seed}: validation loss"] = validation_loss(corpus, out / "best-lm.pt")
    return {
        "task": "a whole training",
        "size": f"{name}, H{HIDDEN}·T{LENGTH}·B{LANES}",
        "unit": "seconds",
        "values": seconds,
        "reference": "Flair, 6 epochs",
        "notes": notes,
    }
