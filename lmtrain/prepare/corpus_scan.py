"""Reads a corpus once and counts its documents, characters, words and duplicates."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lmtrain.data.corpus import TextFile, document_blocks
from lmtrain.data.dictionary import code_points
from lmtrain.data.id_cache import TextFormat
from lmtrain.errors import UserError
from lmtrain.prepare.corpus_quality import Sample

_LONGEST = 1 << 20  # characters; longer documents are counted as so long
_MOST_HASHES = 1 << 25  # 256 MiB


class Hashes:
    """Counts duplicates by the hashes of documents, int64.

    If there are more than `most`, only the hashes in one of `one_in` classes are held, and the number is an estimate.
    """

    def __init__(self, most: int = _MOST_HASHES) -> None:
        self.most = most
        self.one_in = 1
        self._blocks: list[np.ndarray] = []
        self._held = 0

    def add(self, hashes: np.ndarray) -> None:
        self._blocks.append(self._chosen(hashes))
        self._held += len(self._blocks[-1])
        while self._held > self.most:
            self.one_in *= 2
            self._blocks = [self._chosen(block) for block in self._blocks]
            self._held = sum(map(len, self._blocks))

    def _chosen(self, hashes: np.ndarray) -> np.ndarray:
        return hashes[(hashes >> 8) % self.one_in == 0] if self.one_in > 1 else hashes

    def duplicates(self) -> int:
        """How many documents are equal to an earlier one."""
        unique = np.unique(np.concatenate(self._blocks)) if self._blocks else ()
        return (self._held - len(unique)) * self.one_in


@dataclass
class PartScan:
    """The counts of train, valid or test.

    Args:
        name: "train", "valid" or "test".
        bytes: as stored.
        characters: with delimiters.
        documents: how many.
        sizes: items of each file, by name.
        lengths: how many documents have each length in characters, the delimiter not counted.
        codes: how often each code point occurs.
        words: how often each word occurs (word level only).
        word_count: how many words there are.
        duplicates: documents that are equal to an earlier one.
        not_nfc: documents that are not in the Unicode form NFC.
        known: documents of valid or test that occur in train.
        problems: sentences about files that cannot be read or decoded.
        sample: the beginnings of some of the documents.
    """

    name: str
    bytes: int = 0
    characters: int = 0
    documents: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(_LONGEST + 1, dtype=np.int64))
    codes: np.ndarray = field(default_factory=lambda: np.zeros(0x110000, dtype=np.int64))
    words: Counter = field(default_factory=Counter)
    word_count: int = 0
    duplicates: int = 0
    not_nfc: int = 0
    known: int = 0
    problems: list[str] = field(default_factory=list)
    sample: Sample = field(default_factory=Sample)

    def percentile(self, share: float) -> int:
        """The length that this share of the documents does not exceed."""
        return int(np.searchsorted(np.cumsum(self.lengths), share * self.lengths.sum()))

    def size(self, level: str) -> int:
        """How many items there are."""
        return self.word_count if level == "word" else self.characters

    def items(self, level: str) -> Counter[str]:
        """How often each item occurs."""
        if level == "word":
            return self.words
        return Counter({chr(code): int(self.codes[code]) for code in np.flatnonzero(self.codes)})


def scan_corpus(
    files: Mapping[str, Sequence[TextFile]], text_format: TextFormat, progress=lambda *_: None
) -> dict[str, PartScan]:
    """Scans the parts of a corpus. Bytes that cannot be decoded are a problem of the part, and read as U+FFFD.

    Args:
        files: of each part; "train" is compared with the others.
        progress: called with how many bytes (as stored) have been read since the last call.
    """
    held_out = {part: _scan_part(part, files[part], text_format, progress) for part in files if part != "train"}
    hashes = {part: np.sort(np.concatenate([*blocks, np.empty(0, np.int64)])) for part, (_, blocks) in held_out.items()}
    found = {part: np.zeros(len(values), dtype=bool) for part, values in hashes.items()}

    def compare(block: np.ndarray) -> None:
        for part, values in hashes.items():
            if len(values):
                places = np.minimum(np.searchsorted(values, block), len(values) - 1)
                found[part][places[values[places] == block]] = True

    train, _ = _scan_part("train", files["train"], text_format, progress, compare)
    for part, (scan, _) in held_out.items():
        known = hashes[part][found[part]]
        scan.known = int(np.isin(hashes[part], known).sum())
    return {"train": train} | {part: scan for part, (scan, _) in held_out.items()}


def _scan_part(
    part: str, files: Sequence[TextFile], text_format: TextFormat, progress, compare=None
) -> tuple[PartScan, list[np.ndarray]]:
    """Scans a part.

    Args:
        compare: called with the hashes of each block's documents, instead of keeping them.

    Returns:
        the counts; and the hashes, if they are kept.
    """
    scan, hashes, kept = PartScan(part), Hashes(), []
    for file in files:
        before, begun = scan.size(text_format.level), 0
        at = _Position(max(0, file.size), progress)
        for documents in _documents(file, text_format, scan, at):
            begun, ended = _count(scan, documents, begun, text_format)
            block = np.fromiter(map(hash, ended), np.int64, len(ended))
            hashes.add(block)
            scan.sample.add(ended)
            if compare:
                compare(block)
            else:
                kept.append(block)
        scan.bytes += max(0, file.size)
        scan.sizes[file.name] = scan.size(text_format.level) - before
        at(file.size)
    scan.duplicates = hashes.duplicates()
    return scan, kept


class _Position:
    """Called with a position in a file, tells `progress` how many bytes were read since the call before."""

    def __init__(self, size: int, progress: Callable[[int], None]) -> None:
        self._size, self._progress, self._last = size, progress, 0

    def __call__(self, place: int) -> None:
        place = min(place, self._size)
        if place > self._last:
            self._progress(place - self._last)
            self._last = place


def _documents(
    file: TextFile, text_format: TextFormat, scan: PartScan, at: Callable[[int], None]
) -> Iterator[list[str]]:
    """The documents of a file in blocks, with their delimiters; a very long document comes in several pieces.

    The file is decoded twice: whether it can be decoded must be known before the first of its documents is counted.
    """
    try:
        for _ in text_format.text(file, lambda place: at(place // 2)):
            pass
    except UserError as error:
        scan.problems += error.problems
        if "is not UTF-8" not in str(error):
            return
        text_format = replace(text_format, errors="replace")
    pieces = text_format.text(file, lambda place: at((file.size + place) // 2))
    yield from document_blocks(pieces, text_format.document_delimiter, keep_whole=text_format.level == "word")


def _count(scan: PartScan, documents: list[str], begun: int, text_format: TextFormat) -> tuple[int, list[str]]:
    """Counts a block of documents.

    Args:
        begun: how many characters of the first document earlier blocks had.

    Returns:
        how many characters of the last document this and earlier blocks have if it continues in the next one, else 0;
        and the documents that end in this block.
    """
    text, delimiter = "".join(documents), text_format.document_delimiter
    lengths = np.fromiter(map(len, documents), np.int64, len(documents))
    lengths[0] += begun
    begun = 0
    if not documents[-1].endswith(delimiter):
        begun, lengths, documents = int(lengths[-1]), lengths[:-1], documents[:-1]
    scan.documents += len(documents)
    scan.characters += len(text)
    of_each = np.bincount(np.minimum(lengths - len(delimiter), _LONGEST))
    scan.lengths[: len(of_each)] += of_each
    codes = np.bincount(code_points(text))
    scan.codes[: len(codes)] += codes
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        scan.not_nfc += sum(not unicodedata.is_normalized("NFC", document) for document in documents)
    if text_format.level == "word":
        words = [word for document in documents for word in document.split()]
        scan.words.update(words)
        scan.word_count += len(words)
    return begun, documents
