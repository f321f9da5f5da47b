"""A configuration as plain values: what config.yaml, the model card and loggers hold."""

from typing import Any

from pydantic import ValidationError

from lmtrain.config.earlier import as_of_today
from lmtrain.config.schema import Config


def saved(config: Config) -> dict[str, Any]:
    """The configuration as it is written: numbers, texts, lists and dicts."""
    return config.model_dump()


def as_saved(values: dict[str, Any]) -> dict[str, Any]:
    """What a config.yaml holds, as it would be written today: with the keys that were not there yet.

    If it is no configuration of today, it is given back with its values as they are.
    """
    values = as_of_today(values)
    try:
        return saved(Config.model_validate(values))
    except ValidationError:
        return values


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The same values by names such as "model.hidden_size"."""
    result = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result
