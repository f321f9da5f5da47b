"""Documents → runs on disk, sorted by a hash → de-duplicated, shuffled parts.

The hash of a document says which part it belongs to and where it stands there. So neither depends on which other
documents there are, in how many blocks they were read, or where.

1. `write_run` sorts the documents of a block by their order and writes them with an index.
2. `join_runs` makes one run of several, where there are so many that every range would open too many files.
3. `merge` takes one range of the order from all runs, leaves out duplicates, and writes what belongs to each part.
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

# every field stands at a multiple of its size: numpy copies whole columns of others to search in them
_INDEX = np.dtype([("order", "u8"), ("digest", "u8"), ("end", "i8"), ("characters", "i4"), ("copies", "i4")])
PARTS = ("train", "valid", "test")
_WHOLE = 1 << 64
_SHARE, _ENOUGH = 0.01, 10_000_000  # of the text to validate on, and to test on; bytes
_PIECE = 32 << 20  # bytes of text that are joined at a time
_written = partial(atomic_write, removes_left=False)  # what is left goes with the folder


@dataclass(frozen=True)
class Dealing:
    """Which part a document belongs to, and in which order the parts are.

    Args:
        valid, test: the shares of the documents that validate and test; None for 1 %, of a large text for less, see
            `settled`.
        seed: of the order. The part doesn't depend on it.
        deduplicate: keep one of equal documents.
        max_copies: leave out documents of which there are more than so many equal ones, such as what stands on every
            page of a site; None for no limit.
        near_duplicates: keep one of documents that are almost equal.
    """

    valid: float | None = None
    test: float | None = None
    seed: int = 1
    deduplicate: bool = True
    max_copies: int | None = None
    near_duplicates: bool = False

    def settled(self, size: float) -> "Dealing":
        """With the shares that are taken of a text of so many bytes, where none are given.

        The model is validated after every split, so that the same share of more text would take more and more of the
        time. So 1 % is halved until 10 MB or less are left: what validates then did so with less text, too.
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
    numbers = numbers + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % _WHOLE)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _parts(digests: np.ndarray, dealing: Dealing) -> np.ndarray:
    """Validation is taken from the bottom and test from the top: either may grow without the other changing."""
    parts = np.zeros(len(digests), dtype=np.uint8)
    parts[digests < np.uint64(int(dealing.valid * _WHOLE))] = 1
    parts[~digests < np.uint64(int(dealing.test * _WHOLE))] = 2
    return parts


def write_run(path: Path, documents: list[str], delimiter: str, dealing: Dealing, number: int) -> int:
    """Writes `path`.text and `path`.npy: documents in their order, of equal ones (if de-duplicating) the first.

    Args:
        number: distinguishes equal documents of different runs.

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
    with _written(path.with_suffix(".text")) as unfinished, unfinished.open("wb") as file:
        file.writelines(encoded[place] + end for place in chosen)
    with _written(path.with_suffix(".index")) as unfinished:
        index.tofile(unfinished)
    if dealing.near_duplicates:
        with _written(path.with_suffix(".bands.npy")) as unfinished, unfinished.open("wb") as file:
            np.save(file, bands([documents[place] for place in chosen], index["order"]))
    return int(index["end"][-1])


def _is_first(*keys: np.ndarray) -> np.ndarray:
    """Which of sorted rows differ from the one before."""
    differs = np.ones(len(keys[0]), dtype=bool)
    differs[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return differs


def open_index(run: Path) -> np.ndarray:
    """The index of a run, memory-mapped."""
    return np.memmap(run.with_suffix(".index"), _INDEX, mode="r")


def _select(runs: Iterable[Path], low: int, high: int, deduplicate: bool) -> tuple[np.ndarray, ...]:
    """The documents of all runs whose order is in [low, high), in order.

    Returns:
        their index, the number of the run that each is in, where it begins there, and whether it is the first of
        equal ones, which has the copies of all.
    """
    pieces, runs_of_pieces, begins = [], [], []
    for number, run in enumerate(runs):
        index = open_index(run)
        order = index["order"]
        first = int(np.searchsorted(order, np.uint64(low)))
        last = int(np.searchsorted(order, np.uint64(high))) if high < _WHOLE else len(order)
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
    """Which share of the runs' bytes remains without duplicates; estimated from about a million documents."""
    if not dealing.deduplicate or not documents:
        return 1.0
    high = min(_WHOLE, _WHOLE * 1_000_000 // documents)
    index, _, starts, keep = _select(runs, 0, high, True)
    lengths = index["end"] - starts
    return float(lengths[keep].sum() / max(1, lengths.sum()))


def join_runs(runs: list[Path], path: Path, deduplicate: bool) -> None:
    """Makes one run of several, with the duplicates left out; holds 32 MB of text and its index in memory."""
    pieces = math.ceil(sum(run.with_suffix(".text").stat().st_size for run in runs) / _PIECE)
    end = 0
    with (
        _written(path.with_suffix(".text")) as unfinished,
        _written(path.with_suffix(".index")) as unfinished_index,
        unfinished.open("wb") as file,
        unfinished_index.open("wb") as index_file,
    ):
        for number in range(pieces):
            low, high = number * _WHOLE // pieces, (number + 1) * _WHOLE // pieces
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

    Files of parts that have no document in the range are not written.

    Args:
        repeated: what `write_repeated` wrote of near-duplicates.

    Returns:
        documents, characters and bytes of each part, and of what is left out of all: "max_copies" and
        "near_duplicates"; the bytes with delimiters.
    """
    low, high = number * _WHOLE // count, (number + 1) * _WHOLE // count
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
            with _written(places[name]) as unfinished, unfinished.open("wb") as file:
                file.writelines(texts[place] for place in chosen.tolist())
        counts[name] = _counted(index[chosen], starts[chosen])
    return counts


def _counted(index: np.ndarray, starts: np.ndarray) -> tuple[int, int, int]:
    return len(index), int(index["characters"].sum()), int((index["end"] - starts).sum())


def _are_in(orders: np.ndarray, repeated: Iterable[Path]) -> np.ndarray:
    """Which of sorted orders are in one of the files."""
    found = np.zeros(len(orders), dtype=bool)
    for path in repeated if len(orders) else ():
        values = np.load(path, mmap_mode="r")
        first, last = np.searchsorted(values, orders[0]), np.searchsorted(values, orders[-1], side="right")
        found |= np.isin(orders, values[first:last])
    return found


def _read_documents(runs: list[Path], numbers: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> list[bytes]:
    """The bytes of the documents, run by run, so that no more than they and one run's range are in memory."""
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
