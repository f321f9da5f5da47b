"""Answers questions about a key, such as "model.hidden_size", by the marks that its field has in the schema."""

from typing import Any

from lmtrain.config import trainer_arguments
from lmtrain.config.saved import flat, saved
from lmtrain.config.schema import Config, Mark, all_fields


def is_marked(key: str, *marks: Mark) -> bool:
    """Whether a key, or a section that it is in, bears one of the marks."""
    fields = all_fields()
    parts = key.split(".")
    names = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return any(mark in fields[name].metadata for name in names if name in fields for mark in marks)


def may_change(key: str) -> bool:
    """Whether a run may go on with another value."""
    if key.startswith("trainer."):
        return trainer_arguments.may_change(key.split(".")[1])
    return is_marked(key, Mark.MAY_CHANGE, Mark.PLACE)


def may_change_in(config: Config, key: str) -> bool:
    """Whether a run of this configuration may go on with another value; for `anneal` that depends on its schedule."""
    if key == "anneal.min_lr" and config.anneal.ends_at_min_lr():
        return False
    return may_change(key) or key in config.anneal.ignored()


def hyperparameters(config: Config) -> dict[str, Any]:
    """The keys by which loggers compare runs, and their values."""
    return {key: value for key, value in flat(saved(config)).items() if is_marked(key, Mark.COMPARED)}
