"""The schedules of the learning rate that `anneal.schedule` may name: what they compute, and how they are described.

The callbacks `AnnealOnPlateau` and `AnnealOverRun` set the optimizer's rate by them.
"""

import inspect
import math
import pkgutil
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Plateau:
    """The rate is lowered when the validation loss stops improving, as in Flair.

    Args:
        factor: by which the rate is multiplied.
        patience: validations in a row that may bring no improvement before the rate is lowered.
        min_lr: training ends when the rate falls below it; 0 for never.
    """

    factor: float
    patience: int
    min_lr: float

    def describe(self, length: str) -> str:  # noqa: ARG002 - the run's length does not matter to it
        """A part of a sentence for the model card and the log."""
        bad = self.patience + 1
        when = "a validation brings" if bad == 1 else f"{bad} validations in a row bring"
        end = f"training ends when it falls below {self.min_lr}" if self.min_lr else "no rate ends training"
        return f"rate × {self.factor} when {when} no improvement; {end}"


@dataclass(frozen=True)
class OverRun:
    """Base of the schedules whose rate depends on the step alone: it rises first, then falls until the end of the run.

    A subclass says in `fall` how the rate falls. The fields that it adds are further keys of `anneal`; with a field
    `min_lr` the rate falls to that instead of to zero.

    Args:
        warmup: the share of the run in which the rate rises linearly from the lowest rate to the peak, `optimizer.lr`.
    """

    warmup: float
    shape: ClassVar[str]
    """How the rate falls, for the model card and the log: "in a straight line to zero", "... to {min_lr:g}"."""
    min_lr = 0.0

    def fall(self, left: float) -> float:
        """The height of the rate after the warm-up: 1 is the peak rate, 0 the lowest one.

        Args:
            left: the share of the steps after the warm-up that is still left: from 1 down to 0 at the run's end.
        """
        raise NotImplementedError

    def share(self, progress: float, lr: float) -> float:
        """The rate as a share of the peak rate.

        Args:
            progress: the share of the run that is done, from 0 to 1.
            lr: the peak rate, `optimizer.lr`.
        """
        if progress < self.warmup:
            height = progress / self.warmup
        else:
            height = self.fall((1 - progress) / (1 - self.warmup))
        lowest = self.min_lr / lr
        return lowest + (1 - lowest) * height if lowest else height

    def describe(self, length: str) -> str:
        """A part of a sentence for the model card and the log.

        Args:
            length: of the run, such as "10 epochs".
        """
        begin = f"rises over the first {self.warmup:.3g} of the run, then " if self.warmup else ""
        return f"the rate {begin}falls {self.shape.format(**vars(self))} at the run's end ({length})"


class Linear(OverRun):
    """A straight line to zero."""

    shape = "in a straight line to zero"

    def fall(self, left: float) -> float:
        return left


@dataclass(frozen=True)
class Cosine(OverRun):
    """Half a cosine (Loshchilov and Hutter, 2017, without their restarts).

    Args:
        min_lr: the rate at the end of the run.
    """

    min_lr: float
    shape = "in half a cosine to {min_lr:g}"

    def fall(self, left: float) -> float:
        return (1 - math.cos(math.pi * left)) / 2


Schedule = Plateau | OverRun
SCHEDULES: dict[str, type[Schedule]] = {"plateau": Plateau, "linear": Linear, "cosine": Cosine}
OF_ALL = frozenset({"schedule", "factor"})
"""Keys of `anneal` that matter with every schedule: a run that diverged goes on with `factor` times its rate."""


def schedule_class(name: str) -> type[Schedule]:
    """The class of a schedule.

    Args:
        name: a key of `SCHEDULES`, or the full name of a subclass of `OverRun`.

    Raises:
        ValueError: there is no such schedule.
    """
    if name in SCHEDULES:
        return SCHEDULES[name]
    wanted = f"Input should be {', '.join(SCHEDULES)}, or the full name of a subclass of {OverRun.__module__}.OverRun"
    if "." not in name:
        raise ValueError(wanted)
    try:
        found = pkgutil.resolve_name(name)
    except Exception as error:  # importing may raise anything
        raise ValueError(f"{wanted} ({error})") from None
    if not (inspect.isclass(found) and issubclass(found, OverRun)):
        raise ValueError(wanted)
    return found


def keys_taken(schedule: type[Schedule]) -> list[str]:
    """The keys of `anneal` that a schedule takes, without those of `OF_ALL`."""
    return [name for name in inspect.signature(schedule).parameters if name not in OF_ALL]


def make_schedule(name: str, values: dict[str, Any]) -> Schedule:
    """Makes the schedule, with those of the values that it takes."""
    schedule = schedule_class(name)
    return schedule(**{key: value for key, value in values.items() if key in inspect.signature(schedule).parameters})


def check_rates(schedule: Schedule) -> None:
    """Raises an exception if a schedule cannot describe itself, or has rates that are none; one of one's own may."""
    schedule.describe("")
    if not isinstance(schedule, OverRun):
        return
    for percent in range(101):
        share = schedule.share(percent / 100, max(1.0, schedule.min_lr))
        if not (math.isfinite(share) and share >= 0):
            raise ValueError(f"{share:.3g} of the highest rate after {percent} % of the run, which is no rate")
