"""Composing and running configurations in tests."""

import csv
from pathlib import Path
from typing import NamedTuple

from lmtrain.config.compose import compose_values as compose  # noqa: F401 - a name for the tests

SMALL = (
    *("data=folder", "data.path=corpus", "data.cache_dir=cache", "data.batch_size=4", "data.sequence_length=20"),
    *("model=tiny", "model.hidden_size=8", "trainer.accelerator=cpu", "trainer.max_steps=3", "logger=csv"),
)


class Ended(NamedTuple):
    """How a command ended, and what it said on stderr."""

    status: int | None
    message: str


def explicit(*overrides: str) -> set[str]:
    return {override.lstrip("+~").split("=")[0] for override in overrides}


def read_metrics(run: Path, name: str) -> list[float]:
    """A column of a run's metrics.csv, without its empty cells."""
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]
