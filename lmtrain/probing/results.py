"""Shows the results of a probe as a table, as plain values and as a plot."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmtrain.probing.experiment import BOTH, EMBEDDINGS, EMBEDDINGS_AROUND, NGRAMS, NGRAMS_AROUND, Result

FIGURES = {"f1": "entity F1", "accuracy": "accuracy"}


def measured(results: Sequence[Result]) -> list[str]:
    """The names of the figures that the results have, the main one first."""
    return [name for name in FIGURES if getattr(results[0].figures, name) is not None]


def mean_and_deviation(results: Sequence[Result], features: str, sentences: int, figure: str) -> tuple[float, float]:
    """The mean and the sample deviation of a figure over the seeds; the deviation is NaN for one seed."""
    values = [
        getattr(one.figures, figure) for one in results if one.features == features and one.sentences == sentences
    ]
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else math.nan


def table(results: Sequence[Result]) -> str:
    """Lines of text: a block for each figure, with a row for each kind of features and a column for each size."""
    kinds = list(dict.fromkeys(one.features for one in results))
    sizes = sorted({one.sentences for one in results})
    width = max(map(len, [*kinds, "training sentences"]))
    lines = []
    for figure in measured(results):
        lines += ["", FIGURES[figure]]
        lines.append("  ".join([f"{'training sentences':<{width}}", *(f"{size:>15,}" for size in sizes)]))
        for kind in kinds:
            cells = [_cell(*mean_and_deviation(results, kind, size, figure)) for size in sizes]
            lines.append("  ".join([f"{kind:<{width}}", *(f"{cell:>15}" for cell in cells)]))
    return "\n".join(lines[1:])


def _cell(mean: float, deviation: float) -> str:
    return f"{mean:.3f}" if math.isnan(deviation) else f"{mean:.3f} ± {deviation:.3f}"


def verdict(results: Sequence[Result]) -> str:
    """One sentence on the largest training set: embeddings compared with n-grams."""
    figure, most = measured(results)[0], max(one.sentences for one in results)
    means = {
        kind: mean_and_deviation(results, kind, most, figure)[0]
        for kind in (NGRAMS, EMBEDDINGS, NGRAMS_AROUND, EMBEDDINGS_AROUND, BOTH)
    }
    return (
        f"With {most:,} training sentences embeddings are {_apart(means[EMBEDDINGS] - means[NGRAMS])} n-grams in "
        f"{FIGURES[figure]}; with neighbours {_apart(means[EMBEDDINGS_AROUND] - means[NGRAMS_AROUND])}, and both "
        f"together {_apart(means[BOTH] - means[NGRAMS_AROUND])} n-grams with neighbours."
    )


def _apart(difference: float) -> str:
    return f"{abs(difference):.3f} {'above' if difference >= 0 else 'below'}"


def records(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A plain mapping for each result."""
    return [{**values, **values.pop("figures")} for values in map(asdict, results)]


def plot(results: Sequence[Result], path: Path) -> None:
    """Draws the first figure by the number of training sentences, with the deviation over seeds."""
    from lmtrain.runs.curves import new_figure, save_figure

    figure = measured(results)[0]
    sizes = sorted({one.sentences for one in results})
    drawing = new_figure(6, 4)
    axes = drawing.add_subplot()
    for kind in dict.fromkeys(one.features for one in results):
        pairs = [mean_and_deviation(results, kind, size, figure) for size in sizes]
        bars = [0 if math.isnan(deviation) else deviation for _, deviation in pairs]
        axes.errorbar(sizes, [mean for mean, _ in pairs], bars, marker=".", capsize=2, label=kind)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("training sentences")
    axes.set_ylabel(FIGURES[figure])
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(drawing, path)
