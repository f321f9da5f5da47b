"""What `optimizer.lr=auto` becomes: the highest rate of a run with Muon, by the number of its steps."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from lmtrain.config.schedules import OverRun

if TYPE_CHECKING:
    from lmtrain.config.schema import Config

log = logging.getLogger(__name__)

LOWEST, HIGHEST = 0.04, 0.12
_FEW_STEPS = 32 / LOWEST


class PeakRate(NamedTuple):
    """The highest rate of a run, and why `auto` became it; None if the configuration says it."""

    value: float
    reason: str | None


def choose_peak_rate(config: "Config", planned_steps: Callable[[], int | None]) -> PeakRate:
    """`auto` becomes the rate for the run's steps, if it begins from scratch and is annealed over its length.

    Else it is the lowest rate.

    Args:
        config: of the run.
        planned_steps: gives the run's optimizer steps, those that are done included.
    """
    if config.optimizer.lr != "auto":
        return PeakRate(config.optimizer.lr, None)
    if config.init_from is not None:
        return PeakRate(LOWEST, "the rate for short runs was measured from scratch only")
    if not isinstance(config.anneal.build_schedule(), OverRun):
        return PeakRate(LOWEST, f"how long a run with anneal.schedule={config.anneal.schedule} will be is not known")
    steps = planned_steps()
    if steps >= _FEW_STEPS:
        return PeakRate(LOWEST, f"the rate for {_FEW_STEPS:g} steps and more; this run has {steps:,}")
    return PeakRate(rate_for_muon(steps), f"32 / steps, at most {HIGHEST}, for this run of {steps:,} steps")


def with_former_rate(config: "Config", began_with: dict[str, Any]) -> "Config":
    """Gives `auto` the number that was Muon's default before, if the run in the folder began with that.

    Args:
        config: of the run.
        began_with: what the folder's config.yaml holds, by names such as "optimizer.lr"; empty if it holds no run.
    """
    if config.optimizer.lr != "auto" or began_with.get("optimizer.lr") != LOWEST:
        return config
    log.info("optimizer.lr=%g, with which this run began, goes on; optimizer.lr=auto is for runs that begin", LOWEST)
    return config.changed({"optimizer.lr": LOWEST})


def rate_for_muon(steps: int) -> float:
    """The peak rate with which runs of so many steps ended lowest, to four digits (docs/evidence.md)."""
    return round(max(LOWEST, min(HIGHEST, 32 / steps)), 4)
