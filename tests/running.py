"""Composing and running configurations in tests."""

import csv
from pathlib import Path

from lmtrain.command_line import compose_values as compose  # noqa: F401 - a name for the tests


def explicit(*overrides: str) -> set[str]:
    return {override.lstrip("+~").split("=")[0] for override in overrides}


def read_metrics(run: Path, name: str) -> list[float]:
    """A column of a run's metrics.csv, without its empty cells."""
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]
