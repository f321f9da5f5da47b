"""Composing and running configurations in tests."""

import csv
from pathlib import Path
from typing import Any

import hydra
from omegaconf import OmegaConf

from lmtrain.command_line import CONFIG_FOLDER


def compose(*overrides: str) -> dict[str, Any]:
    """The values that `python train.py OVERRIDES` hands to training."""
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return OmegaConf.to_container(hydra.compose("config", list(overrides)), resolve=True)


def explicit(*overrides: str) -> set[str]:
    return {override.lstrip("+~").split("=")[0] for override in overrides}


def read_metrics(run: Path, name: str) -> list[float]:
    """A column of a run's metrics.csv, without its empty cells."""
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]
