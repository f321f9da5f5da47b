"""Draws the curves of several runs in one picture."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmtrain.errors import UserError
from lmtrain.runs.compare import RunSummary
from lmtrain.runs.curves import count_axis, draw, extreme, new_figure, save_figure


def plot(runs: Sequence[RunSummary], path: Path) -> None:
    """Draws val/bpc by characters and by hours into a PNG or PDF file: twins in one colour, backward models dashed.

    Raises:
        UserError: there is no validation to draw.
    """
    drawn = [run for run in runs if extreme(run.rows, "val/bpc") is not None]
    if not drawn:
        raise UserError("None of the runs has a validation in its metrics.csv yet: there is nothing to draw.")
    colors = _colors(drawn)
    columns = max(1, min(4, 120 // (max(len(run.name) for run in drawn) + 8)))
    figure = new_figure(11, 4.5 + 0.22 * math.ceil(len(drawn) / columns))
    left, right = figure.subplots(1, 2, sharey=True)
    for run in drawn:
        style = {
            "color": colors[run.name],
            "linestyle": "--" if run.config["direction"] == "backward" else "-",
        }
        draw(left, run.rows, "val/bpc", label=run.name, **style)
        draw(right, run.rows, "val/bpc", by="hours", **style)
    left.set_ylabel("val/bpc")
    left.set_xlabel("characters seen in training")
    count_axis(left.xaxis)
    right.set_xlabel("hours of training, without validations")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=columns)
    save_figure(figure, path)


def _colors(runs: Sequence[RunSummary]) -> dict[str, Any]:
    """A colour for every run, by its name; the n-th run of each direction among twins has the same."""
    from matplotlib import colormaps

    seen, pairs = Counter(), {}
    for run in runs:
        kind = run.kind
        pairs[run.name] = kind, seen[kind, run.config["direction"]]
        seen[kind, run.config["direction"]] += 1
    numbers = {pair: number for number, pair in enumerate(dict.fromkeys(pairs.values()))}
    name = "tab10" if len(numbers) <= 10 else "tab20" if len(numbers) <= 20 else "turbo"
    colors = colormaps[name].resampled(len(numbers)) if name == "turbo" else colormaps[name]
    return {run: colors(numbers[pair]) for run, pair in pairs.items()}
