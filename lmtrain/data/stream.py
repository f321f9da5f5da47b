"""A split's ids as the model reads them in one epoch: documents shuffled, their case changed, forward or backward.

Everything is a function of (seed, epoch, split) without further state, so every rank and every resumed run computes the
same text.
"""

from dataclasses import dataclass

import numpy as np

from lmtrain.data.splits import Split

_CHUNK_BYTES = 64  # documents are copied in chunks of this size
_CHUNKS_AT_ONCE = 1 << 13  # half a megabyte, which stays in the processor's cache


@dataclass(frozen=True)
class Augmentation:
    """How the documents of a training split are varied from epoch to epoch.

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
        """The order and the case (0 lower, 1 upper, else unchanged), each `(documents,)`, or None for no change."""
        random = np.random.default_rng([self.seed, 1, epoch, split_index])
        order = random.permutation(documents) if self.shuffle else None
        case = random.integers(0, 100, documents, dtype=np.uint8) if self.case_tables else None
        return order, case


@dataclass(frozen=True)
class Stream:
    """The ids of a split in one epoch.

    Args:
        split: the text.
        index: the split's number in the corpus, which seeds the augmentation.
        epoch: likewise.
        augmentation: None to leave the documents as they are, as in validation and test.
        backward: from the last id to the first, after augmentation.
    """

    split: Split
    index: int = 0
    epoch: int = 0
    augmentation: Augmentation | None = None
    backward: bool = False

    def __len__(self) -> int:
        return len(self.split)

    def read(self, start: int, stop: int) -> np.ndarray:
        """The ids `(stop - start,)` from `start` to `stop`, without copying the others."""
        if self.backward:
            return self._forward(len(self) - stop, len(self) - start)[::-1]
        return self._forward(start, stop)

    def _forward(self, start: int, stop: int) -> np.ndarray:
        if self.augmentation is None:
            return self.split.ids(start, stop)
        ids, ends = self.split.read()
        order, case = self.augmentation.draw(self.epoch, self.index, len(ends))
        starts = np.concatenate([[0], ends[:-1]])
        if order is not None:
            starts, ends = starts[order], ends[order]
            case = None if case is None else case[order]
        lengths = ends - starts
        result = _gather(ids, starts, lengths, start, stop)
        if case is not None:
            _change_case(result, np.cumsum(lengths) - start, lengths, case, self.augmentation.case_tables)
        return result


def _gather(ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray, start: int, stop: int) -> np.ndarray:
    """The items from `start` to `stop` of the documents at `starts`, one after another."""
    placed = np.cumsum(lengths)  # where each document ends in the stream
    some = slice(np.searchsorted(placed, start, side="right"), np.searchsorted(placed, stop, side="left") + 1)
    begins = placed[some] - lengths[some]
    low, high = np.maximum(begins, start), np.minimum(placed[some], stop)
    return _joined(ids, starts[some] + (low - begins), high - low)


def _joined(ids: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The stretches of `ids` that begin at `starts`, one after another.

    NumPy's indexing copies 64 bytes as fast as one item, so stretches are copied in chunks of that size. The last
    chunk of a stretch reaches beyond its end, and the next stretch, which is written after it, replaces the surplus.
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
    """A view of the same memory as overlapping chunks of 64 bytes, one beginning at each item."""
    count = len(ids) - _CHUNK_BYTES // ids.itemsize + 1
    return np.ndarray((count,), np.dtype((np.void, _CHUNK_BYTES)), ids, strides=ids.strides)


def _change_case(result, placed, lengths, case, case_tables) -> None:
    """Changes, in place, the case of the documents whose `case` is 0 (lower) or 1 (upper); they end at `placed`."""
    for which, table in enumerate(case_tables):
        chosen = np.flatnonzero(case == which)
        counts = lengths[chosen]
        index = np.repeat(placed[chosen] - np.cumsum(counts), counts) + np.arange(counts.sum())
        index = index[(index >= 0) & (index < len(result))]
        result[index] = table[result[index]]
