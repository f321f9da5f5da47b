"""Sets the learning rate of every step by a schedule over the length of the run."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lmtrain.config.schedules import OverRun
from lmtrain.data.windows import Window
from lmtrain.errors import UserError
from lmtrain.training.callbacks.run_length import planned_steps
from lmtrain.training.lightning_internals.attributes import annotated


class AnnealOverRun(Callback):
    """The rate is a function of the step alone, so that nothing but the highest one is saved.

    The run's length is `trainer.max_epochs` or `trainer.max_steps`, whichever ends first. A run that goes on with
    another length goes on with that length's rate, also with its highest one where `optimizer.lr=auto` chooses that.

    Args:
        schedule: says which share of the highest rate a step has.
        lr: the highest rate, of the first parameter group: `optimizer.lr`, or what `auto` became. Groups with other
            rates have the same share of theirs.
        start_lr: after a divergence, the rate that its step shall have this time; None for the schedule's.
        diverged_step: which step that was, counted from 1.
    """

    def __init__(
        self,
        schedule: OverRun,
        lr: float,
        start_lr: float | None = None,
        diverged_step: int = 1,
    ) -> None:
        self.schedule = schedule
        self.lr = lr
        self.start_lr = start_lr
        self.diverged_step = diverged_step
        self._lr_before = lr  # of the part of the run that is done
        self._steps = 0
        self._rates: list[float] = []  # as this class has left them

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._steps = planned_steps(trainer, annotated(trainer).datamodule)
        groups = trainer.optimizers[0].param_groups
        for group in groups:
            group.setdefault("initial_lr", group["lr"])  # torch's own name; it is saved with the optimizer
        groups[0]["initial_lr"] *= self.lr / self._lr_before
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
                f"the schedule {type(self.schedule).__name__} sets at every step. Leave out the callback, or use "
                "anneal=plateau."
            )
        share = self._share(trainer.global_step + 1)
        for group in groups:
            group["lr"] = group["initial_lr"] * share
        self._rates = [group["lr"] for group in groups]

    def _share(self, step: int) -> float:
        """The rate of a step, counted from 1, as a share of the highest one.

        It is that of the step's middle, so that no step has the rate 0.
        """
        return self.schedule.share((step - 0.5) / self._steps, self.lr)

    def state_dict(self) -> dict[str, Any]:
        return {"lr": self.lr}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._lr_before = state_dict["lr"]
