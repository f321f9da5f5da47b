"""Refuses keys that the user set but that would have no effect, or another effect than meant."""

from collections.abc import Collection

from lmtrain.config.schedules import keys_taken, schedule_class
from lmtrain.config.schema import Config
from lmtrain.errors import raise_if_any


def check_explicit(config: Config, explicit: Collection[str]) -> None:
    """Checks the keys that the user set.

    Args:
        explicit: the keys, such as "optimizer.lr", or "anneal" if the user chose an option of that group.

    Raises:
        UserError: another optimizer class is given, but not a rate for it; the chosen schedule does not take a key of
            `anneal`; the schedule is chosen twice; the lanes are given twice.
    """
    problems = (
        _foreign_rate(config, explicit) + _other_schedules_keys(config, explicit) + _lanes_twice(config, explicit)
    )
    raise_if_any(problems)


def _foreign_rate(config: Config, explicit: Collection[str]) -> list[str]:
    if "optimizer._target_" not in explicit or "optimizer.lr" in explicit or config.optimizer.lr == "auto":
        return []
    name = config.optimizer.model_dump()["_target_"]
    return [
        f"optimizer._target_={name} would have the rate of another optimizer, {config.optimizer.lr:g}. "
        "Give its own: optimizer.lr=VALUE."
    ]


def _other_schedules_keys(config: Config, explicit: Collection[str]) -> list[str]:
    problems = []
    if {"anneal", "anneal.schedule"} <= set(explicit):
        problems.append("anneal=SCHEDULE and anneal.schedule=SCHEDULE say the same. Give one of them.")
    schedule = config.anneal.schedule
    takes = [f"anneal.{name}" for name in keys_taken(schedule_class(schedule))]
    for key in sorted(set(config.anneal.ignored()) & set(explicit)):
        value = getattr(config.anneal, key.removeprefix("anneal."))
        problems.append(
            f"{key}={value} has no effect with the schedule {schedule}, which takes {', '.join(takes)}. Leave it out, "
            "or choose another schedule: anneal=plateau or another of conf/anneal/."
        )
    return problems


def _lanes_twice(config: Config, explicit: Collection[str]) -> list[str]:
    data = config.data
    if data.lanes_per_device is None or "data.batch_size" not in explicit:
        return []
    return [
        f"data.batch_size={data.batch_size} and data.lanes_per_device={data.lanes_per_device} both say how many lanes "
        "there are: on all devices together, and on each. Give one of them."
    ]
