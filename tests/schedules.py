"""A schedule of a user's own, which tests name in configurations as `schedules.Steps`."""

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
