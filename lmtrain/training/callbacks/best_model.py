"""Keeps the best model so far, in the file that Flair loads."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lmtrain.errors import UserError
from lmtrain.model.language_model import RecurrentLM
from lmtrain.training.lightning_internals.attributes import own_module
from lmtrain.training.module import LanguageModelModule

log = logging.getLogger(__name__)


class BestModel(Callback):
    """Replaces `best-lm.pt` whenever the validation loss is the lowest yet.

    It saves while the validated weights are in place. Callbacks that put averaged weights there for a validation put
    the trained ones back in `on_validation_epoch_end` or `on_validation_end`, so this must be called before them.

    Args:
        path: of `best-lm.pt`.
        save: writes a model to a path.
    """

    def __init__(self, path: Path, save: Callable[[RecurrentLM, Path], None]) -> None:
        self.path = path
        self.save = save
        self.loss = math.inf
        self.step = 0
        self.is_new = False
        self._names: set[str] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._names is None:
            self._names = set(own_module(pl_module).model.state_dict())

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = own_module(pl_module)
        self._check(module, "validation")
        loss = module.evaluation_loss()
        self.is_new = loss < self.loss or (trainer.is_global_zero and not self.path.exists())
        if self.is_new and trainer.is_global_zero:
            try:
                self.save(module.model, self.path)
            except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
                self.is_new = False  # the loss stays that of the model in the file
                log.error("%s could not be replaced: %s. The one before is whole; training goes on", self.path, error)
        if self.is_new:
            self.loss, self.step = loss, trainer.global_step

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check(own_module(pl_module), "test")

    def _check(self, module: LanguageModelModule, name: str) -> None:
        """Raises `UserError` if a callback renamed parameters, or changed weights so that the loss is not theirs."""
        renamed = set(module.model.state_dict()) ^ self._names
        if renamed:
            raise UserError(
                f"A callback renamed parameters of the model ({', '.join(sorted(renamed))}): Flair cannot load that. "
                "Leave the callback out; what it does can be done to the finished best-lm.pt."
            )
        if not module.has_evaluated_these_weights():
            raise UserError(
                f"A callback changed the weights within a {name}, so that its loss is of no model. Weights may be "
                f"exchanged in on_{name}_start or on_{name}_epoch_start, and put back in on_{name}_epoch_end or "
                f"on_{name}_end."
            )

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self.loss, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.loss, self.step = state_dict["loss"], state_dict["step"]
