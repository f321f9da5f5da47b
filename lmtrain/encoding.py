"""Text → ids, once: every file becomes two memory-mapped arrays in a cache, the ids and where documents end."""

import hashlib
import json
import logging
import shutil
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np

from lmtrain.corpus import TextFile, document_blocks, read_text
from lmtrain.dictionary import Dictionary, code_points
from lmtrain.errors import UserError
from lmtrain.files import claimed, replacing, unfinished_name

log = logging.getLogger(__name__)

_FORMAT = 4  # of the cache; raise it whenever the same text would give other files


@dataclass(frozen=True)
class Reading:
    """How text is read, whatever the dictionary.

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
                ends = ends[:-1]  # it goes on in the next block
            yield block, ends[np.diff(ends, prepend=0) > 0] if words else ends


@dataclass(frozen=True)
class EncodedText:
    """A file's ids and document ends on disk.

    Args:
        folder: holds `ids.bin` (type `dtype`) and `ends.bin` (int64: after which item each document ends).
        name: the text file's name, for messages.
        dtype: of the ids.
        items: how many there are.
        documents: how many there are.
        unknown: how often each item without an id occurs (the most frequent thousand).
        unknown_total: how often all of them occur.
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
        """CRC-32 of the ids, from when they were written."""
        return _read_checked(self.folder / "meta.json")["checksums"]["ids.bin"]

    def ends(self) -> np.ndarray:
        """The document ends, int64 `(documents,)`, increasing, memory-mapped for as long as the array lives."""
        return _map(self.folder / "ends.bin", np.dtype(np.int64), self.documents)


def _map(path: Path, dtype: np.dtype, length: int) -> np.ndarray:
    if not length:
        return np.empty(0, dtype)
    try:
        return np.memmap(path, dtype=dtype, mode="r", shape=(length,))
    except (OSError, ValueError) as error:  # somebody has removed it, or cut it off
        raise UserError(
            f"{path} in the cache cannot be read any more: {getattr(error, 'strerror', None) or error}. The same "
            "command goes on from the last checkpoint; it encodes again what is missing."
        ) from None


def count_items(
    file: TextFile, reading: Reading, cache_dir: Path, progress: Callable[[int], None] = lambda _: None
) -> Counter[str]:
    """How often each item occurs in a file; counted once, then taken from the cache."""
    path = cache_dir / f"counts-{_key(file, reading)}.json"
    try:
        return Counter(_read_checked(path))
    except (OSError, ValueError):
        pass
    log.info("Counting the %ss of %s", reading.level, file.name)
    if reading.level == "word":
        counts: Counter[str] = Counter()
        for words, _ in reading.items(file, progress):
            counts.update(words)
    else:
        totals = np.zeros(0x110000, dtype=np.int64)
        for codes, _ in reading.items(file, progress):
            block = np.bincount(codes)
            totals[: len(block)] += block
        counts = Counter({chr(code): int(totals[code]) for code in np.flatnonzero(totals)})
    with replacing(path, removes_left=False) as unfinished:
        _write_checked(unfinished, counts)
    return counts


def encode_file(file: TextFile, reading: Reading, dictionary: Dictionary, cache_dir: Path) -> EncodedText:
    """Encodes a file, or finds it encoded in the cache.

    The cache entry is named by all that determines it and checked against its checksums; one that is
    damaged is built again. Entries appear whole, so runs that build the same one at once don't disturb each other.

    Raises:
        UserError: the file cannot be read, or has items that a dictionary without `<unk>` does not know.
    """
    folder = cache_dir / _key(file, reading, dictionary.fingerprint)
    there_before = folder.exists()
    encoded = open_encoded(folder, file.name)
    if encoded and _checksums(folder) == _read_checked(folder / "meta.json")["checksums"]:
        return encoded
    if there_before:  # one that has appeared since is whole, and another process's
        log.warning("The cache of %s in %s is damaged and is built again", file.name, folder)
        shutil.rmtree(folder)
    log.info("Encoding %s (%s bytes) into %s", file.name, f"{file.size:,}", folder)
    unfinished = cache_dir / unfinished_name(folder.name)
    try:
        unfinished.mkdir(parents=True, exist_ok=True)
        with claimed(unfinished):
            _write(unfinished, file, reading, dictionary)
            try:
                unfinished.rename(folder)
            except OSError:
                if open_encoded(folder, file.name) is None:  # else another run was first, with the same content
                    raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return open_encoded(folder, file.name)


def open_encoded(folder: Path, name: str) -> EncodedText | None:
    """The cache entry in a folder if it is there and its files have the right sizes."""
    try:
        meta = _read_checked(folder / "meta.json")
        dtype = np.dtype(meta["dtype"])
        sizes = (folder / "ids.bin").stat().st_size, (folder / "ends.bin").stat().st_size
        if sizes != (meta["items"] * dtype.itemsize, meta["documents"] * 8):
            return None
        return EncodedText(
            folder, name, dtype, meta["items"], meta["documents"], meta["unknown_total"], meta["unknown"]
        )
    except (OSError, ValueError):
        return None


def _read_checked(path: Path) -> dict:
    """What `_write_checked` wrote; raises `ValueError` if the file was damaged since."""
    checksum, _, content = path.read_text(encoding="ascii").partition("\n")
    if checksum != str(zlib.crc32(content.encode())):
        raise ValueError(f"{path} is damaged")
    return json.loads(content)


def _write_checked(path: Path, values: dict) -> None:
    content = json.dumps(values)
    path.write_text(f"{zlib.crc32(content.encode())}\n{content}", encoding="ascii")


def _key(file: TextFile, reading: Reading, *more: str) -> str:
    parts = [_FORMAT, file.url, file.stamp, reading.level, reading.document_delimiter, reading.errors, *more]
    if reading.encoding:
        parts.append(f"encoding {reading.encoding}")
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _checksums(folder: Path) -> dict[str, int]:
    """CRC-32 of the two arrays."""

    def checksum(name: str) -> int:
        value = 0
        with (folder / name).open("rb") as file:
            while data := file.read(8 << 20):
                value = zlib.crc32(data, value)
        return value

    return {name: checksum(name) for name in ("ids.bin", "ends.bin")}


def _write(folder: Path, file: TextFile, reading: Reading, dictionary: Dictionary) -> None:
    items = documents = 0
    unknown: Counter[str] = Counter()
    with (folder / "ids.bin").open("wb") as ids_file, (folder / "ends.bin").open("wb") as ends_file:
        for block, ends in reading.items(file):
            ids = dictionary.encode_words(block) if isinstance(block, list) else dictionary.encode_code_points(block)
            _count_unknown(unknown, block, dictionary.are_unknown(block, ids))
            ids_file.write(ids.tobytes())
            ends_file.write((ends + items).tobytes())
            items += len(ids)
            documents += len(ends)
    if unknown and not dictionary.has_unk:
        raise UserError(_without_unk(file, dictionary, unknown))
    meta = {
        "source": file.url,
        "dtype": str(dictionary.dtype),
        "items": items,
        "documents": documents,
        "unknown_total": unknown.total(),
        "unknown": dict(unknown.most_common(1000)),
        "checksums": _checksums(folder),
    }
    _write_checked(folder / "meta.json", meta)


def _count_unknown(unknown: Counter[str], block: np.ndarray | list[str], is_unknown: np.ndarray) -> None:
    if not is_unknown.any():
        return
    if isinstance(block, list):
        unknown.update(block[index] for index in np.flatnonzero(is_unknown))
    else:
        codes, counts = np.unique(block[is_unknown], return_counts=True)
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            unknown[chr(code)] += count


def _without_unk(file: TextFile, dictionary: Dictionary, unknown: Counter[str]) -> str:
    examples = " ".join(repr(item) for item, _ in unknown.most_common(10))
    return (
        f"{file.url}: {unknown.total():,} items are not in the dictionary ({len(dictionary)} items), which has no "
        f"<unk> to stand for them; the most frequent: {examples}. Use dictionary=corpus, or a dictionary with <unk>."
    )
