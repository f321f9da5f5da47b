"""Texts to prepare, and readers of the corpora that come out."""

import random
from functools import partial
from pathlib import Path

from lmtrain.data.corpus import document_blocks, find_corpus, read_text
from lmtrain.prepare.folder import prepare_corpus
from lmtrain.prepare.options import PrepareOptions
from lmtrain.prepare.shuffling import Dealing

PARTS = ("train", "valid", "test")
prepare = partial(prepare_corpus, workers=1)


def lines(count: int, seed: int = 1) -> list[str]:
    """Different lines, with letters of one to four bytes."""
    source = random.Random(seed)
    return [
        f"{number} " + "".join(source.choices("aöя語😀 ", k=source.randint(1, 60))) + "." for number in range(count)
    ]


def options(**changes) -> PrepareOptions:
    return PrepareOptions(**({"dealing": Dealing(0.1, 0.1)} | changes))


def documents_of(folder: Path, delimiter: str = "\n") -> dict[str, list[str]]:
    """The documents of each part, as training reads them."""
    corpus = find_corpus(str(folder))
    return {
        part: [
            document.removesuffix(delimiter)
            for file in getattr(corpus, part)
            for block in document_blocks(read_text(file), delimiter)
            for document in block
        ]
        for part in PARTS
    }


def everything(folder: Path, delimiter: str = "\n") -> list[str]:
    return sorted(document for part in documents_of(folder, delimiter).values() for document in part)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def texts(folder: Path) -> dict[str, bytes]:
    """The files of a folder without the manifest, which names the sources."""
    return {name: data for name, data in content(folder).items() if name != "manifest.json"}


def write_parquet(path: Path, rows: list[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": range(len(rows) + 1), "text": [*rows, None]}), path, row_group_size=100)
