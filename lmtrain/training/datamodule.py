"""The LightningDataModule: serves the windows of the corpus on which this rank trains, validates and tests."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from lmtrain.data.splits import Split, split_order
from lmtrain.data.stream import Augmentation, Stream
from lmtrain.data.windows import Window, WindowDataset
from lmtrain.training.lightning_internals.attributes import window_progress


class WindowDataModule(LightningDataModule):
    """Serves windows of `batch_size` lanes, which the ranks share; all ranks have the same number of windows.

    Its state is the position in the training data: the epoch and how many of its windows are done. It does not
    depend on the number of ranks.

    Args:
        train: the splits in the order of their names; later epochs take them in random order.
        valid, test: one split each; never shuffled, never case-flipped.
        batch_size: lanes over all ranks.
        sequence_length: T.
        grow_to_sequence_length: lengthen T by one with each split up to this length, as Flair does; 0 for never.
        augmentation: how training documents are shuffled and changed, and the seed of all that is random here.
        backward: serve the text from its end to its beginning.
    """

    def __init__(  # noqa: PLR0913  # three texts and the keys of `data` that say how windows are cut
        self,
        train: Sequence[Split],
        valid: Split,
        test: Split,
        batch_size: int,
        sequence_length: int,
        augmentation: Augmentation,
        grow_to_sequence_length: int = 0,
        backward: bool = False,
    ) -> None:
        super().__init__()
        self.train = train
        self.valid = valid
        self.test = test
        self.batch_size = batch_size
        self.sequence_length = sequence_length
        self.grow_to_sequence_length = grow_to_sequence_length
        self.augmentation = augmentation
        self.backward = backward
        self.train_windows: WindowDataset | None = None  # of the epoch that is running
        self._resume_at = (0, 0)

    def lanes_of_rank(self, rank: int, world_size: int) -> range:
        """The contiguous lanes of a rank; the numbers of lanes of two ranks differ by at most one."""
        return range(rank * self.batch_size // world_size, (rank + 1) * self.batch_size // world_size)

    def window_length(self, epoch: int, place: int) -> int:
        """T of a split, by its place in an epoch. As in Flair, T has already grown by one for the very first split."""
        grown = self.sequence_length + epoch * len(self.train) + place + 1
        return max(self.sequence_length, min(grown, self.grow_to_sequence_length))

    def growing_epochs(self) -> int:
        """The number of epochs, from the first on, in which T grows."""
        return math.ceil(max(0, self.grow_to_sequence_length - self.sequence_length) / len(self.train))

    def epoch_windows(self, epoch: int, start: int, own_lanes: range) -> WindowDataset:
        """The training windows of an epoch from window `start` on, for these lanes."""
        order = split_order(len(self.train), self.augmentation.seed, epoch)
        streams = [Stream(self.train[index], index, epoch, self.augmentation, self.backward) for index in order]
        lengths = [self.window_length(epoch, place) for place in range(len(order))]
        return WindowDataset(streams, self.batch_size, own_lanes, lengths, start)

    def windows_in_epoch(self, epoch: int) -> int:
        """How many training windows an epoch has, on every rank."""
        return len(self.epoch_windows(epoch, 0, range(1)))

    def _loader(self, windows: WindowDataset) -> DataLoader:
        # no workers: they would interleave windows, and the dataset reads ahead by itself
        pins = self.trainer.strategy.root_device.type == "cuda"
        return _Windows(windows, batch_size=None, collate_fn=_as_it_is, num_workers=0, pin_memory=pins)

    def _own_lanes(self) -> range:
        return self.lanes_of_rank(self.trainer.global_rank, self.trainer.world_size)

    def train_dataloader(self) -> DataLoader:
        """Called at the beginning of every epoch (`reload_dataloaders_every_n_epochs=1`)."""
        epoch = self.trainer.current_epoch
        start = self._resume_at[1] if epoch == self._resume_at[0] else 0
        self.train_windows = self.epoch_windows(epoch, start, self._own_lanes())
        return self._loader(self.train_windows)

    def _evaluation_loader(self, split: Split) -> DataLoader:
        stream = Stream(split, backward=self.backward)
        return self._loader(WindowDataset([stream], self.batch_size, self._own_lanes(), [self.sequence_length]))

    def val_dataloader(self) -> DataLoader:
        return self._evaluation_loader(self.valid)

    def test_dataloader(self) -> DataLoader:
        return self._evaluation_loader(self.test)

    def state_dict(self) -> dict[str, Any]:
        """The position between two windows; at the end of an epoch, the beginning of the next.

        It is derived from Lightning's number of processed windows, which is right before a step, after a step and after
        a validation; its other counters are not.
        """
        done = window_progress(self.trainer).processed
        epoch = self.trainer.current_epoch
        if self.train_windows is not None and done >= len(self.train_windows):
            return {"epoch": epoch + 1, "window": 0}
        return {"epoch": epoch, "window": done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resume_at = (state_dict["epoch"], state_dict["window"])


class _Windows(DataLoader):
    """Iterates over the dataset directly: torch's DataLoader takes longer around a window than the window itself."""

    def __iter__(self) -> Iterator[Window]:  # type: ignore[override]  # Lightning needs no more
        return super().__iter__() if self.pin_memory else iter(self.dataset)


def _as_it_is(window: Any) -> Any:
    return window
