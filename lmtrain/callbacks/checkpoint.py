"""Saves the run so that it can go on from there as if it had never stopped."""

import logging
import os
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from lmtrain.files import replacing
from lmtrain.windows import Window

log = logging.getLogger(__name__)


class RunCheckpoint(Checkpoint):
    """Saves `last.ckpt` after every validation and, between validations, every so many minutes or steps.

    It saves only between steps, where the state is that of "n windows done" and nothing else; the one before is
    kept as `previous.ckpt`. Must be the last callback, so that what the others did is in it.

    Args:
        folder: where the checkpoints stand.
        every: minutes between saves; None for never.
        every_steps: optimizer steps between saves; None for never.
    """

    def __init__(self, folder: Path, every: float | None = 10.0, every_steps: int | None = None) -> None:
        self.folder = folder
        self.every = every
        self.every_steps = every_steps
        self._saved_at = time.monotonic()
        self._saved_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Window, batch_idx: int) -> None:
        if self._is_due(trainer) and batch_idx % trainer.accumulate_grad_batches == 0:
            self.save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self.save(trainer)

    def _is_due(self, trainer: Trainer) -> bool:
        step = trainer.global_step
        if step == self._saved_step:
            return False
        if self.every_steps is not None and step % self.every_steps == 0:
            return True
        if self.every is None:
            return False
        due = time.monotonic() - self._saved_at > self.every * 60
        if trainer.world_size > 1:  # rank 0's clock decides, asked now and then
            due = step % 10 == 0 and trainer.strategy.broadcast(due)
        return due

    def save(self, trainer: Trainer) -> None:
        """Saves now; called on all ranks between two steps."""
        last = self.folder / "last.ckpt"
        content = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(last) as unfinished:
                trainer.strategy.checkpoint_io.save_checkpoint(content, unfinished)
                if last.exists():
                    os.replace(last, self.folder / "previous.ckpt")
        trainer.strategy.barrier("checkpoint")
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Gives Lightning's loops the one state that they restart from without surprises."""
        position = checkpoint[type(trainer.datamodule).__qualname__]
        settle_loops(checkpoint["loops"]["fit_loop"], position["epoch"], position["window"])


def settle_loops(fit_loop: dict[str, Any], epoch: int, window: int) -> None:
    """Writes "`epoch` epochs and `window` windows of the next are done, nothing is under way" into saved loop state.

    Lightning saves whatever its counters are in the hook that saves (a batch counted as begun, but not as
    completed; a validation under way), and guesses from that where to go on.
    """

    def settle(progress: dict[str, dict[str, int]], begun: int, done: int) -> None:
        for counters in (progress["total"], progress["current"]):
            counters.update(ready=begun, started=begun, processed=done, completed=done)

    settle(fit_loop["epoch_progress"], epoch + (window > 0), epoch)
    batches = fit_loop["epoch_loop.batch_progress"]
    settle(batches, window, window)
    batches["is_last_batch"] = False
    fit_loop["epoch_loop.val_loop.batch_progress"]["is_last_batch"] = False
    optimizer_steps = fit_loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]
    fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] = optimizer_steps["completed"]
