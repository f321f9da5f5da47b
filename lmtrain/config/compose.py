"""Composes the configuration, by Hydra, from the files in conf/ and the KEY=VALUE arguments that were typed."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from lmtrain.config.overrides import as_hydra_reads
from lmtrain.config.schema import Config, check_config
from lmtrain.config.value_types import local_path
from lmtrain.errors import UserError
from lmtrain.program.command import is_installed, program, train_program

_HERE = Path(__file__).resolve().parents[1]
# within the package where it is installed, beside it in a checkout
CONFIG_FOLDER = _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parent / "conf"


def _needed(key: str, why: str) -> None:
    """Raises `UserError`; a recipe writes `${needed:KEY,WHY}` as the value of a key that the user must give."""
    raise UserError(f"{why}. Give {key}=VALUE.")


# Resolvers: for --help; for recipes; for a key that is needed before `check_config` has seen it.
OmegaConf.register_new_resolver("program", lambda: train_program() if is_installed() else program(), replace=True)
OmegaConf.register_new_resolver("needed", _needed, replace=True)
OmegaConf.register_new_resolver("local_path", local_path, replace=True)


def check_choice(config: Config, overrides: Iterable[str]) -> None:
    """Raises `UserError` if the user chose a schedule by `anneal=NAME` and a recipe sets another `anneal.schedule`.

    Hydra merges recipes after the groups, so the recipe's schedule would be followed without a word.
    """
    for override in overrides:
        group, _, option = override.partition("=")
        file = CONFIG_FOLDER / "anneal" / f"{option}.yaml"
        if group == "anneal" and file.is_file() and OmegaConf.load(file).schedule != config.anneal.schedule:
            raise UserError(
                f"{override}: another file sets anneal.schedule={config.anneal.schedule} after it. Give "
                f"anneal.schedule={OmegaConf.load(file).schedule} instead, or let that file choose a schedule by its "
                "group: defaults: [override /anneal: SCHEDULE]"
            )


def compose_config(*overrides: str) -> Config:
    """The configuration of `train.py OVERRIDES`, for code that is not started by Hydra.

    Raises:
        UserError: every key whose value is wrong, with the value and what is required.
    """
    return check_config(compose_values(*overrides))


def compose_values(*overrides: str) -> dict[str, Any]:
    """The values of the configuration of `train.py OVERRIDES`, unchecked."""
    with _composing, _without_outer_hydra(), hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = hydra.compose("config", as_hydra_reads(overrides))
        return resolved(config)


_composing = threading.Lock()  # Hydra has one configuration in a process


@contextmanager
def _without_outer_hydra() -> Iterator[None]:
    """Within the block Hydra is as if the program that calls did not use it itself."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = outer


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values, which refer to no others."""
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
