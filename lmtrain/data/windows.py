"""Lays streams out in B equal lanes and cuts these into bptt windows of T items: the dataset of one epoch."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from lmtrain.data.stream import Stream

_ITEMS_TOGETHER = 1 << 14  # converted to int64 at once: a call costs as much as some thousand items


def read_lanes(stream: Stream, lanes: int, own_lanes: range) -> np.ndarray:
    """Lays a stream out in equal contiguous lanes, its tail trimmed, and gives some of them.

    Args:
        lanes: B, how many lanes there are on all ranks together.
        own_lanes: which of them to give.

    Returns:
        ids `(rows, len(own_lanes))`; item t of a lane is followed by item t + 1. A lane is contiguous in memory.
    """
    rows = len(stream) // lanes
    ids = stream.read(own_lanes.start * rows, own_lanes.stop * rows)
    return ids.reshape(len(own_lanes), rows).T


def window_count(stream: Stream, lanes: int, length: int) -> int:
    """How many windows of `length` items a stream gives; the last may be shorter. The last row has only targets."""
    return max(0, math.ceil((len(stream) // lanes - 1) / length))


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
        streams: those of the epoch's splits, in their order.
        lanes: B over all ranks.
        own_lanes: the lanes of this rank.
        lengths: T for each stream.
        start: the window to begin with; `len()` counts the earlier ones too.
    """

    def __init__(
        self, streams: Sequence[Stream], lanes: int, own_lanes: range, lengths: Sequence[int], start: int = 0
    ) -> None:
        self.streams = streams
        self.lanes = lanes
        self.own_lanes = own_lanes
        self.lengths = lengths
        self.start = start
        counts = (window_count(stream, lanes, length) for stream, length in zip(streams, lengths, strict=True))
        self.split_ends = list(accumulate(counts))  # after how many windows of the epoch each split is done

    def __len__(self) -> int:
        return self.split_ends[-1] if self.split_ends else 0

    def split_at(self, window: int) -> int:
        """The position in the epoch of the split that a window belongs to; `len(streams)` after the last window."""
        return bisect_right(self.split_ends, window)

    def __iter__(self) -> Iterator[Window]:
        first = self.split_at(self.start)
        skipped = self.start - (self.split_ends[first - 1] if first else 0)
        with ThreadPoolExecutor(1, thread_name_prefix="next split") as background:
            ahead = background.submit(self._read, first) if first < len(self.streams) else None
            for place in range(first, len(self.streams)):
                rows = ahead.result()
                ahead = background.submit(self._read, place + 1) if place + 1 < len(self.streams) else None
                yield from self._windows(rows, self.lengths[place], skipped)
                skipped = 0

    def _read(self, place: int) -> np.ndarray:
        return read_lanes(self.streams[place], self.lanes, self.own_lanes)

    @staticmethod
    def _windows(rows: np.ndarray, length: int, skipped: int) -> Iterator[Window]:
        lanes = rows.shape[1]
        together = length * max(1, _ITEMS_TOGETHER // (length * max(1, lanes)))  # rows: several small windows
        for begin in range(skipped * length, len(rows) - 1, together):
            some = torch.from_numpy(rows[begin : begin + together + 1].astype(np.int64, order="C"))
            for first in range(0, len(some) - 1, length):
                last = min(first + length, len(some) - 1)
                yield Window(some[first:last], some[first + 1 : last + 1], begin + first == 0)
