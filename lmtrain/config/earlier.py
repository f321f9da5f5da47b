"""What a config.yaml that an earlier version wrote means today."""

from typing import Any

from lmtrain.aliases import present_name

_ADDED: dict[str, dict[str, Any]] = {  # keys that came later, with the value that is what was done before
    "data": {"format": "auto", "lanes_per_device": None, "encoding": None, "how_to_get": None},
}


def as_of_today(values: Any) -> Any:
    """The same configuration with the keys that a run has today; whatever is no configuration stays as it is.

    Args:
        values: what a config.yaml holds.
    """
    if not isinstance(values, dict):
        return values
    added = {name: keys for name, keys in _ADDED.items() if isinstance(values.get(name), dict)}
    return _renamed(values | {name: {**keys, **values[name]} for name, keys in added.items()})


def _renamed(values: Any) -> Any:
    """The same with the present name of every class."""
    if not isinstance(values, dict):
        return values
    return {
        key: present_name(value) if key == "_target_" and isinstance(value, str) else _renamed(value)
        for key, value in values.items()
    }
