"""Measures how fast text becomes windows in the first epoch, which encodes, and later; beside Flair's TextDataset."""

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.texts import write_corpus

_CHARACTERS = 4_000_000


def benchmark_data(script: str, rounds: int) -> dict[str, Any]:
    """Characters a second on one core, from a file to ids in their lanes."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        corpus = write_corpus(Path(folder) / "corpus", _CHARACTERS, script=script)
        contestants = _contestants(corpus)
        rates: dict[str, list[float]] = {name: [] for name in contestants}
        for number in range(rounds):
            for name, work in contestants.items():
                began = time.perf_counter()
                work(number)
                rates[name].append(_CHARACTERS / (time.perf_counter() - began))
    return {
        "task": "from text to windows",
        "size": script,
        "unit": "characters/s",
        "rates": rates,
        "reference": "Flair, every epoch",
        "notes": {},
    }


def _contestants(corpus: Path) -> dict[str, Callable[[int], Any]]:
    from flair.data import Dictionary as FlairDictionary
    from flair.trainers.language_model_trainer import TextDataset

    from lmtrain.data.cache.text_cache import count_items, encode_file
    from lmtrain.data.corpus import find_corpus
    from lmtrain.data.dictionary import Dictionary
    from lmtrain.data.id_cache import TextFormat
    from lmtrain.data.splits import cut_splits
    from lmtrain.data.stream import Augmentation, Stream
    from lmtrain.data.windows import read_lanes

    logging.getLogger("flair").setLevel(logging.ERROR)
    file, text_format = find_corpus(str(corpus)).train[0], TextFormat()
    dictionary = Dictionary.from_counts(count_items(file, text_format, corpus / "cache"))
    dictionary.encode("a")  # makes its table
    flair_dictionary = FlairDictionary()
    for item in dictionary.items:
        flair_dictionary.add_item(item)
    flair_data = TextDataset(corpus / "train/1.txt", flair_dictionary)
    (split,) = cut_splits(encode_file(file, text_format, dictionary, corpus / "cache"), 10 * _CHARACTERS)
    augmentation = Augmentation(1, shuffle=True, case_tables=dictionary.case_tables())
    return {
        "Flair, every epoch": lambda number: flair_data[0],
        "lmtrain, encoding": lambda number: encode_file(file, text_format, dictionary, corpus / f"cache-{number}"),
        "lmtrain, counting and encoding": lambda number: (
            count_items(file, text_format, corpus / f"cache-both-{number}"),
            encode_file(file, text_format, dictionary, corpus / f"cache-both-{number}"),
        ),
        "lmtrain, later epochs": lambda number: read_lanes(
            Stream(split, epoch=number + 1, augmentation=augmentation), 100, range(100)
        ),
    }
