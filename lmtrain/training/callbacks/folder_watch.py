"""Makes the run folder again if somebody removes it while the run goes on."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lmtrain.data.windows import Window
from lmtrain.runs.run_folder import RunFolder


class FolderWatch(Callback):
    """Makes the run folder again before anything is written into it, and has the loggers open new files there.

    Args:
        folder: of the run.
        every_n_steps: optimizer steps between two reports on training.
    """

    def __init__(self, folder: RunFolder, every_n_steps: int) -> None:
        self.folder = folder
        self.every_n_steps = every_n_steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Window, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps == 0:
            self._look(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._look(trainer)

    def _look(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and self.folder.restore_if_removed():
            for logger in trainer.loggers:
                if hasattr(logger, "reopen"):
                    logger.reopen()
