"""Computes the figures of training and evaluation, and sends them to all loggers under the same names."""

import math
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lmtrain.data.windows import Window
from lmtrain.training.callbacks.best_model import BestModel
from lmtrain.training.divergence import raise_if_diverged
from lmtrain.training.lightning_internals.attributes import own_module
from lmtrain.training.module import LanguageModelModule
from lmtrain.training.running_mean import RunningMean


class Monitor(Callback):
    """Logs training figures every `trainer.log_every_n_steps` steps and evaluation figures after each evaluation.

    Training losses are means over the items since the last report and over all ranks. Nothing is read from the
    device between reports. `chars_per_second` counts the training time only, over all ranks.

    Args:
        every_n_steps: optimizer steps between two reports on training.
        best: has the lowest validation loss.
        constants: figures that are written once, at the run's beginning.
        hyperparameters: the keys by which loggers compare runs, and their values.
    """

    def __init__(
        self, every_n_steps: int, best: BestModel, constants: dict[str, float], hyperparameters: dict[str, Any]
    ) -> None:
        self.every_n_steps = every_n_steps
        self.best = best
        self.constants = constants
        self.hyperparameters = hyperparameters
        self.latest: dict[str, float] = {}
        self._reported_step = 0
        self._items_before = 0
        self._began = 0.0
        self._paused = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._reported_step = trainer.global_step
        for logger in trainer.loggers:
            logger.log_hyperparams(self.hyperparameters)
        if trainer.global_step == 0 and self.constants:
            self.write(trainer, own_module(pl_module), self.constants)
        self._items_before = own_module(pl_module).items_seen
        self._began = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Window, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step % self.every_n_steps == 0 and step != self._reported_step:
            self._report(trainer, own_module(pl_module))

    def _report(self, trainer: Trainer, module: LanguageModelModule) -> None:
        self._reported_step = trainer.global_step
        total, items = module.reduced(module.train_mean)
        raise_if_diverged(total, module.grad_norm, trainer)
        loss = total / items
        seconds = time.monotonic() - self._began - self._paused
        self.latest |= {
            "train/loss": loss,
            "train/bpc": loss / math.log(2),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "grad_norm": module.grad_norm.item() if module.grad_norm is not None else math.nan,
            "chars_per_second": (module.items_seen - self._items_before) / max(seconds, 1e-9),
        }
        names = ("train/loss", "train/bpc", "lr", "grad_norm", "chars_per_second")
        self.write(trainer, module, {name: self.latest[name] for name in names})
        module.train_mean = RunningMean()
        self._items_before = module.items_seen
        self._began, self._paused = time.monotonic(), 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validation_began = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write_evaluation(trainer, own_module(pl_module), "val")
        self._paused += time.monotonic() - self._validation_began

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write_evaluation(trainer, own_module(pl_module), "test")

    def _write_evaluation(self, trainer: Trainer, module: LanguageModelModule, stage: str) -> None:
        if trainer.sanity_checking:
            return
        names = [f"{stage}/{figure}" for figure in ("loss", "ppl", "bpc")]
        figures = {name: trainer.callback_metrics[name].item() for name in names}
        self.latest |= figures
        if stage == "val":
            figures["val/loss_best"] = self.best.loss
        self.write(trainer, module, figures)

    def write(self, trainer: Trainer, module: LanguageModelModule, figures: dict[str, float]) -> None:
        """Sends figures to all loggers, with the present step and the number of items seen."""
        for logger in trainer.loggers:
            logger.log_metrics({**figures, "chars": module.items_seen}, step=trainer.global_step)

    def note(self, trainer: Trainer, figures: dict[str, float], step: int) -> None:
        """Sends figures about a step to all loggers."""
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=step)
