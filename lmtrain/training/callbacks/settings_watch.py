"""Ends a run in which a callback changes a setting on which the schedule, checkpoints and the model card depend."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lmtrain.data.windows import Window
from lmtrain.errors import UserError
from lmtrain.training.lightning_internals.attributes import annotated

_REMEDY = {
    "trainer.accumulate_grad_batches": "Give it on the command line, the same for the whole run",
    "trainer.gradient_clip_val": "Give it on the command line, the same for the whole run",
    "trainer.max_epochs": "Give it on the command line; trainer.should_stop = True ends a run sooner",
    "trainer.max_steps": "Give it on the command line; trainer.should_stop = True ends a run sooner",
    "data.batch_size": "Give it on the command line; -m data.batch_size=20,50,100 tries several",
    "data.sequence_length": "Give it on the command line; data.grow_to_sequence_length lengthens it by one a split",
}


class SettingsWatch(Callback):
    """Before each window, compares the settings with those of the run's beginning.

    If the number of lanes or of windows per step changed, the schedule of the rate, the times of validations and the
    saved position in the text would be wrong, and so would the model card.
    """

    def __init__(self) -> None:
        self._before: dict[str, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._before = _settings(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Window, batch_idx: int) -> None:
        now = _settings(trainer)
        if now != self._before:
            raise UserError(
                *(
                    f"A callback has changed {key}={before} to {now[key]} during the run. {_REMEDY[key]}, "
                    "and leave out the callback."
                    for key, before in self._before.items()
                    if now[key] != before
                )
            )


def _settings(trainer: Trainer) -> dict[str, Any]:
    data = annotated(trainer).datamodule
    return {
        "trainer.accumulate_grad_batches": trainer.accumulate_grad_batches,
        "trainer.gradient_clip_val": trainer.gradient_clip_val,
        "trainer.max_epochs": trainer.max_epochs,
        "trainer.max_steps": trainer.max_steps,
        "data.batch_size": data.batch_size,
        "data.sequence_length": data.sequence_length,
    }
