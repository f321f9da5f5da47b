"""A configuration as plain values, for config.yaml, the model card and loggers."""

from typing import Any

from pydantic import ValidationError

from lmtrain.config.earlier import as_of_today
from lmtrain.config.schema import Config


def saved(config: Config) -> dict[str, Any]:
    """The configuration as nested dicts of numbers, texts and lists, as config.yaml has it."""
    return config.model_dump()


def as_saved(values: dict[str, Any]) -> dict[str, Any]:
    """The content of a config.yaml of any version as `saved` gives it, so that the two can be compared.

    Values that this version would refuse stay as they are.
    """
    values = as_of_today(values)
    try:
        return saved(Config.model_validate(values))
    except ValidationError:
        return values


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested dicts by keys such as "model.hidden_size"."""
    result = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result
