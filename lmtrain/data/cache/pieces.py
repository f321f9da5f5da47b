"""Cuts a large text file between documents, so that several processes can encode it, and joins the encoded pieces."""

import os
import shutil
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lmtrain.data.corpus import TextFile
from lmtrain.data.dictionary import Dictionary
from lmtrain.data.formats.encodings import encoding_of
from lmtrain.data.formats.streams import compression
from lmtrain.data.id_cache import ARRAYS, EncodedPiece, EncodedText, read_checked, write_checked
from lmtrain.errors import UserError

PIECE_BYTES = 16 << 20
_SEARCHED_BYTES = 1 << 16  # at once


def cut_pieces(file: TextFile, delimiter: str, size: int = PIECE_BYTES) -> list[TextFile]:
    """A file of more than four pieces' size in pieces of about equal size; read in order, they give the same documents.

    A compressed or remote file, or one in UTF-16, is one piece. A piece is longer where there is no place to cut.

    Args:
        delimiter: what ends a document.
        size: of a piece, in bytes.

    Raises:
        OSError: the file cannot be read.
    """
    mark = delimiter.encode("utf-8", "surrogatepass")
    if "://" in file.url or file.size <= 4 * size or set(delimiter) & {"\r", "\ufffd"}:  # which decoding changes
        return [file]
    with open(file.url, "rb") as stream:
        head = stream.read(10)
        if compression(head) or encoding_of(head, file.url):
            return [file]
        cuts, place = [0], size
        while place < file.size:
            cut = _next_cut(stream, place, mark)
            if cut is None or cut >= file.size:
                break
            cuts.append(cut)
            place = cut + size
    stops = [*cuts[1:], file.size]
    if len(cuts) == 1:
        return [file]
    return [replace(file, stretch=stretch, size=stretch[1] - stretch[0]) for stretch in zip(cuts, stops, strict=True)]


def _next_cut(stream: BinaryIO, place: int, mark: bytes) -> int | None:
    """Where the first delimiter ends that begins at or after a place and does not overlap another one before it."""
    length = len(mark)
    begin = max(0, place - length)  # of the block, which includes what is just before the place
    stream.seek(begin)
    block = stream.read(length)
    while data := stream.read(_SEARCHED_BYTES):
        block += data
        found = block.find(mark, length)
        while found >= 0:
            before = block[found - length : found]
            if mark not in (before + mark)[1:-1] and (length == 1 or b"\r" not in before):
                return begin + found + length
            found = block.find(mark, found + 1)
        begin += len(block[: -2 * length])
        block = block[-2 * length :]
    return None


def join_pieces(
    folder: Path, file: TextFile, dictionary: Dictionary, pieces: Iterable[tuple[Path, EncodedPiece]]
) -> None:
    """Joins the encoded pieces, in their order, to one entry of the cache, and removes their folders.

    Raises:
        UserError: there are items that a dictionary without `<unk>` lacks.
    """
    items = documents = 0
    unknown: Counter[str] = Counter()
    checksums = dict.fromkeys(ARRAYS, 0)
    for place, piece in pieces:
        if items == 0:  # the first piece, often the only one, is moved instead of copied
            for name in ARRAYS:
                os.replace(place / name, folder / name)
                checksums[name] = _checksum(folder / name)
        else:
            _append(place, folder, items, checksums)
        shutil.rmtree(place)
        items += piece.items
        documents += piece.documents
        unknown.update(piece.unknown)
    if unknown and not dictionary.has_unk:
        raise UserError(_without_unk(file, dictionary, unknown))
    meta = {
        "source": file.url,
        "dtype": str(dictionary.dtype),
        "items": items,
        "documents": documents,
        "unknown_total": unknown.total(),
        "unknown": dict(_most_common(unknown, 1000)),
        "checksums": checksums,
    }
    write_checked(folder / "meta.json", meta)


def _append(place: Path, folder: Path, items: int, checksums: dict[str, int]) -> None:
    """Appends a piece to those before it, which have `items` items, and updates the checksums."""
    for name in ARRAYS:
        with (folder / name).open("ab") as file:
            for block in _blocks(place / name):
                if name == "ends.bin":
                    block = (np.frombuffer(block, np.int64) + items).tobytes()
                file.write(block)
                checksums[name] = zlib.crc32(block, checksums[name])


def _blocks(path: Path) -> Iterator[bytes]:
    """A file's content in blocks of whole int64 numbers."""
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            yield data


def _checksum(path: Path) -> int:
    value = 0
    for block in _blocks(path):
        value = zlib.crc32(block, value)
    return value


def _most_common(unknown: Counter[str], most: int) -> list[tuple[str, int]]:
    """The most frequent items, ties in the order of code points: the same however the text was cut."""
    return sorted(unknown.items(), key=lambda pair: (-pair[1], pair[0]))[:most]


def is_whole(encoded: EncodedText) -> bool:
    """Whether the arrays are still as they were written, by their checksums; reads all of them."""
    checksums = {name: _checksum(encoded.folder / name) for name in ARRAYS}
    return checksums == read_checked(encoded.folder / "meta.json")["checksums"]


def _without_unk(file: TextFile, dictionary: Dictionary, unknown: Counter[str]) -> str:
    examples = " ".join(repr(item) for item, _ in _most_common(unknown, 10))
    return (
        f"{file.url}: {unknown.total():,} items are not in the dictionary ({len(dictionary)} items), which has no "
        f"<unk> to stand for them; the most frequent: {examples}. Use dictionary=corpus, or a dictionary with <unk>."
    )
