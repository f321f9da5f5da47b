"""Corpora and encoded text for tests."""

import random
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from lmtrain.data.corpus import TextFile
from lmtrain.data.id_cache import EncodedText

WORDS = "the of and a to in is was he for it with as his on be at by I this had not are but from or have"


def sentences(count: int, seed: int = 1) -> str:
    """Lines of words."""
    source = random.Random(seed)
    return "".join(" ".join(source.choices(WORDS.split(), k=source.randint(3, 12))) + ".\n" for _ in range(count))


def write_corpus(
    folder: Path, train: dict[str, str] | None = None, valid: str | None = None, test: str | None = None
) -> Path:
    """A corpus folder; what is not given is a few sentences."""
    train = {"1.txt": sentences(60), "2.txt": sentences(50, seed=2)} if train is None else train
    files = {f"train/{name}": text for name, text in train.items()}
    files["valid.txt"] = sentences(30, seed=3) if valid is None else valid
    files["test.txt"] = sentences(30, seed=4) if test is None else test
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return folder


def found(path: Path) -> TextFile:
    """A file as `find_corpus` finds it."""
    status = path.stat()
    return TextFile(str(path), path.name, status.st_size, f"{status.st_size} {status.st_mtime_ns}")


def encoded_text(
    folder: Path, documents: Sequence[Sequence[int]], name: str = "text", dtype: type = np.uint8
) -> EncodedText:
    """Documents of ids as a cache entry."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.array([item for document in documents for item in document], dtype=dtype)
    ends = np.array(list(accumulate(map(len, documents))), dtype=np.int64)
    ids.tofile(folder / "ids.bin")
    ends.tofile(folder / "ends.bin")
    return EncodedText(folder, name, ids.dtype, len(ids), len(ends), unknown_total=0, unknown={})
