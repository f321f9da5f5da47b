"""Lowers the learning rate when the validation loss stops improving."""

import logging
import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lmtrain.training.lightning_internals.loop_state import can_stop_early

log = logging.getLogger(__name__)


class AnnealOnPlateau(Callback):
    """torch's `ReduceLROnPlateau`, stepped once a validation, before the best model and the checkpoint are saved.

    As in Flair, `patience` counts validations, and a loss must be better than the best by 0.01 % to count.

    Args:
        factor: by which the rate is multiplied after more than `patience` validations without improvement.
        patience: validations in a row that may bring no improvement.
        min_lr: training ends when the rate falls below it; 0 for never.
        start_lr: the rate to go on with after a divergence; None for that of the optimizer or the checkpoint.
    """

    def __init__(
        self, factor: float = 0.25, patience: int = 25, min_lr: float = 1e-4, start_lr: float | None = None
    ) -> None:
        self.factor = factor
        self.patience = patience
        self.min_lr = min_lr
        self.start_lr = start_lr
        self.is_below_min_lr = False
        self._scheduler: ReduceLROnPlateau | None = None
        self._restored: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.start_lr is not None:
            groups = trainer.optimizers[0].param_groups
            scale = self.start_lr / groups[0]["lr"]
            for group in groups:
                group["lr"] *= scale
        self._scheduler = ReduceLROnPlateau(trainer.optimizers[0], factor=self.factor, patience=self.patience)
        if self._restored is not None:
            # the losses seen so far come from the checkpoint, factor and patience from the configuration
            for name in ("best", "num_bad_epochs", "last_epoch"):
                setattr(self._scheduler, name, self._restored[name])
            self._stop_below_min_lr(trainer)  # the run may have been killed before it could end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit" or not _was_due(trainer):
            return
        groups = trainer.optimizers[0].param_groups
        before = groups[0]["lr"]
        self._scheduler.step(trainer.callback_metrics["val/loss"].item())
        rate = groups[0]["lr"]
        if rate == before:
            return
        count = "a validation" if self.patience == 0 else f"{self.patience + 1} validations in a row"
        log.info("Learning rate %g → %g: %s without improvement", before, rate, count)
        self._stop_below_min_lr(trainer)

    def _stop_below_min_lr(self, trainer: Trainer) -> None:
        if trainer.optimizers[0].param_groups[0]["lr"] < self.min_lr:
            self.is_below_min_lr = True
            trainer.should_stop = True
            when = "here" if can_stop_early(trainer) else "at trainer.min_epochs or trainer.min_steps"
            log.info("The learning rate fell below anneal.min_lr=%g: training ends %s", self.min_lr, when)

    def state_dict(self) -> dict[str, Any]:
        if self._scheduler is None:
            return {}
        return {name: getattr(self._scheduler, name) for name in ("best", "num_bad_epochs", "last_epoch")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict or None


def _was_due(trainer: Trainer) -> bool:
    """False for the validation that Lightning adds when a callback ends the run within an epoch."""
    return trainer.val_check_batch != math.inf or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
