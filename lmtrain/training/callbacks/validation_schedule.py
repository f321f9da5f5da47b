"""Decides before each window whether a validation follows it."""

import math

from lightning.pytorch import Callback, LightningModule, Trainer

from lmtrain.data.windows import Window, WindowDataset
from lmtrain.training.lightning_internals.attributes import annotated


class ValidationSchedule(Callback):
    """Validates at the end of every split, as Flair does, or a number of times an epoch at equal distances.

    In any case it validates after the epoch's last window and after the run's last step.

    Args:
        validations_per_epoch: None for the end of every split.
    """

    def __init__(self, validations_per_epoch: int | None = None) -> None:
        self.validations_per_epoch = validations_per_epoch
        self._windows: frozenset[int] = frozenset()
        self._dataset: WindowDataset | None = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Window, batch_idx: int) -> None:
        dataset = annotated(trainer).datamodule.train_windows
        if dataset is not self._dataset:
            self._dataset = dataset
            self._windows = validation_windows(
                dataset.split_ends, self.validations_per_epoch, trainer.accumulate_grad_batches
            )
        is_last_step = 0 < trainer.max_steps <= trainer.global_step + 1
        # Lightning validates after a window if the number of windows done is a multiple of `val_check_batch`
        due = batch_idx + 1 in self._windows or is_last_step
        trainer.val_check_batch = batch_idx + 1 if due else math.inf


def validation_windows(split_ends: list[int], count: int | None, accumulate: int = 1) -> frozenset[int]:
    """The numbers of windows of an epoch after which to validate.

    Args:
        split_ends: the number of windows after which each split ends.
        count: of validations; None for one at the end of each split.
        accumulate: windows per optimizer step. A validation within a step is put off to the step's end.
    """
    total = split_ends[-1]
    wanted = split_ends if count is None else [total * number / count for number in range(1, count + 1)]
    return frozenset(min(total, math.ceil(max(place, 1) / accumulate) * accumulate) for place in wanted)
