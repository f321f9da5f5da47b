"""Windows: whatever the text, lanes, window lengths and ranks, they give the shuffled stream back, item by item."""

import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from corpora import encoded_text
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Trainer

from lmtrain.data import stream as stream_module
from lmtrain.data.splits import FileRange, Split, cut_splits, split_order
from lmtrain.data.stream import Augmentation, Stream
from lmtrain.data.windows import WindowDataset, read_lanes
from lmtrain.training.datamodule import WindowDataModule

END = 0  # the item that ends a document, as the delimiter does
short = st.lists(st.integers(1, 200), max_size=12)
long = st.integers(30, 300).map(lambda size: [1 + number % 200 for number in range(size)])
documents = st.lists((short | short | long).map(lambda items: [*items, END]), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def folder():
    with TemporaryDirectory() as name:
        yield Path(name)


def documents_of(stream) -> Counter:
    """The documents of a stream, whatever their order."""
    found, document = Counter(), []
    for item in np.asarray(stream).tolist():
        document.append(item)
        if item == END:
            found[tuple(document)] += 1
            document = []
    assert not document
    return found


@dataclass
class Epoch:
    """An epoch of windows on any number of ranks, and what it was made from."""

    splits: list[Split]
    ranks: int
    share: int
    length: int
    augmentation: Augmentation
    epoch: int
    backward: bool

    @property
    def lanes(self) -> int:
        return self.ranks * self.share

    @property
    def order(self) -> list[int]:
        return split_order(len(self.splits), self.augmentation.seed, self.epoch)

    def windows(self, rank: int, start: int = 0) -> WindowDataset:
        return WindowDataset(
            [self.stream(index) for index in self.order],
            self.lanes,
            range(rank * self.share, (rank + 1) * self.share),
            [self.length + place for place in range(len(self.splits))],
            start,
        )

    def stream(self, index: int) -> Stream:
        return Stream(self.splits[index], index, self.epoch, self.augmentation, self.backward)


@st.composite
def epochs(draw, folder):
    text = encoded_text(folder, draw(documents))
    return Epoch(
        cut_splits(text, draw(st.integers(4, 300))),
        ranks=draw(st.integers(1, 4)),
        share=draw(st.integers(1, 4)),
        length=draw(st.integers(1, 20)),
        augmentation=Augmentation(draw(st.integers(0, 5)), shuffle=draw(st.booleans())),
        epoch=draw(st.integers(0, 3)),
        backward=draw(st.booleans()),
    )


def read(*of_stream, **more) -> np.ndarray:
    """All of the stream that is made of these arguments."""
    stream = Stream(*of_stream, **more)
    return stream.read(0, len(stream))


def same(first, second) -> bool:
    """Whether two iterables of windows are equal."""
    first, second = list(first), list(second)
    return len(first) == len(second) and all(
        torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets) and a.starts_split == b.starts_split
        for a, b in zip(first, second, strict=True)
    )


def some_splits(folder: Path, count: int = 5) -> list[Split]:
    random = np.random.default_rng(0)
    splits = []
    for number in range(count):
        documents = [[*random.integers(1, 200, size), END] for size in random.integers(1, 30, 100)]
        text = encoded_text(folder / str(number), documents)
        splits.append(Split(str(number), (FileRange(text, 0, text.items),)))
    return splits


@given(data=st.data())
def test_the_windows_of_all_ranks_put_together_give_the_stream_back(data, folder):
    epoch = data.draw(epochs(folder))
    of_ranks = [list(epoch.windows(rank)) for rank in range(epoch.ranks)]
    assert {len(windows) for windows in of_ranks} == {len(epoch.windows(0))}
    place = 0
    together = [
        (torch.cat([w.inputs for w in all_ranks], 1), torch.cat([w.targets for w in all_ranks], 1), all_ranks)
        for all_ranks in zip(*of_ranks, strict=True)
    ]
    for number, index in enumerate(epoch.order):
        stream = epoch.stream(index)
        ids = stream.read(0, len(stream))
        rows = len(stream) // epoch.lanes
        grid = torch.from_numpy(ids[: rows * epoch.lanes].astype(np.int64).reshape(epoch.lanes, rows).T.copy())
        for begin in range(0, rows - 1, epoch.length + number):
            inputs, targets, all_ranks = together[place]
            stop = min(begin + epoch.length + number, rows - 1)
            assert torch.equal(inputs, grid[begin:stop])
            assert torch.equal(targets, grid[begin + 1 : stop + 1])
            assert {window.starts_split for window in all_ranks} == {begin == 0}
            assert inputs.dtype == targets.dtype == torch.int64
            place += 1
    assert place == len(together)


@given(data=st.data(), documents=documents)
def test_an_epoch_has_every_document_once(data, documents, folder):
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16, np.int32]))
    max_size = max(map(len, documents)) + data.draw(st.integers(0, 300))
    splits = cut_splits(encoded_text(folder, documents, dtype=dtype), max_size)
    augmentation = Augmentation(data.draw(st.integers(0, 5)), shuffle=data.draw(st.booleans()))
    epoch = data.draw(st.integers(0, 3))
    order = split_order(len(splits), augmentation.seed, epoch)
    assert sorted(order) == list(range(len(splits)))
    streams = [read(splits[i], i, epoch, augmentation) for i in order]
    assert documents_of(np.concatenate(streams)) == Counter(map(tuple, documents))


@given(data=st.data(), documents=documents)
def test_any_part_of_a_stream_can_be_read_alone(data, documents, folder):
    split = Split("", (FileRange(encoded_text(folder, documents), 0, sum(map(len, documents))),))
    tables = np.random.default_rng(0).integers(0, 255, (2, 256), dtype=np.uint8)
    augmentation = Augmentation(data.draw(st.integers(0, 50)), data.draw(st.booleans()), (tables[0], tables[1]))
    one = Stream(split, 7, data.draw(st.integers(0, 3)), augmentation, data.draw(st.booleans()))
    whole = one.read(0, len(split))
    start = data.draw(st.integers(0, len(split)))
    stop = data.draw(st.integers(start, len(split)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_module, "_CHUNKS_AT_ONCE", data.draw(st.integers(1, 50)))
        assert one.read(start, stop).tolist() == whole[start:stop].tolist()


@given(data=st.data())
def test_starting_at_a_window_is_dropping_those_before_it(data, folder):
    epoch = data.draw(epochs(folder))
    whole = list(epoch.windows(0))
    start = data.draw(st.integers(0, len(whole) + 1))
    begun_there = epoch.windows(0, start)
    assert len(begun_there) == len(whole)  # of the epoch, for Lightning counts the earlier ones too
    assert same(begun_there, whole[start:])


def test_a_backward_model_reads_the_same_stream_from_its_end(folder):
    split = some_splits(folder, 1)[0]
    augmentation = Augmentation(seed=1)
    forward, backward = (read(split, augmentation=augmentation, backward=way) for way in (False, True))
    assert forward.tolist() == backward[::-1].tolist()


def test_without_augmentation_the_stream_is_the_text(folder):
    split = some_splits(folder, 1)[0]
    assert read(split).tolist() == split.read()[0].tolist()
    assert read(split, 0, 3, Augmentation(1, shuffle=False)).tolist() == split.read()[0].tolist()


def test_seed_epoch_and_split_determine_the_shuffle(folder):
    split = some_splits(folder, 1)[0]

    def shuffled(seed, epoch, index):
        return read(split, index, epoch, Augmentation(seed)).tobytes()

    assert shuffled(1, 0, 0) == shuffled(1, 0, 0)
    places = [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1)]
    assert len({shuffled(*place) for place in places}) == len(places)


def test_the_first_epoch_takes_the_splits_as_named_and_later_ones_in_random_order():
    assert split_order(50, seed=1, epoch=0) == list(range(50))
    orders = [split_order(50, seed, epoch) for seed in (1, 2) for epoch in (1, 2)]
    assert len(set(map(tuple, orders))) == 4
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] == split_order(50, 1, 1)


def test_iterating_has_no_side_effects(folder):
    epoch = Epoch(some_splits(folder), 1, 4, 10, Augmentation(1), epoch=1, backward=False)
    dataset = epoch.windows(0)
    at_once = list(zip(dataset, dataset, strict=True))
    assert same([first for first, _ in at_once], [second for _, second in at_once])
    assert same(dataset, epoch.windows(0))


def test_an_iteration_that_is_abandoned_leaves_no_thread(folder):
    before = threading.active_count()
    iterator = iter(Epoch(some_splits(folder), 1, 4, 10, Augmentation(1), epoch=1, backward=False).windows(0))
    next(iterator)
    iterator.close()
    assert threading.active_count() == before


def test_a_rank_reads_its_lanes_only(folder):
    split = some_splits(folder, 1)[0]
    one = Stream(split, augmentation=Augmentation(1))
    whole = read_lanes(one, 8, range(8))
    assert read_lanes(one, 8, range(2, 4)).tolist() == whole[:, 2:4].tolist()


# --- case ---

LETTERS = np.arange(256, dtype=np.uint8)
LOWER = np.where(LETTERS >= 100, LETTERS - 100, LETTERS).astype(np.uint8)  # 100 and above are upper case
UPPER = np.where((LETTERS > 0) & (LETTERS < 100), LETTERS + 100, LETTERS).astype(np.uint8)


def mixed_case(folder: Path, count: int) -> Split:
    """Documents in which lower- and upper-case letters alternate."""
    documents = [[*([1 + number % 90, 101 + number % 90] * 3), END] for number in range(count)]
    text = encoded_text(folder / "case", documents)
    return Split("case", (FileRange(text, 0, text.items),))


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_case_of_one_percent_of_the_documents_each_is_lowered_and_raised(folder, shuffle):
    split = mixed_case(folder, 20_000)
    before = split.read()[0].reshape(-1, 7)
    found = read(split, 3, 2, Augmentation(1, shuffle, (LOWER, UPPER))).reshape(-1, 7)
    is_lower, is_upper = (found[:, :6] < 100).all(1), (found[:, :6] > 100).all(1)
    is_as_before = ((found[:, :6] > 100) == [False, True] * 3).all(1)
    assert (is_lower | is_upper | is_as_before).all()
    assert 0.007 < is_lower.mean() < 0.013
    assert 0.007 < is_upper.mean() < 0.013
    assert sorted(LOWER[found].tolist()) == sorted(LOWER[before].tolist())  # nothing else has changed


def test_a_part_of_a_stream_has_the_case_of_the_whole(folder):
    split = mixed_case(folder, 2_000)
    augmentation = Augmentation(1, True, (LOWER, UPPER))
    one = Stream(split, augmentation=augmentation)
    whole = one.read(0, len(split))
    parts = [one.read(start, start + 100) for start in range(0, len(split), 100)]
    assert np.concatenate(parts).tolist() == whole.tolist()


def test_other_documents_change_case_in_other_epochs(folder):
    split = mixed_case(folder, 2_000)
    augmentation = Augmentation(1, False, (LOWER, UPPER))
    first, second = (read(split, 0, epoch, augmentation) for epoch in (0, 1))
    assert first.tolist() != second.tolist()


def test_text_to_validate_and_test_on_is_neither_shuffled_nor_changed_in_case(folder):
    split = mixed_case(folder, 2_000)
    augmentation = Augmentation(1, True, (LOWER, UPPER))
    data = WindowDataModule([split], split, split, batch_size=4, sequence_length=100, augmentation=augmentation)
    data.trainer = Trainer(accelerator="cpu", devices=1, barebones=True)
    plain = WindowDataset([Stream(split)], 4, range(4), [100])
    assert same(data.val_dataloader(), plain)
    assert same(data.test_dataloader(), plain)
    assert not same(data.train_dataloader(), plain)


# --- splits ---


@given(data=st.data(), documents=documents)
def test_splits_cover_a_file_once_and_none_is_too_long(data, documents, folder):
    text = encoded_text(folder, documents, "file.txt")
    max_size = data.draw(st.integers(1, 300))
    splits = cut_splits(text, max_size)
    assert np.concatenate([split.read()[0] for split in splits]).tolist() == text.ids().tolist()
    assert all(0 < len(split) <= max_size for split in splits)
    assert len({split.name for split in splits}) == len(splits)
    if max(map(len, documents)) <= max_size:
        assert {split.ranges[0].stop for split in splits} <= set(text.ends().tolist())
    for split in splits:
        ids, ends = split.read()
        assert ends[-1] == len(ids)
        assert set(np.flatnonzero(ids == END) + 1) | {len(ids)} == set(ends.tolist())


@given(count=st.integers(1, 3000), length=st.integers(1, 30), max_size=st.integers(300, 20_000))
def test_the_splits_of_a_file_are_about_equally_long(count, length, max_size, folder):
    splits = cut_splits(encoded_text(folder, [[1] * length] * count), max_size)
    sizes = [len(split) for split in splits]
    assert max(sizes) - min(sizes) <= 2 * length
    assert len(sizes) <= 1.1 * np.ceil(count * length / max_size) + 2


@given(length=st.integers(1, 5000), max_size=st.integers(1, 400))
def test_a_document_that_is_too_long_is_cut_into_equal_pieces(length, max_size, folder):
    splits = cut_splits(encoded_text(folder, [[1] * length]), max_size)
    sizes = [len(split) for split in splits]
    assert sum(sizes) == length
    assert max(sizes) <= max_size
    assert max(sizes) - min(sizes) <= 2


def test_a_split_of_several_files_is_read_as_one(folder):
    first = encoded_text(folder / "a", [[1, END], [2, 3, END]])
    second = encoded_text(folder / "b", [[4, END]])
    split = Split("valid", (FileRange(first, 0, 5), FileRange(second, 0, 2)))
    ids, ends = split.read()
    assert len(split) == 7
    assert ids.tolist() == [1, END, 2, 3, END, 4, END]
    assert ends.tolist() == [2, 5, 7]
    assert Stream(split).read(3, 6).tolist() == [3, END, 4]
