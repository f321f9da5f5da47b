"""The schedules of the learning rate that `anneal.schedule` may name, and how each describes itself."""

import inspect
import math
import pkgutil
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class Plateau:
    """The rate is lowered when the validation loss stops improving, as in Flair; `AnnealOnPlateau` does it.

    Args:
        factor: what the rate is multiplied with.
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
    """A rate that depends on the step alone: it rises over the first steps, then falls until the end of the run.

    A schedule is a subclass that says how the rate falls; the fields that it adds are further keys of `anneal`. With a
    field `min_lr` the rate goes down to that instead of zero. `AnnealOverRun` sets the rate of every step.

    Args:
        warmup: the share of the run in which the rate rises in a straight line from the lowest to the highest one,
            `optimizer.lr`.
    """

    warmup: float
    shape: ClassVar[str]
    """How the rate falls, for the model card and the log, such as "in a straight line to zero"; may name fields."""
    min_lr = 0.0

    def fall(self, left: float) -> float:
        """The rate after the warm-up: 1 is the highest, 0 the lowest one.

        Args:
            left: the share that is left of the run without its warm-up: 1 after the warm-up, 0 at the end.
        """
        raise NotImplementedError

    def share(self, progress: float, lr: float) -> float:
        """The rate as a share of the highest one.

        Args:
            progress: how much of the run is done, from 0 to 1.
            lr: the highest rate, `optimizer.lr`.
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
"""Keys of `anneal` that every schedule obeys: a run that diverges goes on with `factor` times the rate."""


def schedule_class(name: str) -> type[Schedule]:
    """The class that `anneal.schedule` names: one of `SCHEDULES`, or by its full name a subclass of `OverRun`.

    Raises:
        ValueError: there is none.
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
    """The keys of `anneal` that a schedule obeys, without those of `OF_ALL`."""
    return [name for name in inspect.signature(schedule).parameters if name not in OF_ALL]


def make_schedule(name: str, values: dict[str, Any]) -> Schedule:
    """The schedule with those of the values that it takes."""
    schedule = schedule_class(name)
    return schedule(**{key: value for key, value in values.items() if key in inspect.signature(schedule).parameters})
