"""Composing and running configurations in tests."""

import csv
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from lmtrain.config.compose import compose_values as compose  # noqa: F401 - a name for the tests
from lmtrain.config.overrides import explicit_keys
from lmtrain.config.schema import check_config

# without a logger: nothing is drawn at the end, which takes as long as all the rest. With logger=csv after it, it is
SMALL = (
    *("data=folder", "data.path=corpus", "data.cache_dir=cache", "data.batch_size=4", "data.sequence_length=20"),
    *("model=tiny", "model.hidden_size=8", "trainer.accelerator=cpu", "trainer.max_steps=3", "logger=[]"),
)


class Ended(NamedTuple):
    """How a command ended, and what it said on stderr."""

    status: int | None
    message: str


def train(values: dict[str, Any], explicit: Collection[str] = ()) -> dict[str, Any]:
    """Trains with composed values, which tests change before."""
    from lmtrain.training.train import train as train_config  # slow to import

    return train_config(check_config(values), explicit)


def explicit(*overrides: str) -> set[str]:
    return explicit_keys(overrides)


def read_metrics(run: Path, name: str) -> list[float]:
    """A column of a run's metrics.csv, without its empty cells."""
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]
