"""Reads a run's metrics.csv and draws its curves, by characters or by hours."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmtrain.program.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, float]
"""The figures in a row of metrics.csv, without empty cells."""


def read_metrics(path: Path) -> list[Row]:
    """The rows of a metrics.csv, with `hours` of training added; none if there is no such file.

    Damaged rows, and one that is being written, are left out.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for cells in csv.DictReader(file) if (row := _numbers(cells))]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    _add_hours(rows)
    return rows


def _numbers(cells: dict[str, str | None]) -> Row:
    if None in cells or None in cells.values():  # more or fewer cells than columns
        return {}
    try:
        return {name: float(value) for name, value in cells.items() if value}
    except ValueError:
        return {}


def _add_hours(rows: list[Row]) -> None:
    """Adds hours of training, validations left out.

    Each row uses the speed in the next row that has one; rows after the last such row use the last speed.
    """
    speeds, speed = [], next((row["chars_per_second"] for row in reversed(rows) if "chars_per_second" in row), None)
    for row in reversed(rows):
        speed = row.get("chars_per_second", speed)
        speeds.append(speed)
    hours = done = 0.0
    for row, speed in zip(rows, reversed(speeds), strict=True):
        if speed and "chars" in row:
            hours += max(0.0, row["chars"] - done) / speed / 3600
            done = row["chars"]
            row["hours"] = hours


def column(rows: Sequence[Row], name: str, by: str = "chars") -> tuple[list[float], list[float]]:
    """The characters seen (or `hours`) at each report of a figure, and the figures."""
    found = [(row[by], row[name]) for row in rows if name in row and by in row]
    return [place for place, _ in found], [value for _, value in found]


def extreme(rows: Sequence[Row], name: str, choose=min) -> float | None:
    """The lowest figure of a name (the highest, with `choose=max`); None if there is none."""
    return choose((row[name] for row in rows if name in row and not math.isnan(row[name])), default=None)


def draw(axes: "Axes", rows: Sequence[Row], name: str, by: str = "chars", **style) -> None:
    """Draws a curve, with marked points if there are few."""
    places, values = column(rows, name, by)
    axes.plot(places, values, marker="." if len(places) < 30 else None, **style)


def new_figure(width: float, height: float, margins: dict[str, float] | None = None) -> "Figure":
    """A figure of this size in inches, without a display or global state.

    Args:
        margins: arguments of matplotlib's `subplots_adjust`; None to fit the margins, which takes as long as drawing.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained" if margins is None else None)
    if margins is not None:
        figure.subplots_adjust(**margins)
    return figure


def count_axis(axis) -> None:
    """Labels an axis 500 k, 1 M, 1.5 M instead of with powers of ten."""
    from matplotlib.ticker import EngFormatter

    axis.set_major_formatter(EngFormatter())


def save_figure(figure: "Figure", path: Path) -> None:
    """Writes a PNG or PDF file, by the path's suffix."""
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, format=path.suffix[1:])
