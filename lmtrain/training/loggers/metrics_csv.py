"""Writes metrics.csv: a row for each report, a column for each figure; continued when the run is resumed."""

import csv
import errno
import io
import os
from collections import deque
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only

from lmtrain.program.files import atomic_write
from lmtrain.training.loggers.run_logger import RunInfo, RunLogger

COLUMNS = (
    *("step", "chars", "train/loss", "train/bpc", "val/loss", "val/ppl", "val/bpc"),
    *("test/loss", "test/ppl", "test/bpc", "lr", "grad_norm", "chars_per_second"),
    *("train/unknown_rate", "val/unknown_rate", "probe/accuracy", "probe/f1"),
)

_MOST_WAITING = 10_000


class MetricsCSV(RunLogger):
    """Appends rows to the run's metrics.csv, whose columns are fixed; figures without a column are left out.

    Args:
        run: rows of later steps than the one that it goes on from are removed.
    """

    def __init__(self, run: RunInfo) -> None:
        super().__init__()
        self.path = run.folder / "metrics.csv"
        self._resume_step = run.resume_step
        self._is_prepared = False
        self._waiting: deque[dict[str, Any]] = deque(maxlen=_MOST_WAITING)  # rows that could not be written

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if not self._is_prepared:
            self._prepare()
        row = {"step": step, **{name: value for name, value in metrics.items() if name in COLUMNS}}
        if len(row) > 2:  # more than step and chars
            self._waiting.append(row)
            self._write()

    def _write(self) -> None:
        """Appends the waiting rows, all or none: half a row, left by a full disk, would spoil the next one."""
        with self.path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, COLUMNS, restval="")
            if size == 0:  # somebody has removed the file
                writer.writeheader()
            writer.writerows(self._waiting)
            content = text.getvalue().encode()
            if file.write(content) < len(content):
                file.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._waiting.clear()

    def _prepare(self) -> None:
        with atomic_write(self.path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore")
            writer.writeheader()
            if self._resume_step is not None and self.path.exists():
                with self.path.open(newline="", encoding="utf-8") as before:
                    writer.writerows(row for row in csv.DictReader(before) if _belongs(row, self._resume_step))
        self._is_prepared = True


def _belongs(row: dict[str, str], last_step: int) -> bool:
    return (row.get("step") or "").isdigit() and int(row["step"]) <= last_step and None not in row.values()
