"""Where a run may be saved: before everything that other callbacks do there."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from lmtrain.data.windows import Window
from lmtrain.training.callbacks.checkpoint import RunCheckpoint
from lmtrain.training.checkpoint_content import decoded


class SavePoints(Callback):
    """Asks `RunCheckpoint` to save before a window, and holds ready what a signal within a validation saves.

    Must be the first callback: what others do before a window they do again when the run goes on, and what they do
    within a validation (exchange weights, count) a signal there must not save.

    Args:
        saving: saves.
    """

    def __init__(self, saving: RunCheckpoint) -> None:
        self.saving = saving

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Window, batch_idx: int) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.saving.before_window(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            self.saving.before_validation(trainer)

    def on_validation_batch_start(self, trainer: Trainer, pl_module, batch, batch_idx, dataloader_idx=0) -> None:
        self.saving.within_validation(trainer)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint.update({name: decoded(part) for name, part in checkpoint.items()})
        for callback in trainer.callbacks:
            if isinstance(callback, EarlyStopping) and callback.state_key in checkpoint["callbacks"]:
                # the configuration's patience counts, not the one from before
                checkpoint["callbacks"][callback.state_key]["patience"] = callback.patience
