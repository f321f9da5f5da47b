"""Sets the learning rate of every step by a schedule over the length of the run."""

import logging

from lightning.pytorch import Callback, LightningModule, Trainer

from lmtrain.config.schedules import OverRun
from lmtrain.data.windows import Window
from lmtrain.errors import UserError
from lmtrain.training.callbacks.run_length import planned_steps
from lmtrain.training.muon import Muon

log = logging.getLogger(__name__)

_FEW_STEPS = 600


class AnnealOverRun(Callback):
    """The rate is a function of the step alone, so that nothing of it needs to be saved.

    The run's length is `trainer.max_epochs` or `trainer.max_steps`, whichever ends first. A run that goes on with
    another length goes on with that length's rate.

    Args:
        schedule: says which share of the highest rate a step has.
        lr: the highest rate, `optimizer.lr`. Parameter groups with other rates have the same share of theirs.
        start_lr: after a divergence, the rate that its step shall have this time; None for the schedule's.
        diverged_step: which step that was, counted from 1.
        suggests_rate: whether a short run with Muon is told a rate with which such runs ended lower.
    """

    def __init__(
        self,
        schedule: OverRun,
        lr: float,
        start_lr: float | None = None,
        diverged_step: int = 1,
        suggests_rate: bool = False,
    ) -> None:
        self.schedule = schedule
        self.lr = lr
        self.start_lr = start_lr
        self.diverged_step = diverged_step
        self.suggests_rate = suggests_rate
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
        if self.suggests_rate and isinstance(trainer.optimizers[0], Muon) and trainer.global_step == 0:
            self._suggest_rate()

    def _suggest_rate(self) -> None:
        higher = rate_for_muon(self._steps)
        if self._steps < _FEW_STEPS and self.lr < 0.75 * higher:
            log.info(
                "This run has %d steps. Runs so short ended lower with optimizer.lr=%.2g than with %g, and with more "
                "steps, which fewer lanes make (data.batch_size); see docs/evidence.md",
                self._steps,
                higher,
                self.lr,
            )

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


def rate_for_muon(steps: int) -> float:
    """The peak rate with which runs of so many steps ended lowest: the shorter, the higher (docs/evidence.md)."""
    return max(0.04, min(0.12, 32 / steps))
