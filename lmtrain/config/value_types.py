"""Types of values for the schema's fields, with the checks that pydantic makes and the sentences for what fails."""

import inspect
import os
import pkgutil
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from lmtrain.aliases import present_name
from lmtrain.config.shipped_callbacks import refusal

Positive = Annotated[int, Field(gt=0, lt=2**63)]


def _check_limit(value: int) -> int:
    if value == 0:
        raise ValueError("Input should be greater than 0, or -1 for no limit")
    return value


Limit = Annotated[int, Field(ge=-1, lt=2**63), AfterValidator(_check_limit)]


def local_path(path: str) -> str:
    """A path on this machine from one that may begin with `~` or `file://`."""
    if not path:
        raise ValueError("Input should be a path, and . for this folder; is an environment variable set to nothing?")
    expanded = os.path.expanduser(path.removeprefix("file://"))
    if expanded.startswith("~"):
        raise ValueError("Input should be a path without ~: this user has no home directory, and HOME is not set")
    return expanded


LocalPath = Annotated[str, AfterValidator(local_path)]


def _check_is_target(settings: Any) -> Any:
    """Raises `ValueError`, which shows the form, if a class is given without `_target_` or several are given."""
    if isinstance(settings, dict) and "_target_" in settings:
        return with_present_name(settings)
    name = settings[0] if isinstance(settings, list) and len(settings) == 1 else settings
    form = f"{{_target_: {name if isinstance(name, str) else 'module.CLASS'}, ARGUMENT: VALUE}}"
    raise ValueError(f"Input should be a class with its arguments, if it takes any, in quotes: '{form}'")


def with_present_name(settings: dict[str, Any]) -> dict[str, Any]:
    """The same with the present name of a class that has moved, so that runs go on that began under the former one."""
    name = settings.get("_target_")
    return settings | {"_target_": present_name(name)} if isinstance(name, str) else settings


def check_target(settings: dict[str, Any]) -> dict[str, Any]:
    """Raises `ValueError` unless `_target_` names a class or function that takes the other settings as arguments."""
    name = settings.get("_target_")
    arguments = {key: value for key, value in settings.items() if not key.startswith("_")}
    try:
        inspect.signature(pkgutil.resolve_name(name)).bind_partial(**arguments)
    except Exception as error:  # importing may raise anything
        raise ValueError(
            f"_target_={name} must be the full name of a class or function that takes these arguments ({error})"
        ) from None
    return settings


def _without_nulls(settings: Any) -> Any:
    """The entries without those that are null: `logger.csv=null` and `callbacks.NAME=null` leave out one."""
    if not isinstance(settings, dict):
        return {} if settings is None else settings
    return {name: value for name, value in settings.items() if value is not None}


Target = Annotated[dict[str, Any], BeforeValidator(_check_is_target), AfterValidator(check_target)]
Targets = Annotated[dict[str, Target], BeforeValidator(_without_nulls)]


def _check_callback(settings: dict[str, Any]) -> dict[str, Any]:
    if reason := refusal(pkgutil.resolve_name(settings["_target_"])):
        raise ValueError(reason)
    return settings


Callbacks = Annotated[dict[str, Annotated[Target, AfterValidator(_check_callback)]], BeforeValidator(_without_nulls)]
