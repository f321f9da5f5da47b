"""Documents → runs on disk, sorted by a hash → de-duplicated, shuffled parts: train, valid and test.

The hash of a document alone decides its part and its place there. So neither depends on the other documents, on the
number of blocks in which they were read, or on the process that read them.

1. `write_run` sorts the documents of a block by their order, a 64-bit hash, and writes them with an index: a run.
2. `join_runs` makes one run of several; without it, many runs would be open at once for each range.
3. `merge` takes one range of the order from all runs, leaves out duplicates, and writes the documents of each part.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from lmtrain.prepare.near_duplicates import bands
from lmtrain.program.files import atomic_write

# Each field lies at a multiple of its size: to search in a column that does not, numpy copies all of it.
_INDEX = np.dtype([("order", "u8"), ("digest", "u8"), ("end", "i8"), ("characters", "i4"), ("copies", "i4")])
PARTS = ("train", "valid", "test")
_ORDERS = 1 << 64  # values of a hash
_SHARE = 0.01  # of the text to validate on, and of that to test on
_ENOUGH = 10_000_000  # bytes to validate on
_JOINED_BYTES = 32 << 20  # of text that are joined at a time
_atomic_write = partial(atomic_write, removes_left=False)  # unfinished files are removed with the whole folder


@dataclass(frozen=True)
class Dealing:
    """Which part a document belongs to, which duplicates are left out, and how documents are shuffled.

    Args:
        valid, test: the shares of the documents to validate and to test on; None for 1 % or less, see `settled`.
        seed: of the order. The part doesn't depend on it.
        deduplicate: keep one of equal documents.
        max_copies: leave out documents that occur more often than that, such as the imprint on every page of a site;
            None for no limit.
        near_duplicates: keep one of documents that are almost equal.
    """

    valid: float | None = None
    test: float | None = None
    seed: int = 1
    deduplicate: bool = True
    max_copies: int | None = None
    near_duplicates: bool = False

    def settled(self, size: float) -> "Dealing":
        """The same with numbers for the shares that are None.

        The model is validated after every split, so the same share of a larger text would take more and more of the
        training time: 1 % is halved until it is 10 MB or less. Halving keeps a document that validates a large text
        among those that validate a smaller one.

        Args:
            size: bytes of the text without duplicates.
        """
        halvings = math.ceil(math.log2(max(1.0, size * _SHARE / _ENOUGH)))
        share = _SHARE / 2**halvings
        return replace(
            self,
            valid=share if self.valid is None else self.valid,
            test=share if self.test is None else self.test,
        )


def _mixed(numbers: np.ndarray, seed: int) -> np.ndarray:
    """A bijection of uint64 numbers (SplitMix64), another one for every seed."""
    numbers = numbers + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % _ORDERS)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _parts(digests: np.ndarray, dealing: Dealing) -> np.ndarray:
    """The index in `PARTS` of each digest: the lowest are valid, the highest test, so that one share may grow without
    a change of the other part."""
    parts = np.zeros(len(digests), dtype=np.uint8)
    parts[digests < np.uint64(int(dealing.valid * _ORDERS))] = 1
    parts[~digests < np.uint64(int(dealing.test * _ORDERS))] = 2
    return parts


def write_run(path: Path, documents: list[str], delimiter: str, dealing: Dealing, number: int) -> int:
    """Writes documents in their order, each followed by the delimiter, to `path`.text, and about them `path`.index.

    With `dealing.deduplicate` one of equal documents is written, with their number in the index. With
    `dealing.near_duplicates`, `path`.bands.npy is written, too.

    Args:
        documents: at least one.
        number: of the run; gives equal documents of different runs different orders where duplicates are kept.

    Returns:
        the bytes of the text.
    """
    encoded = [document.encode() for document in documents]
    hashes = b"".join([hashlib.blake2b(data, digest_size=16).digest() for data in encoded])
    digests = np.frombuffer(hashes, dtype="<u8").reshape(-1, 2)
    order = _mixed(digests[:, 1], dealing.seed)
    if not dealing.deduplicate:
        order = _mixed(order ^ _mixed(np.arange(len(order), dtype=np.uint64), number + 1), dealing.seed)
    places = np.lexsort((digests[:, 0], order))
    copies = np.ones(len(places), dtype=np.int32)
    if dealing.deduplicate:
        first = np.flatnonzero(_is_first(order[places], digests[places, 0]))
        places, copies = places[first], np.diff(first, append=len(places))
    index = np.empty(len(places), dtype=_INDEX)
    index["order"], index["digest"] = order[places], digests[places, 0]
    index["copies"] = copies
    chosen, end = places.tolist(), delimiter.encode()
    index["end"] = np.cumsum([len(encoded[place]) + len(end) for place in chosen])
    index["characters"] = [len(documents[place]) for place in chosen]
    with _atomic_write(path.with_suffix(".text")) as unfinished, unfinished.open("wb") as file:
        file.writelines(encoded[place] + end for place in chosen)
    with _atomic_write(path.with_suffix(".index")) as unfinished:
        index.tofile(unfinished)
    if dealing.near_duplicates:
        with _atomic_write(path.with_suffix(".bands.npy")) as unfinished, unfinished.open("wb") as file:
            np.save(file, bands([documents[place] for place in chosen], index["order"]))
    return int(index["end"][-1])


def _is_first(*keys: np.ndarray) -> np.ndarray:
    """bool `(rows,)`: which of sorted rows differ from the row before; the keys are the rows' columns."""
    differs = np.ones(len(keys[0]), dtype=bool)
    differs[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return differs


def open_index(run: Path) -> np.ndarray:
    """The index of a run, memory-mapped."""
    return np.memmap(run.with_suffix(".index"), _INDEX, mode="r")


def _select(runs: Iterable[Path], low: int, high: int, deduplicate: bool) -> tuple[np.ndarray, ...]:
    """The documents of all runs whose order is in [low, high), in order.

    Returns:
        their index; the number of each one's run; the byte at which it begins in the run's text; and whether it is the
        first of equal documents, whose "copies" are then the sum over all of them.
    """
    pieces, runs_of_pieces, begins = [], [], []
    for number, run in enumerate(runs):
        index = open_index(run)
        order = index["order"]
        first = int(np.searchsorted(order, np.uint64(low)))
        last = int(np.searchsorted(order, np.uint64(high))) if high < _ORDERS else len(order)
        piece = np.array(index[first:last])
        begin = int(index["end"][first - 1]) if first else 0
        pieces.append(piece)
        runs_of_pieces.append(np.full(len(piece), number))
        begins.append(np.concatenate([[begin], piece["end"][:-1]])[: len(piece)])
    index, numbers, starts = np.concatenate(pieces), np.concatenate(runs_of_pieces), np.concatenate(begins)
    places = np.lexsort((starts, numbers, index["digest"], index["order"]))
    index, numbers, starts = index[places], numbers[places], starts[places]
    keep = _is_first(index["order"], index["digest"]) if deduplicate else np.ones(len(index), dtype=bool)
    if len(index):
        index["copies"][keep] = np.add.reduceat(index["copies"], np.flatnonzero(keep))
    return index, numbers, starts, keep


def unique_share(runs: list[Path], documents: int, dealing: Dealing) -> float:
    """The share of the runs' bytes that de-duplication keeps, estimated from about a million of the documents."""
    if not dealing.deduplicate or not documents:
        return 1.0
    high = min(_ORDERS, _ORDERS * 1_000_000 // documents)
    index, _, starts, keep = _select(runs, 0, high, True)
    lengths = index["end"] - starts
    return float(lengths[keep].sum() / max(1, lengths.sum()))


def join_runs(runs: list[Path], path: Path, deduplicate: bool) -> None:
    """Makes one run of several, without duplicates if so asked; holds 32 MB of text and its index in memory."""
    pieces = math.ceil(sum(run.with_suffix(".text").stat().st_size for run in runs) / _JOINED_BYTES)
    end = 0
    with (
        _atomic_write(path.with_suffix(".text")) as unfinished,
        _atomic_write(path.with_suffix(".index")) as unfinished_index,
        unfinished.open("wb") as file,
        unfinished_index.open("wb") as index_file,
    ):
        for number in range(pieces):
            low, high = number * _ORDERS // pieces, (number + 1) * _ORDERS // pieces
            index, numbers, starts, keep = _select(runs, low, high, deduplicate)
            index, numbers, starts = index[keep], numbers[keep], starts[keep]
            file.writelines(_read_documents(runs, numbers, starts, index["end"]))
            index["end"] = end + np.cumsum(index["end"] - starts)
            end = int(index["end"][-1]) if len(index) else end
            index_file.write(index.tobytes())


def merge(
    runs: list[Path],
    number: int,
    count: int,
    places: dict[str, Path],
    dealing: Dealing,
    repeated: Iterable[Path] = (),
) -> dict[str, tuple[int, int, int]]:
    """Writes the documents in one of `count` equal ranges of the order to the files of their parts.

    Args:
        number: of the range, from 0.
        places: the file of each part; it is not written if the range has no document of the part.
        repeated: the files of near-duplicates, by `write_repeated`.

    Returns:
        documents, characters, and bytes with delimiters: of each part, and of the documents that "max_copies" and
        "near_duplicates" left out.
    """
    low, high = number * _ORDERS // count, (number + 1) * _ORDERS // count
    index, numbers, starts, keep = _select(runs, low, high, dealing.deduplicate)
    index, numbers, starts = index[keep], numbers[keep], starts[keep]
    often = index["copies"] > (dealing.max_copies or np.inf)
    near = ~often & _are_in(index["order"], repeated)
    counts = {
        "max_copies": _counted(index[often], starts[often]),
        "near_duplicates": _counted(index[near], starts[near]),
    }
    keep = ~(often | near)
    index, numbers, starts = index[keep], numbers[keep], starts[keep]
    texts = _read_documents(runs, numbers, starts, index["end"])
    parts = _parts(index["digest"], dealing)
    for part, name in enumerate(PARTS):
        chosen = np.flatnonzero(parts == part)
        if len(chosen):
            with _atomic_write(places[name]) as unfinished, unfinished.open("wb") as file:
                file.writelines(texts[place] for place in chosen.tolist())
        counts[name] = _counted(index[chosen], starts[chosen])
    return counts


def _counted(index: np.ndarray, starts: np.ndarray) -> tuple[int, int, int]:
    return len(index), int(index["characters"].sum()), int((index["end"] - starts).sum())


def _are_in(orders: np.ndarray, repeated: Iterable[Path]) -> np.ndarray:
    """bool `(orders,)`: which of sorted orders are in one of the files."""
    found = np.zeros(len(orders), dtype=bool)
    for path in repeated if len(orders) else ():
        values = np.load(path, mmap_mode="r")
        first, last = np.searchsorted(values, orders[0]), np.searchsorted(values, orders[-1], side="right")
        found |= np.isin(orders, values[first:last])
    return found


def _read_documents(runs: list[Path], numbers: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> list[bytes]:
    """The bytes of the documents. Runs are read one after the other, so that only one run's range is held besides."""
    texts: list[bytes] = [b""] * len(numbers)
    by_run = np.argsort(numbers, kind="stable")
    bounds = np.searchsorted(numbers[by_run], np.arange(len(runs) + 1))
    for number, run in enumerate(runs):
        places = by_run[bounds[number] : bounds[number + 1]]
        if not len(places):
            continue
        begin, end = int(starts[places].min()), int(ends[places].max())
        with run.with_suffix(".text").open("rb") as file:
            file.seek(begin)
            data = file.read(end - begin)
        rows = zip(places.tolist(), (starts[places] - begin).tolist(), (ends[places] - begin).tolist(), strict=True)
        for place, start, stop in rows:
            texts[place] = data[start:stop]
    return texts
