"""Writes a run's report: its curves (report.png) and its model card (README.md)."""

import logging
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from lmtrain.config.schedules import Plateau
from lmtrain.config.schema import Config
from lmtrain.program.files import atomic_write
from lmtrain.runs.curves import Row, column, count_axis, draw, new_figure, read_metrics, save_figure
from lmtrain.runs.model_card import model_card
from lmtrain.runs.run_folder import RunFolder

log = logging.getLogger(__name__)


def write_report(folder: RunFolder, config: Config, results: dict[str, Any]) -> None:
    """Writes `README.md`, the model card, and `report.png`, the curves, into the run folder.

    A failure is only logged, and then an earlier file of that name is removed.

    Args:
        folder: the run folder, with its metrics.csv.
        config: the run's configuration.
        results: the content of `results.json`.
    """
    rows = read_metrics(folder.path / "metrics.csv")
    for path in _files_of(folder, rows):
        try:
            if path.suffix == ".png":
                plot(rows, path, config.data.level, isinstance(config.anneal.build_schedule(), Plateau))
            else:
                card = model_card(folder, config, results, rows)
                with atomic_write(path) as unfinished:  # a path need not be UTF-8
                    unfinished.write_text(card, encoding="utf-8", errors="backslashreplace")
        except Exception as error:  # a report must not make a run fail
            log.warning("%s could not be written: %s. Run the same command again to write it", path, error)
            with suppress(OSError):
                path.unlink()


def is_reported(folder: RunFolder) -> bool:
    """Whether all files of `write_report` are there."""
    return all(path.is_file() for path in _files_of(folder, read_metrics(folder.path / "metrics.csv")))


def _files_of(folder: RunFolder, rows: list[Row]) -> list[Path]:
    return [*([folder.path / "report.png"] if rows else []), folder.path / "README.md"]


def plot(rows: list[Row], path: Path, level: str = "character", is_stepped: bool = True) -> None:
    """Draws losses with the best validation marked, and the speed, by items seen.

    Args:
        is_stepped: mark where the learning rate was lowered, which makes no sense for one that always falls.
    """
    figure = new_figure(9, 7, {"left": 0.11, "right": 0.91, "bottom": 0.08, "top": 0.97, "hspace": 0.07})
    losses, speeds = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    draw(losses, rows, "train/bpc", label="train")
    draw(losses, rows, "val/bpc", label="validation")
    chars, values = column(rows, "val/bpc")
    if values:
        best = values.index(min(values))
        losses.plot(chars[best], values[best], "*", color="black", label=f"best validation: {values[best]:.3f}")
    chars, rates = column(rows, "lr")
    annealed = [at for at, before, now in zip(chars[1:], rates, rates[1:], strict=False) if is_stepped and now < before]
    for number, at in enumerate(annealed):
        losses.axvline(at, color="gray", linestyle=":", label="learning rate lowered" if number == 0 else None)
    losses.set_ylabel(f"bits per {level}")
    losses.legend()
    nats = losses.secondary_yaxis("right", functions=(lambda bits: bits * math.log(2), lambda nats: nats / math.log(2)))
    nats.set_ylabel("nats")
    draw(speeds, rows, "chars_per_second")
    speeds.set_ylabel(f"{level}s/s")
    speeds.set_ylim(bottom=0)
    count_axis(speeds.yaxis)
    speeds.set_xlabel(f"{level}s seen in training")
    count_axis(speeds.xaxis)
    save_figure(figure, path)
