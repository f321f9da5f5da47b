"""Lowers the learning rate over the length of the run: a warm-up, then a decay to zero."""

import math

from lightning.pytorch import Callback, LightningModule, Trainer

from lmtrain.callbacks.run_length import planned_steps
from lmtrain.windows import Window


class AnnealOverRun(Callback):
    """The rate rises over the first steps and falls to zero at the last; both are a function of the step alone.

    The run's length is `trainer.max_epochs` or `trainer.max_steps`, whichever ends first. A run that goes on with
    another length goes on with that length's rate.

    Args:
        schedule: "cosine" or "linear", how the rate falls.
        warmup: the share of the run in which the rate rises in a straight line.
        start_lr: the rate to go on with, after a divergence; None for the schedule's.
    """

    def __init__(self, schedule: str, warmup: float, start_lr: float | None = None) -> None:
        self.schedule = schedule
        self.warmup = warmup
        self.start_lr = start_lr
        self._steps = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._steps = planned_steps(trainer)
        groups = trainer.optimizers[0].param_groups
        for group in groups:
            group.setdefault("initial_lr", group["lr"])  # torch's own name; it is saved with the optimizer
        if self.start_lr is not None:
            share = schedule_share(self.schedule, self.warmup, trainer.global_step / self._steps)
            scale = self.start_lr / (groups[0]["initial_lr"] * max(share, 1e-9))
            for group in groups:
                group["initial_lr"] *= scale

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Window, batch_idx: int) -> None:
        # the middle of the step, so that neither the first nor the last step has the rate 0
        share = schedule_share(self.schedule, self.warmup, (trainer.global_step + 0.5) / self._steps)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] * share


def schedule_share(schedule: str, warmup: float, progress: float) -> float:
    """What the highest rate is multiplied with when `progress` of the run, from 0 to 1, is done."""
    if progress < warmup:
        return progress / warmup
    left = max(0.0, (1 - progress) / (1 - warmup))
    return left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2
