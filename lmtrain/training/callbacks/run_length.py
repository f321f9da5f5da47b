"""The length of a run: the number of optimizer steps at its end, and the time that it may take."""

import math
import time

from lightning.pytorch import Trainer

from lmtrain.config.schema import TrainerConfig
from lmtrain.training.datamodule import WindowDataModule


class TimeLimit:
    """A limit of the time of this start of a run, `trainer.max_time`.

    Args:
        seconds: counted from the first call of `start`; None for no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._began: float | None = None

    def start(self) -> None:
        if self._began is None:
            self._began = time.monotonic()

    def is_over(self) -> bool:
        return self.seconds is not None and time.monotonic() - self._began > self.seconds


def planned_steps(trainer: Trainer | TrainerConfig, data: WindowDataModule) -> int | None:
    """The number of optimizer steps at the end of the run; None without `max_epochs` and `max_steps`."""
    limits = [trainer.max_steps] if trainer.max_steps > 0 else []
    if (trainer.max_epochs or -1) > 0:
        growing = min(data.growing_epochs(), trainer.max_epochs)  # all epochs after these have equally many windows
        windows = [data.windows_in_epoch(epoch) for epoch in range(growing + (growing < trainer.max_epochs))]
        steps = [math.ceil(count / trainer.accumulate_grad_batches) for count in windows]
        limits.append(sum(steps[:growing]) + (trainer.max_epochs - growing) * steps[-1])
    return min(limits, default=None)
