"""Lowers the learning rate over the length of the run: a warm-up, then a straight line to zero."""

from lightning.pytorch import Callback, LightningModule, Trainer

from lmtrain.data.windows import Window
from lmtrain.errors import UserError
from lmtrain.training.callbacks.run_length import planned_steps


class AnnealOverRun(Callback):
    """The rate rises over the first steps and falls to zero at the last; both are a function of the step alone.

    The run's length is `trainer.max_epochs` or `trainer.max_steps`, whichever ends first. A run that goes on with
    another length goes on with that length's rate.

    Args:
        warmup: the share of the run in which the rate rises in a straight line.
        start_lr: after a divergence, the rate that its step shall have this time; None for the schedule's.
        diverged_step: which step that was, counted from 1.
    """

    def __init__(self, warmup: float, start_lr: float | None = None, diverged_step: int = 1) -> None:
        self.warmup = warmup
        self.start_lr = start_lr
        self.diverged_step = diverged_step
        self._steps = 0
        self._rates: list[float] = []  # as this class has left them

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._steps = planned_steps(trainer)
        groups = trainer.optimizers[0].param_groups
        for group in groups:
            group.setdefault("initial_lr", group["lr"])  # torch's own name; it is saved with the optimizer
        if self.start_lr is not None:
            scale = self.start_lr / (groups[0]["initial_lr"] * self._share(self.diverged_step))
            for group in groups:
                group["initial_lr"] *= scale
        self._rates = [group["lr"] for group in groups]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Window, batch_idx: int) -> None:
        groups = trainer.optimizers[0].param_groups
        found = [group["lr"] for group in groups]
        if found != self._rates:
            raise UserError(
                f"A callback has changed the learning rate to {found[0]:g} at step {trainer.global_step}, which "
                "anneal.schedule=linear sets at every step. Leave out the callback, or use anneal.schedule=plateau."
            )
        share = self._share(trainer.global_step + 1)
        for group in groups:
            group["lr"] = group["initial_lr"] * share
        self._rates = [group["lr"] for group in groups]

    def _share(self, step: int) -> float:
        """What a step, counted from 1, has of the highest rate; taken in its middle, so that none has the rate 0."""
        progress = (step - 0.5) / self._steps
        return progress / self.warmup if progress < self.warmup else (1 - progress) / (1 - self.warmup)
