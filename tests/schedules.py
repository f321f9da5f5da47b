"""Schedules of a user's own, which tests name in configurations, such as `schedules.Steps`."""

from dataclasses import dataclass

from lmtrain.config.schedules import OverRun


@dataclass(frozen=True)
class Steps(OverRun):
    """The highest rate until a share of the run is left, then a part of it."""

    last: float
    level: float = 0.5
    shape = "to {level:g} of it for the last {last:g}"

    def fall(self, left):
        return self.level if left < self.last else 1


@dataclass(frozen=True)
class Power(OverRun):
    """Wrong with some exponents: 0 ** -1 at the end, and below zero after the middle with a shift."""

    exponent: float = 1.0
    shift: float = 0.0
    shape = "with a power"

    def fall(self, left):
        return left**self.exponent - self.shift


class Unfinished(OverRun):
    shape = "as nobody has written yet"
