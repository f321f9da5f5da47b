"""Calls `RunCheckpoint` at the points where a run may be saved: before a step's first window, before a validation."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from lmtrain.data.windows import Window
from lmtrain.training.callbacks.checkpoint import RunCheckpoint
from lmtrain.training.checkpoint_values import decoded
from lmtrain.training.lightning_internals.attributes import annotated


class SavePoints(Callback):
    """Has `RunCheckpoint` save before a window, and keep the state from before a validation in case a signal comes.

    It is called before the user's callbacks. A resumed run repeats the window or validation, and with it everything
    that callbacks do there (count, exchange weights), so a checkpoint must hold the state from before that.

    Args:
        saving: the callback that saves.
    """

    def __init__(self, saving: RunCheckpoint) -> None:
        self.saving = saving

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Window, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.saving.before_window(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            self.saving.before_validation(trainer)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Window, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.saving.within_validation(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint.update({name: decoded(part) for name, part in checkpoint.items()})
        for callback in annotated(trainer).callbacks:
            if isinstance(callback, EarlyStopping) and callback.state_key in checkpoint["callbacks"]:
                # the patience of the configuration counts, not that of the checkpoint
                checkpoint["callbacks"][callback.state_key]["patience"] = callback.patience
