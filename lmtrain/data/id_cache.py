"""Encodes a text file into two memory-mapped arrays on disk: its ids, and where its documents end."""

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lmtrain.data.corpus import TextFile, document_blocks, read_text
from lmtrain.data.dictionary import Dictionary, code_points
from lmtrain.errors import UserError

ARRAYS = ("ids.bin", "ends.bin")
FORMAT = 5  # of the cache; raise it whenever the same text would give other arrays


@dataclass(frozen=True)
class TextFormat:
    """How text is cut into items and documents, before any dictionary.

    Args:
        level: "character", or "word" for items between whitespace, as Flair's `character_level=False`.
        document_delimiter: what ends a document.
        errors: "strict" or "replace", for bytes that are not in the encoding.
        encoding: of text without a byte-order mark; None for UTF-8.
    """

    level: str = "character"
    document_delimiter: str = "\n"
    errors: str = "strict"
    encoding: str | None = None

    def text(self, file: TextFile, progress: Callable[[int], None] = lambda _: None) -> Iterator[str]:
        """The text of a file in pieces of bounded size; `progress` is that of `read_text`."""
        return read_text(file, self.errors, self.encoding, progress)

    def items(
        self, file: TextFile, progress: Callable[[int], None] = lambda _: None
    ) -> Iterator[tuple[np.ndarray | list[str], np.ndarray]]:
        """The items of a file in blocks of bounded size.

        Yields:
            characters as uint32 code points `(N,)`, or N words; and where documents end, int64, counted in
            items from the beginning of the block.
        """
        words = self.level == "word"
        block: np.ndarray | list[str]
        for documents in document_blocks(self.text(file, progress), self.document_delimiter, keep_whole=words):
            if words:
                split = [document.split() for document in documents]
                lengths = list(map(len, split))
                block = [word for document in split for word in document]
            else:
                lengths = list(map(len, documents))
                block = code_points("".join(documents))
            ends = np.fromiter(accumulate(lengths), dtype=np.int64, count=len(lengths))
            if not documents[-1].endswith(self.document_delimiter):
                ends = ends[:-1]  # the last document continues in the next block
            yield block, ends[np.diff(ends, prepend=0) > 0] if words else ends


@dataclass(frozen=True)
class EncodedText:
    """A file's ids and document ends on disk.

    Args:
        folder: holds `ids.bin` (type `dtype`) and `ends.bin` (int64: after which item each document ends).
        name: the text file's name, for messages.
        dtype: of the ids.
        items, documents: how many the text has.
        unknown_total: how many items are not in the dictionary.
        unknown: how often each of these occurs (the most frequent thousand).
    """

    folder: Path
    name: str
    dtype: np.dtype
    items: int
    documents: int
    unknown_total: int
    unknown: dict[str, int] = field(repr=False)

    def ids(self) -> np.ndarray:
        """The ids `(items,)`, memory-mapped for as long as the array lives."""
        return _map(self.folder / "ids.bin", self.dtype, self.items)

    def checksum(self) -> int:
        """CRC-32 of the ids, computed when they were written."""
        return read_checked(self.folder / "meta.json")["checksums"]["ids.bin"]

    def ends(self) -> np.ndarray:
        """The document ends, int64 `(documents,)`, increasing, memory-mapped for as long as the array lives."""
        return _map(self.folder / "ends.bin", np.dtype(np.int64), self.documents)


def _map(path: Path, dtype: np.dtype, length: int) -> np.ndarray:
    if not length:
        return np.empty(0, dtype)
    try:
        return np.memmap(path, dtype=dtype, mode="r", shape=(length,))
    except (OSError, ValueError) as error:  # the file was removed or truncated
        raise UserError(
            f"{path} in the cache cannot be read any more: {getattr(error, 'strerror', None) or error}. Run the same "
            "command again: it goes on from the last checkpoint and makes again what is missing."
        ) from None


def count_piece(
    text_format: TextFormat, file: TextFile, progress: Callable[[int], None] = lambda _: None
) -> Counter[str]:
    """How often each item occurs in a file or a piece of one; `progress` is that of `read_text`."""
    if text_format.level == "word":
        counts: Counter[str] = Counter()
        for words, _ in text_format.items(file, progress):
            counts.update(words)
        return counts
    totals = np.zeros(0x110000, dtype=np.int64)
    for codes, _ in text_format.items(file, progress):
        block = np.bincount(codes)
        totals[: len(block)] += block
    return Counter({chr(code): int(totals[code]) for code in np.flatnonzero(totals)})


class EncodedPiece(NamedTuple):
    """Summary of an encoded piece: items, documents, and how often each item that is not in the dictionary occurs."""

    items: int
    documents: int
    unknown: Counter[str]


def encode_piece(shared: tuple[TextFormat, Dictionary], piece: tuple[TextFile, Path]) -> EncodedPiece:
    """Encodes a file, or a piece of one, in the form that `Pool.map` calls: what all pieces share, and the piece.

    Args:
        shared: how text is read, and the dictionary.
        piece: the file, and the folder to make for its `ids.bin` and `ends.bin`.
    """
    (text_format, dictionary), (file, folder) = shared, piece
    items = documents = 0
    unknown: Counter[str] = Counter()
    folder.mkdir(exist_ok=True)
    with (folder / "ids.bin").open("wb") as ids_file, (folder / "ends.bin").open("wb") as ends_file:
        for block, ends in text_format.items(file):
            ids = dictionary.encode_words(block) if isinstance(block, list) else dictionary.encode_code_points(block)
            _count_unknown(unknown, block, dictionary.are_unknown(block, ids))
            ids_file.write(ids.tobytes())
            ends_file.write((ends + items).tobytes())
            items += len(ids)
            documents += len(ends)
    return EncodedPiece(items, documents, unknown)


def open_encoded(folder: Path, name: str) -> EncodedText | None:
    """The cache entry in a folder, or None if it is missing or its files have wrong sizes."""
    try:
        meta = read_checked(folder / "meta.json")
        dtype = np.dtype(meta["dtype"])
        sizes = (folder / "ids.bin").stat().st_size, (folder / "ends.bin").stat().st_size
        if sizes != (meta["items"] * dtype.itemsize, meta["documents"] * 8):
            return None
        return EncodedText(
            folder, name, dtype, meta["items"], meta["documents"], meta["unknown_total"], meta["unknown"]
        )
    except (OSError, ValueError):
        return None


def read_checked(path: Path) -> dict:
    """The values that `write_checked` wrote; raises `ValueError` if the file was damaged since."""
    checksum, _, content = path.read_text(encoding="ascii").partition("\n")
    if checksum != str(zlib.crc32(content.encode())):
        raise ValueError(f"{path} is damaged")
    return json.loads(content)


def write_checked(path: Path, values: dict) -> None:
    content = json.dumps(values)
    path.write_text(f"{zlib.crc32(content.encode())}\n{content}", encoding="ascii")


def _count_unknown(unknown: Counter[str], block: np.ndarray | list[str], is_unknown: np.ndarray) -> None:
    if not is_unknown.any():
        return
    if isinstance(block, list):
        unknown.update(block[index] for index in np.flatnonzero(is_unknown))
    else:
        codes, counts = np.unique(block[is_unknown], return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            unknown[chr(code)] += count
