"""Upgrades the values of a config.yaml that an earlier version wrote: keys that came later, classes that moved."""

from typing import Any

from lmtrain.aliases import present_name

_ADDED: dict[str, dict[str, Any]] = {  # keys that came later, with the value that means what earlier versions did
    "data": {"format": "auto", "lanes_per_device": None, "encoding": None, "how_to_get": None},
}


def as_of_today(values: Any) -> Any:
    """The same configuration as this version would write it.

    Args:
        values: the content of a config.yaml; anything but a mapping is returned as it is.
    """
    if not isinstance(values, dict):
        return values
    added = {name: keys for name, keys in _ADDED.items() if isinstance(values.get(name), dict)}
    return _renamed(values | {name: {**keys, **values[name]} for name, keys in added.items()})


def _renamed(values: Any) -> Any:
    """The values with the present name of every class."""
    if not isinstance(values, dict):
        return values
    return {
        key: present_name(value) if key == "_target_" and isinstance(value, str) else _renamed(value)
        for key, value in values.items()
    }
