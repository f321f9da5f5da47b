"""Splits → windows: order, shuffle, case flip, lanes, windows, and the IterableDataset over them.

1. `cut_splits` turns encoded files into splits of bounded size.
2. `split_order` says in which order an epoch takes them.
3. `read_stream` gives any part of a split's ids, its documents shuffled and some of them lower- or upper-cased.
4. `read_lanes` lays the split out in B equal lanes and gives some of them.
5. `WindowDataset` walks over the lanes in windows of T items, and can begin at any window.

Everything is a function of (seed, epoch, split): nothing is remembered, so every rank and every resumed run
computes the same text.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from lmtrain.data.id_cache import EncodedText

_CHUNK_BYTES = 64  # what documents are copied in
_CHUNKS_AT_ONCE = 1 << 13  # half a megabyte stays in the cache


class Part(NamedTuple):
    """The items from `start` to `stop` of an encoded file."""

    text: EncodedText
    start: int
    stop: int


@dataclass(frozen=True)
class Split:
    """One run of text: the hidden state is carried through it and zeroed where it begins."""

    name: str
    parts: tuple[Part, ...]

    def __len__(self) -> int:
        return sum(part.stop - part.start for part in self.parts)

    def ids(self, start: int, stop: int) -> np.ndarray:
        """The ids `(stop - start,)`, without reading the others."""
        found, before = [], 0
        for text, begin, end in self.parts:
            low, high = max(start - before, 0) + begin, min(stop - before, end - begin) + begin
            if low < high:
                found.append(text.ids()[low:high])
            before += end - begin
        return np.concatenate(found) if found else np.empty(0, self.parts[0].text.dtype)

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """The ids `(N,)`, memory-mapped where the split is one part, and the document ends `(n,)`, the last being N."""
        ids, ends, before = [], [], 0
        for text, start, stop in self.parts:
            all_ends = text.ends()
            first, last = np.searchsorted(all_ends, [start, stop], side="right")
            inside = all_ends[first:last]
            if first == last or inside[-1] != stop:
                inside = np.append(inside, stop)  # the split ends within a document
            ends.append(inside - start + before)
            ids.append(text.ids()[start:stop])
            before += stop - start
        return (ids[0], ends[0]) if len(ids) == 1 else (np.concatenate(ids), np.concatenate(ends))


@dataclass(frozen=True)
class Augmentation:
    """What happens to the documents of a training split.

    Args:
        seed: together with the epoch and the split's index it determines all that is random.
        shuffle: put the documents into random order.
        case_tables: lower- and upper-case id of every id (`Dictionary.case_tables`): 1 % of the documents
            each are lower- and upper-cased, as in Flair; None to leave the case alone.
    """

    seed: int
    shuffle: bool = True
    case_tables: tuple[np.ndarray, np.ndarray] | None = None

    def draw(self, epoch: int, split_index: int, documents: int) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The order of the documents, and for each the case: 0 lower, 1 upper, above 1 unchanged."""
        random = np.random.default_rng([self.seed, 1, epoch, split_index])
        order = random.permutation(documents) if self.shuffle else None
        case = random.integers(0, 100, documents, dtype=np.uint8) if self.case_tables else None
        return order, case


def cut_splits(text: EncodedText, max_size: int) -> list[Split]:
    """Cuts a file at document ends into splits of about equal size, none of which exceeds `max_size` items.

    A single document longer than that is cut inside.
    """
    if text.items <= max_size:
        return [Split(text.name, (Part(text, 0, text.items),))]
    ends = text.ends()
    count = math.ceil(text.items / max_size)
    while True:
        marks = (text.items * number // count for number in range(1, count))
        cuts = sorted({0, *(_nearest_cut(ends, mark, max_size) for mark in marks), text.items})
        if max(stop - start for start, stop in pairwise(cuts)) <= max_size:
            break
        count += 1 + count // 10
    return [
        Split(f"{text.name}[{number}]", (Part(text, start, stop),))
        for number, (start, stop) in enumerate(pairwise(cuts))
    ]


def _nearest_cut(ends: np.ndarray, mark: int, max_size: int) -> int:
    """The document end next to a place, or one of the equal parts that a document longer than `max_size` has.

    Looks at a few of the (memory-mapped) ends only, which may be many.
    """
    document = int(np.searchsorted(ends, mark))
    before, after = int(ends[document - 1]) if document else 0, int(ends[document])
    parts = math.ceil((after - before) / max_size)
    part = (mark - before) * parts // (after - before)
    places = (before + (after - before) * number // parts for number in (part, min(part + 1, parts)))
    return min(places, key=lambda place: abs(place - mark))


def split_order(count: int, seed: int, epoch: int) -> list[int]:
    """The order in which an epoch takes the splits: as named in epoch 0, random later (as in Flair)."""
    if epoch == 0:
        return list(range(count))
    return np.random.default_rng([seed, 0, epoch]).permutation(count).tolist()


def read_stream(
    split: Split,
    start: int,
    stop: int,
    augmentation: Augmentation | None = None,
    epoch: int = 0,
    split_index: int = 0,
    backward: bool = False,
) -> np.ndarray:
    """The ids from `start` to `stop` of a split's stream, without computing the rest of it.

    The stream is the documents in their order, or shuffled and case-flipped; of a backward model, all of
    that read from its end to its beginning.

    Returns:
        ids `(stop - start,)`.
    """
    if backward:
        size = len(split)
        return read_stream(split, size - stop, size - start, augmentation, epoch, split_index)[::-1]
    if augmentation is None:
        return split.ids(start, stop)
    ids, ends = split.read()
    order, case = augmentation.draw(epoch, split_index, len(ends))
    starts = np.concatenate([[0], ends[:-1]])
    if order is not None:
        starts, ends = starts[order], ends[order]
        case = None if case is None else case[order]
    return _gather(ids, starts, ends - starts, case, augmentation.case_tables, start, stop)


def _gather(ids, starts, lengths, case, case_tables, start: int, stop: int) -> np.ndarray:
    """The items from `start` to `stop` of the documents at `starts`, one after another."""
    placed = np.cumsum(lengths)  # where each document ends in the stream
    some = slice(np.searchsorted(placed, start, side="right"), np.searchsorted(placed, stop, side="left") + 1)
    begins = placed[some] - lengths[some]
    low, high = np.maximum(begins, start), np.minimum(placed[some], stop)
    result = _joined(ids, starts[some] + (low - begins), high - low)
    if case is not None:
        _change_case(result, placed - start, lengths, case, case_tables)
    return result


def _joined(ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The stretches of `ids` that begin at `starts`, one after another.

    Numpy copies 64 bytes as fast as one item. The last chunk of a stretch reaches beyond its end; what is too much
    there is overwritten by the next stretch, since chunks are written in their order.
    """
    size = _CHUNK_BYTES // ids.itemsize
    ids = np.append(ids, np.zeros(size, ids.dtype))
    result = np.empty(lengths.sum() + size, ids.dtype)
    source, target = _chunks(ids), _chunks(result)
    counts = -(-lengths // size)
    before = np.cumsum(counts) - counts
    chunk = np.arange(counts.sum()) * size
    read = np.repeat(starts - before * size, counts) + chunk
    write = np.repeat(np.cumsum(lengths) - lengths - before * size, counts) + chunk
    for place in range(0, len(chunk), _CHUNKS_AT_ONCE):
        some = slice(place, place + _CHUNKS_AT_ONCE)
        target[write[some]] = source[read[some]]
    return result[:-size]


def _chunks(ids: np.ndarray) -> np.ndarray:
    """The same memory as overlapping chunks of 64 bytes, one from each item on."""
    count = len(ids) - _CHUNK_BYTES // ids.itemsize + 1
    return np.ndarray((count,), np.dtype((np.void, _CHUNK_BYTES)), ids, strides=ids.strides)


def _change_case(result, placed, lengths, case, case_tables) -> None:
    """Lower- and upper-cases, in place, the documents that end at `placed` and whose case is 0 or 1."""
    for which, table in enumerate(case_tables):
        chosen = np.flatnonzero(case == which)
        counts = lengths[chosen]
        index = np.repeat(placed[chosen] - np.cumsum(counts), counts) + np.arange(counts.sum())
        index = index[(index >= 0) & (index < len(result))]
        result[index] = table[result[index]]


def read_lanes(
    split: Split,
    lanes: int,
    mine: range,
    augmentation: Augmentation | None = None,
    epoch: int = 0,
    split_index: int = 0,
    backward: bool = False,
) -> np.ndarray:
    """Lays a split's stream out in equal contiguous lanes, its tail trimmed, and gives some of them.

    Args:
        lanes: B, how many lanes there are on all ranks together.
        mine: which of them to give.

    Returns:
        ids `(rows, len(mine))`; item t of a lane is followed by item t + 1. A lane is contiguous in memory.
    """
    rows = len(split) // lanes
    stream = read_stream(split, mine.start * rows, mine.stop * rows, augmentation, epoch, split_index, backward)
    return stream.reshape(len(mine), rows).T


def window_count(split: Split, lanes: int, length: int) -> int:
    """How many windows of `length` items a split gives; the last may be shorter. One row has only targets."""
    return max(0, math.ceil((len(split) // lanes - 1) / length))


class Window(NamedTuple):
    """One truncated-BPTT segment.

    `inputs` and `targets` are int64 `(T, B of this rank)`, the targets being the items that follow; `starts_split`
    tells that the hidden state must be zero before it.
    """

    inputs: Tensor
    targets: Tensor
    starts_split: bool


class WindowDataset(IterableDataset):
    """The windows of one epoch, in order, for the lanes of one rank.

    Iterating has no side effects; while one split is walked over, the next is read in the background.

    Args:
        splits: the splits of the epoch in their order, with their index for `Augmentation`.
        lanes: B over all ranks.
        mine: the lanes of this rank.
        lengths: T for each split.
        start: the window to begin with; `len()` counts the earlier ones too.
        augmentation, epoch, backward: as for `read_stream`.
    """

    def __init__(
        self,
        splits: Sequence[tuple[int, Split]],
        lanes: int,
        mine: range,
        lengths: Sequence[int],
        start: int = 0,
        augmentation: Augmentation | None = None,
        epoch: int = 0,
        backward: bool = False,
    ) -> None:
        self.splits = splits
        self.lanes = lanes
        self.mine = mine
        self.lengths = lengths
        self.start = start
        self.augmentation = augmentation
        self.epoch = epoch
        self.backward = backward
        counts = (window_count(split, lanes, length) for (_, split), length in zip(splits, lengths, strict=True))
        self.split_ends = list(accumulate(counts))  # after how many windows of the epoch each split is done

    def __len__(self) -> int:
        return self.split_ends[-1] if self.split_ends else 0

    def split_at(self, window: int) -> int:
        """The place in the epoch of the split that a window belongs to, or of the last one's successor."""
        return bisect_right(self.split_ends, window)

    def __iter__(self) -> Iterator[Window]:
        first = self.split_at(self.start)
        skipped = self.start - (self.split_ends[first - 1] if first else 0)
        with ThreadPoolExecutor(1, thread_name_prefix="next split") as background:
            ahead = background.submit(self._read, first) if first < len(self.splits) else None
            for place in range(first, len(self.splits)):
                rows = ahead.result()
                ahead = background.submit(self._read, place + 1) if place + 1 < len(self.splits) else None
                yield from self._windows(rows, self.lengths[place], skipped)
                skipped = 0

    def _read(self, place: int) -> np.ndarray:
        index, split = self.splits[place]
        return read_lanes(split, self.lanes, self.mine, self.augmentation, self.epoch, index, self.backward)

    @staticmethod
    def _windows(rows: np.ndarray, length: int, skipped: int) -> Iterator[Window]:
        for begin in range(skipped * length, len(rows) - 1, length):
            window = torch.from_numpy(rows[begin : begin + length + 1].astype(np.int64, order="C"))
            yield Window(window[:-1], window[1:], begin == 0)
