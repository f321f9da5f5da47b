"""Cuts encoded files into splits, which bound what is shuffled in memory, and orders the splits of an epoch."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from lmtrain.data.id_cache import EncodedText


class FileRange(NamedTuple):
    """The items from `start` to `stop` of an encoded file."""

    text: EncodedText
    start: int
    stop: int


@dataclass(frozen=True)
class Split:
    """A contiguous text that is trained on as one: the hidden state is zero where it begins, and carried through it."""

    name: str
    ranges: tuple[FileRange, ...]

    def __len__(self) -> int:
        return sum(stop - start for _, start, stop in self.ranges)

    def ids(self, start: int, stop: int) -> np.ndarray:
        """The ids `(stop - start,)`, without reading the others."""
        found, before = [], 0
        for text, begin, end in self.ranges:
            low, high = max(start - before, 0) + begin, min(stop - before, end - begin) + begin
            if low < high:
                found.append(text.ids()[low:high])
            before += end - begin
        return np.concatenate(found) if found else np.empty(0, self.ranges[0].text.dtype)

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """The ids `(N,)`, memory-mapped if there is one range, and the document ends `(n,)`, the last being N."""
        ids, ends, before = [], [], 0
        for text, start, stop in self.ranges:
            all_ends = text.ends()
            first, last = np.searchsorted(all_ends, [start, stop], side="right")
            inside = all_ends[first:last]
            if first == last or inside[-1] != stop:
                inside = np.append(inside, stop)  # the split ends within a document
            ends.append(inside - start + before)
            ids.append(text.ids()[start:stop])
            before += stop - start
        return (ids[0], ends[0]) if len(ids) == 1 else (np.concatenate(ids), np.concatenate(ends))


def cut_splits(text: EncodedText, max_size: int) -> list[Split]:
    """Cuts a file at document ends into splits of about equal size, none of which exceeds `max_size` items.

    A single document longer than that is cut inside.
    """
    if text.items <= max_size:
        return [Split(text.name, (FileRange(text, 0, text.items),))]
    ends = text.ends()
    count = math.ceil(text.items / max_size)
    while True:
        marks = (text.items * number // count for number in range(1, count))
        cuts = sorted({0, *(_nearest_cut(ends, mark, max_size) for mark in marks), text.items})
        if max(stop - start for start, stop in pairwise(cuts)) <= max_size:
            break
        count += 1 + count // 10
    return [
        Split(f"{text.name}[{number}]", (FileRange(text, start, stop),))
        for number, (start, stop) in enumerate(pairwise(cuts))
    ]


def _nearest_cut(ends: np.ndarray, mark: int, max_size: int) -> int:
    """Where to cut near `mark`: at a document's end, or within a document longer than `max_size`, in equal parts.

    Reads only a few of the memory-mapped ends, of which there may be many millions.
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
