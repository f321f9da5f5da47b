"""Turns pydantic's validation errors into sentences: the key, its value, what is required, and similar keys."""

from collections.abc import Collection, Iterable, Mapping
from difflib import SequenceMatcher
from typing import Any

from lmtrain.config.trainer_arguments import TRAINER_ARGUMENTS


def sentences(problems: Iterable[Mapping[str, Any]], keys: Collection[str]) -> list[str]:
    """A sentence for each key that is wrong.

    Args:
        problems: of pydantic, as `ValidationError.errors` gives them.
        keys: all keys of the configuration.
    """
    found: dict[str, str] = {}
    for problem in problems:
        # a union's problems are located at its members; they name types, which are no part of the key
        key = ".".join(str(part) for part in problem["loc"] if str(part) not in ("int", "str", "float", "list[int]"))
        message = problem["msg"].removeprefix("Value error, ")
        message = message.replace("Input should", "it must").replace("String should", "it must")
        if problem["type"] == "extra_forbidden":
            found[key] = f"{key} is no key of the configuration. {hint(key, keys)}"
        elif problem["type"] == "missing":
            found[key] = f"{key} is missing. Give {key}=VALUE."
        elif key in found:
            found[key] = f"{found[key].removesuffix('.')}; or {message}."
        else:
            value = "" if isinstance(problem["input"], dict) else f"={problem['input']}"
            found[key] = f"{key}{value}: {message}."
    return list(found.values())


def hint(key: str, keys: Collection[str]) -> str:
    """A sentence that says what to write instead of a key that does not exist."""
    if key.removeprefix("trainer.") in TRAINER_ARGUMENTS:
        return f"It is an argument of Lightning's Trainer: write +{key}=VALUE. docs/lightning.md lists all."
    if key.startswith(("callbacks.", "logger.")):
        return f"To add one, write '+{key}={{_target_: CLASS, ARGUMENT: VALUE}}'."
    if key.startswith(("trainer.", "optimizer.")):
        owner = {"trainer": "Lightning's Trainer", "optimizer": "the optimizer"}[key.partition(".")[0]]
        more = f" If it is an argument of {owner}, write +{key}=VALUE."
    else:
        more = ""
    nearest = most_like(key, {**dict.fromkeys(keys), **{f"trainer.{name}": None for name in TRAINER_ARGUMENTS}})
    return (f"Did you mean {' or '.join(nearest)}?" if nearest else "python train.py --help lists all keys.") + more


def most_like(name: str, names: Iterable[str]) -> list[str]:
    """Up to three names that are similar to this one as a whole or in their last component, most similar first.

    `difflib.get_close_matches` compares whole names only, and so would not find "optimizer.lr" for "lr".
    """

    def likeness(other: str) -> float:
        pairs = (name, other), (name.rpartition(".")[2], other.rpartition(".")[2])
        return max(SequenceMatcher(None, *pair).ratio() for pair in pairs)

    return [other for other in sorted(names, key=likeness, reverse=True)[:3] if likeness(other) >= 0.7]
