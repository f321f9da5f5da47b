"""Corpora and clusters larger than any here, on made-up metadata: work is counted at two sizes, never timed.

What is done once for each of n things must cost the same for each, however many there are: else all of it grows with
the square of n.
"""

import tracemalloc
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from lightning.pytorch import Trainer
from preparing import documents_of, lines, options, prepare, texts
from work import counted_work

import lmtrain.program.files
from lmtrain.data.corpus import TextFile
from lmtrain.data.id_cache import EncodedText, TextFormat
from lmtrain.data.splits import FileRange, Split
from lmtrain.data.stream import Augmentation, Stream
from lmtrain.data.windows import read_lanes
from lmtrain.prepare import joining, shuffling
from lmtrain.prepare.corpus_scan import scan_corpus
from lmtrain.prepare.shuffling import Dealing
from lmtrain.training.callbacks.progress import position
from lmtrain.training.callbacks.run_length import planned_steps
from lmtrain.training.callbacks.validation_schedule import ValidationSchedule
from lmtrain.training.datamodule import WindowDataModule
from lmtrain.training.loggers.metrics_csv import COLUMNS, MetricsCSV
from lmtrain.training.loggers.run_logger import RunInfo

FEW, MANY = 100, 100_000  # splits


class NoticedText(EncodedText):
    """A text that is nowhere: item n is n; it counts the items that are read."""

    read: ClassVar[Counter] = Counter()

    def ids(self) -> np.ndarray:
        first = int(self.name) * self.items
        return np.arange(first, first + self.items).view(NoticedItems)


class NoticedItems(np.ndarray):
    def __array__(self, *arguments, **more):
        NoticedText.read["items"] += self.size
        return super().__array__(*arguments, **more)

    def __getitem__(self, place):
        found = np.asarray(super().__getitem__(place).view(np.ndarray))
        NoticedText.read["items"] += found.size
        return found


def text(name: int, items: int) -> EncodedText:
    return NoticedText(Path("/nowhere"), str(name), np.dtype(np.int64), items, items, 0, {})


def split(name: int, items: int = 500) -> Split:
    return Split(str(name), (FileRange(text(name, items), 0, items),))


def in_an_epoch(splits: int, **settings) -> Trainer:
    """A Trainer whose data is in the middle of its second epoch."""
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, max_epochs=1000
    )
    data = WindowDataModule(
        [split(number) for number in range(splits)], split(0), split(0), 4, 25, Augmentation(1), **settings
    )
    trainer.datamodule, data.trainer = data, trainer
    data.train_windows = data.epoch_windows(1, 0, range(4))
    trainer.fit_loop.epoch_loop.batch_progress.current.processed = len(data.train_windows) // 2
    trainer.fit_loop.epoch_progress.current.processed = 1
    return trainer


def test_a_window_costs_the_same_among_any_number_of_splits(monkeypatch):
    def cost(splits: int) -> int:
        trainer, schedule = in_an_epoch(splits), ValidationSchedule()
        schedule.on_train_batch_start(trainer, None, None, 0)  # which looks at the whole epoch
        with counted_work(monkeypatch) as work:
            trainer.datamodule.state_dict()  # before every window
            schedule.on_train_batch_start(trainer, None, None, 7)
            position(trainer)  # at every validation
        return work.total

    assert 0 < cost(MANY) <= cost(FEW)


def test_an_epoch_begins_anywhere_with_work_that_grows_with_its_splits_only(monkeypatch):
    def cost(splits: int) -> int:
        data = in_an_epoch(splits).datamodule  # made without being counted
        with counted_work(monkeypatch) as work:
            windows = data.epoch_windows(3, 20 * splits, range(4))
            windows.split_at(20 * splits)
        return work.total

    assert cost(100 * FEW) < 1.1 * 100 * cost(FEW)


def test_a_long_run_of_growing_windows_is_counted_without_walking_over_all_its_epochs(monkeypatch):
    trainer = in_an_epoch(FEW, grow_to_sequence_length=50)
    with counted_work(monkeypatch) as work:
        steps = planned_steps(trainer, trainer.datamodule)
    assert steps == sum(trainer.datamodule.windows_in_epoch(epoch) for epoch in range(1000))
    with counted_work(monkeypatch) as of_an_epoch:
        trainer.datamodule.windows_in_epoch(0)
    assert work.total < 5 * of_an_epoch.total


def test_a_thousand_ranks_read_the_validation_text_once_between_them():
    ranks, lanes, files, items = 1000, 4000, 500, 1000
    valid = Split("valid", tuple(FileRange(text(name, items), 0, items) for name in range(files)))
    trainer = in_an_epoch(1)
    trainer.datamodule.batch_size = lanes
    NoticedText.read.clear()
    shares = [
        read_lanes(Stream(valid), lanes, trainer.datamodule.lanes_of_rank(rank, ranks))
        for rank in (0, 1, ranks // 2, 999)
    ]
    assert NoticedText.read["items"] == 4 * files * items // ranks
    expected = np.arange(files * items).reshape(lanes, -1).T
    of_these_ranks = [*range(8), *range(2000, 2004), *range(3996, 4000)]
    assert np.array_equal(np.concatenate(shares, axis=1), expected[:, of_these_ranks])


@pytest.mark.parametrize("more", [{}, {"deduplicate": False}, {"max_copies": 2}], ids=str)
def test_a_split_is_written_from_few_files_however_many_there_were(more, tmp_path, monkeypatch):
    raw = [*lines(300), *lines(100), *lines(20)]
    (tmp_path / "raw.txt").write_text("\n".join(raw), encoding="utf-8")
    chosen = options(dealing=Dealing(0.1, 0.1, **more), block_size=400, split_size=2000)
    prepare([tmp_path / "raw.txt"], tmp_path / "at-once", chosen)
    opened = []
    monkeypatch.setattr(joining, "MOST_RUNS", 5)
    open_index = shuffling.open_index
    monkeypatch.setattr(shuffling, "open_index", lambda run: opened.append(run.name) or open_index(run))
    monkeypatch.setattr(shuffling, "_JOINED_BYTES", 1500)
    manifest = prepare([tmp_path / "raw.txt"], tmp_path / "joined", chosen)
    assert texts(tmp_path / "joined") == texts(tmp_path / "at-once")
    runs = {name for name in opened if not name.startswith("joined")}
    last = max(int(name.split("-")[1]) for name in opened if name.startswith("joined"))
    in_the_end = Counter(name for name in opened if name.startswith(f"joined-{last}-"))
    assert len(runs) > 25
    assert len(in_the_end) <= 5
    assert set(in_the_end.values()) == {manifest["parts"]["train"]["files"]}


def test_preparing_lists_no_folder_for_every_file_it_writes(tmp_path, monkeypatch):
    listed = []
    remove_left = lmtrain.program.files.remove_left
    monkeypatch.setattr(
        lmtrain.program.files, "remove_left", lambda *where: listed.append(where) or remove_left(*where)
    )
    counts = []
    for name, number in (("few", 50), ("many", 150)):
        (tmp_path / f"{name}.txt").write_text("\n".join(lines(number)), encoding="utf-8")
        listed.clear()
        prepare([tmp_path / f"{name}.txt"], tmp_path / name, options(block_size=1000, split_size=1000))
        counts.append(len(listed))
    assert counts[0] == counts[1]


def test_an_index_is_searched_without_being_copied(tmp_path):
    shuffling.write_run(tmp_path / "run", ["a", "b", "c"], "\n", Dealing(0.1, 0.1), 0)
    index = shuffling.open_index(tmp_path / "run")
    assert all(index[name].flags.aligned for name in index.dtype.names)


@pytest.mark.parametrize("size", [10**6, 10**9, 1.1 * 10**9, 2 * 10**9, 7 * 10**10, 10**12, 10**15])
def test_held_out_texts_do_not_grow_with_the_corpus(size):
    """A validation after every split: as many as there is text, so that each must stay as long as it is."""
    dealing = Dealing().settled(size)
    assert dealing.valid == dealing.test
    if size <= 10**9:
        assert dealing.valid == 0.01
    else:
        assert 5e6 <= dealing.valid * size <= 10e6
    assert dealing.valid <= Dealing().settled(size / 3).valid  # what validates did so with less text
    assert Dealing(0.3, 0.2).settled(size) == Dealing(0.3, 0.2)


def test_the_shares_that_were_taken_are_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(shuffling, "_ENOUGH", 200)
    (tmp_path / "raw.txt").write_text("\n".join(lines(5000)), encoding="utf-8")
    manifest = prepare([tmp_path / "raw.txt"], tmp_path / "corpus", options(dealing=Dealing()))
    size = sum(part["bytes"] for part in manifest["parts"].values())
    share = manifest["options"]["dealing"]["valid"]
    assert 100 <= share * size <= 200
    assert 0 < len(documents_of(tmp_path / "corpus")["valid"]) < 12


def test_a_long_metrics_file_is_continued_without_being_held_in_memory(tmp_path):
    rows, path = 50_000, tmp_path / "metrics.csv"
    with path.open("w") as file:
        file.write(",".join(COLUMNS) + "\n")
        file.writelines(f"{step},{step}{',1.5' * (len(COLUMNS) - 2)}\n" for step in range(rows))
    logger = MetricsCSV(RunInfo(tmp_path, "run", "key", {}, resume_step=rows - 11))
    tracemalloc.start()
    logger.log_metrics({"chars": 1, "train/loss": 2.0}, step=rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(path.read_text().splitlines()) == 1 + rows - 10 + 1
    assert peak < path.stat().st_size / 2


def test_a_file_of_words_is_scanned_without_counting_those_of_the_files_before(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"one two {number}\n" * (number + 1))
    files = [TextFile(str(tmp_path / f"{number}.txt"), f"{number}.txt", 9, "") for number in range(3)]
    scan = scan_corpus({"train": files}, TextFormat("word"))["train"]
    assert scan.sizes == {"0.txt": 3, "1.txt": 6, "2.txt": 9}
    assert scan.size("word") == scan.words.total() == 18
