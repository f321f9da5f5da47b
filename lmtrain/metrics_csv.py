"""metrics.csv: one row a report, one column a figure, continued when the run is resumed."""

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from lmtrain.files import replacing

COLUMNS = (
    *("step", "chars", "train/loss", "train/bpc", "val/loss", "val/ppl", "val/bpc"),
    *("test/loss", "test/ppl", "test/bpc", "lr", "grad_norm", "chars_per_second"),
    *("train/unknown_rate", "val/unknown_rate"),
)


class MetricsCSV(Logger):
    """A Lightning logger that appends rows to a CSV file with fixed columns; other figures are left to other loggers.

    Args:
        save_dir: the run folder.
        resume_step: rows of later steps are from a part of the run that was lost, and are dropped.
    """

    def __init__(self, save_dir: str | Path, resume_step: int | None = None) -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self._resume_step = resume_step
        self._is_prepared = False

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Hyperparameters stand in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if not self._is_prepared:
            self._prepare()
        row = {"step": step, **{name: value for name, value in metrics.items() if name in COLUMNS}}
        if len(row) > 2:  # more than step and chars
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, COLUMNS, restval="").writerow(row)

    def _prepare(self) -> None:
        rows = []
        if self._resume_step is not None and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if _belongs(row, self._resume_step)]
        with replacing(self.path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        self._is_prepared = True


def _belongs(row: dict[str, str], last_step: int) -> bool:
    return (row.get("step") or "").isdigit() and int(row["step"]) <= last_step and None not in row.values()
