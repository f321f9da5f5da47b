"""Tells what ended a run. Only the run's own limits make it finished; after any other end the same command goes on."""

import logging
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from lmtrain.config.schema import Config
from lmtrain.training.callbacks.anneal_on_plateau import AnnealOnPlateau
from lmtrain.training.callbacks.checkpoint import RunCheckpoint
from lmtrain.training.checkpoint_state import RunState
from lmtrain.training.lightning_internals.attributes import annotated

log = logging.getLogger(__name__)

MAX_TIME = "trainer.max_time"
CALLBACKS = "callbacks"


def limits(config: Config) -> dict[str, Any]:
    """The keys that limit a run, and their values. A finished run goes on if they are given higher values."""
    trainer = config.trainer
    return {
        "trainer.max_epochs": trainer.max_epochs,
        "trainer.max_steps": trainer.max_steps,
        "trainer.min_epochs": trainer.added("min_epochs"),
        "trainer.min_steps": trainer.added("min_steps"),
        "anneal.min_lr": config.anneal.min_lr,
    }


class Ending(Callback):
    """Tells what ended the run, and keeps a resumed run from training a step if a callback would end it at once.

    Args:
        annealing: the callback that may end the run by the learning rate.
        saving: the callback that may end the run by the clock.
        user_callbacks: by their names in the configuration.
    """

    def __init__(self, annealing: Callback, saving: RunCheckpoint, user_callbacks: dict[str, Callback]) -> None:
        self.annealing = annealing
        self.saving = saving
        self.user_callbacks = user_callbacks
        self._began_at = 0  # optimizer steps
        self._epochs = 0  # whole epochs that are done
        self._figures: dict[str, float] = {}  # of the last validation, those that an EarlyStopping monitors

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._began_at = checkpoint["global_step"]
        self._epochs = RunState.read(checkpoint).position.epoch

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._began_at and self._exhausted():
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit":  # the validation of the model to start from, which no EarlyStopping sees
            return
        monitors = {one.monitor for one in self.user_callbacks.values() if isinstance(one, EarlyStopping)}
        self._figures = {name: float(trainer.callback_metrics[name]) for name in monitors & {*trainer.callback_metrics}}

    def state_dict(self) -> dict[str, Any]:
        return {"figures": self._figures}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._figures = state_dict["figures"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epochs = max(self._epochs, annotated(trainer).datamodule.state_dict()["epoch"])

    def _exhausted(self) -> dict[str, str]:
        """The EarlyStoppings that would end the run at the next validation, as at the last, by name → the reason."""
        reasons = {}
        for name, callback in self.user_callbacks.items():
            if isinstance(callback, EarlyStopping):
                threshold, best = callback.stopping_threshold, callback.best_score
                figure, worst = torch.tensor(self._figures.get(callback.monitor, 0.0)), callback.divergence_threshold
                if callback.wait_count >= max(1, callback.patience):
                    reasons[name] = f"{callback.wait_count} in a row without improvement, patience={callback.patience}"
                elif threshold is not None and callback.monitor_op(best, threshold):
                    reasons[name] = f"{callback.monitor} has reached stopping_threshold={threshold:g}"
                elif callback.monitor not in self._figures:
                    continue
                elif callback.check_finite and not figure.isfinite():
                    reasons[name] = f"{callback.monitor} was {figure:g}"
                elif worst is not None and callback.monitor_op(-figure, -worst):
                    reasons[name] = f"{callback.monitor} was {figure:.4f}, beyond divergence_threshold={worst:g}"
        return reasons

    def cause(self, trainer: Trainer) -> str:
        """The key of the limit that ended the run, MAX_TIME or CALLBACKS."""
        if 0 < trainer.max_steps <= trainer.global_step:
            return "trainer.max_steps"
        if 0 < trainer.max_epochs <= self._epochs:
            return "trainer.max_epochs"
        if isinstance(self.annealing, AnnealOnPlateau) and self.annealing.is_below_min_lr:
            return "anneal.min_lr"
        return MAX_TIME if self.saving.policy.is_out_of_time else CALLBACKS

    def has_trained(self, trainer: Trainer) -> bool:
        return trainer.global_step > self._began_at

    def log_way_on(self, trainer: Trainer, cause: str, config: Config) -> None:
        """Logs how to continue a run that something other than its own limits has ended."""
        step = f"{trainer.global_step:,}"
        if trial := annotated(trainer).fast_dev_run:
            windows = "a window" if trial is True else f"{trial} windows"
            log.info("trainer.fast_dev_run: all works, with %s of each text. Nothing was kept", windows)
        elif cause == MAX_TIME:
            time = config.trainer.added("max_time")
            log.info("Ended at step %s by %s=%s. The same command goes on", step, MAX_TIME, time)
        elif cause == CALLBACKS:
            names = ", ".join(self.user_callbacks) or "unknown"
            log.info("Ended at step %s by a callback (%s). The same command goes on, if that lets it", step, names)

    def why_nothing_was_trained(self, trainer: Trainer, folder: Path) -> str:
        reasons = [f"{name}: {reason}" for name, reason in self._exhausted().items()]
        return (
            f"No step was trained in {folder}, which is at step {trainer.global_step:,}: a callback ended it at once "
            f"({'; '.join(reasons) or ', '.join(self.user_callbacks)}). To go on, change its arguments, such as "
            "callbacks.NAME.patience=VALUE, or leave it out."
        )
