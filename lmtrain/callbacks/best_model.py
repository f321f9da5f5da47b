"""Keeps the best model so far, in the file that Flair loads."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)


class BestModel(Callback):
    """Replaces `best-lm.pt` whenever the validation loss is the lowest yet.

    Args:
        path: the file.
        save: writes the model to a path.
    """

    def __init__(self, path: Path, save: Callable[[Path], None]) -> None:
        self.path = path
        self.save = save
        self.loss = math.inf
        self.step = 0
        self.is_new = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        loss = trainer.callback_metrics["val/loss"].item()
        self.is_new = loss < self.loss or (trainer.is_global_zero and not self.path.exists())
        if self.is_new and trainer.is_global_zero:
            try:
                self.save(self.path)
            except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
                self.is_new = False  # the file stays the best that could be saved
                log.error("%s could not be replaced: %s. The one before is whole; training goes on", self.path, error)
        if self.is_new:
            self.loss, self.step = loss, trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self.loss, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loss, self.step = state_dict["loss"], state_dict["step"]
