"""Compares runs by their files: their figures, and the keys in which their configurations differ."""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from rich.markup import escape
from rich.table import Table

from lmtrain.config.earlier import as_of_today
from lmtrain.config.keys import is_marked, may_change
from lmtrain.config.saved import flat
from lmtrain.config.schema import Mark
from lmtrain.errors import UserError, raise_if_any
from lmtrain.runs.curves import Row, extreme, read_metrics
from lmtrain.runs.run_folder import RunFolder, is_finished
from lmtrain.units import perplexity

TOLERANCE = 1.1
"""A run whose perplexity is more than 10 % above its twin's may have failed; docs/how_good.md says why 10."""

FIGURES = ("epochs", "steps", "chars", "hours", "chars_per_second", "val/loss", "val/ppl", "val/bpc", "test/ppl")

_NEEDED = ("direction", "data.name", "data.path", "model.hidden_size", "model.nlayers")


@dataclass(frozen=True)
class RunSummary:
    """A run, finished or not.

    Args:
        name: the path of its folder, relative to the folder that all runs have in common.
        path: its folder.
        config: its configuration, with names such as "model.hidden_size".
        rows: the rows of its metrics.csv.
        figures: those of FIGURES that are known: passes over the training text; optimizer steps; items trained on;
            hours of training without validations, and items per second of these; the figures of the best validation;
            the test perplexity of the best model.
        peak_rate: the learning rate that `optimizer.lr=auto` became; None if the key is a number, or the run has not
            ended.
        text: identifies the text it trains on, by checksums, or by its path if these are unknown.
        is_finished: it reached the limits of its configuration, or a callback ended it.
    """

    name: str
    path: Path
    config: dict[str, Any]
    rows: list[Row]
    figures: dict[str, float]
    peak_rate: float | None
    text: str
    is_finished: bool

    @property
    def data(self) -> str:
        return Path(self.config["data.path"] or self.config["data.name"]).name

    @cached_property
    def kind(self) -> str:
        """A key that is the same for a run and its twin of the other direction."""
        same = {
            key: _comparable(value)
            for key, value in self.config.items()
            if key not in ("direction", "seed") and not may_change(key)
        }
        return json.dumps([self.text, same], sort_keys=True)

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration, with the number that `optimizer.lr=auto` became."""
        return self.config | ({} if self.peak_rate is None else {"optimizer.lr": self.peak_rate})

    @property
    def model(self) -> str:
        return f"{self.config['model.hidden_size']}×{self.config['model.nlayers']}"


def read_runs(
    paths: Sequence[str | Path], sort: str = "val/loss", progress: Callable[[int, int], object] = lambda *_: None
) -> list[RunSummary]:
    """Reads run folders, also of runs that are training.

    Args:
        paths: the folders. Files beside runs, such as Hydra's multirun.yaml and MLflow's mlflow.db, and empty folders
            are left out.
        sort: one of FIGURES, runs without it last; or "run", by name.
        progress: called with how many runs have been read, and how many there are.

    Raises:
        UserError: paths that are no runs, all at once.
    """
    found = list({os.path.abspath(path): Path(path) for path in paths if not _is_neighbour(Path(path))}.items())
    raise_if_any([problem for _, path in found if (problem := _problem_of(path))])
    if not found:
        raise UserError("There is no run folder to compare. Give one or more, such as runs/*.")
    parent = os.path.commonpath([os.path.dirname(path) for path, _ in found])
    runs = []
    for absolute, path in found:
        progress(len(runs), len(found))
        runs.append(_read_run(path, os.path.relpath(absolute, parent)))
    if sort == "run":
        return sorted(runs, key=lambda run: run.name)
    return sorted(runs, key=lambda run: run.figures.get(sort, math.inf))


def _is_neighbour(path: Path) -> bool:
    """Whether a path is an empty folder, or a file, pipe or socket that is not in a run folder."""
    if path.is_dir():
        return not any(path.iterdir())
    return path.exists() and not (path.parent / "config.yaml").exists()


def _problem_of(path: Path) -> str | None:
    if not path.is_dir():
        problem = "is not a folder" if path.exists() else "does not exist"
        if path.is_symlink() and not path.exists():
            problem = f"is a link to {os.readlink(path)}, which does not exist"
        return f"{path} {problem}. Give run folders, such as runs/*."
    config = path / "config.yaml"
    if not config.exists():
        return f"{path} is not a run: it has no config.yaml. Leave it out."
    try:
        keys = _keys(config)
    except (OSError, ValueError, yaml.YAMLError, AttributeError) as error:
        return f"{config} cannot be read: {' '.join(str(error).split())}. Leave this folder out."
    missing = [key for key in _NEEDED if key not in keys]
    return f"{config} is not a run's: it has no {', '.join(missing)}. Leave this folder out." if missing else None


def _keys(config: Path) -> dict[str, Any]:
    """The values of a config.yaml by their present names, such as "model.hidden_size"."""
    return flat(as_of_today(yaml.safe_load(config.read_text(encoding="utf-8"))))


def _read_run(path: Path, name: str) -> RunSummary:
    folder = RunFolder(path)
    config = _keys(folder.config)
    rows = read_metrics(path / "metrics.csv")
    results = folder.read_results()
    figures = _figures(rows) if rows else _figures_of_the_end(results or {})
    if figures["hours"]:
        figures["chars_per_second"] = figures["chars"] / figures["hours"] / 3600
    train_items = folder.train_items(config.get("data.train", "train"))
    if train_items and figures["chars"] is not None:
        figures["epochs"] = figures["chars"] / train_items
    ended = has_ended(results, config, figures["steps"])
    if ended:
        figures["test/ppl"] = results.get("test/ppl")
    text = json.dumps(folder.text() or [config["data.path"], config["data.name"]])
    figures = {key: value for key, value in figures.items() if value is not None}
    is_of_the_end = results is not None and results["steps"] >= figures.get("steps", 0)
    peak_rate = results.get("lr") if is_of_the_end and config.get("optimizer.lr") == "auto" else None
    return RunSummary(name, path, config, rows, figures, peak_rate, text, ended)


def has_ended(results: dict[str, Any] | None, config: dict[str, Any], steps: float | None) -> bool:
    """Whether a run reached its limits, or a callback ended it and it was not resumed since.

    The results of earlier versions do not state what ended a run; there, all runs with results had ended.
    """
    if results is None:
        return False
    has_gone_on = results["steps"] < (steps or 0)
    if "ended_by" not in results:
        return not has_gone_on and all(config.get(key) == limit for key, limit in results["limits"].items())
    return is_finished(results, config) or (results["ended_by"] == "callbacks" and not has_gone_on)


def _figures(rows: list[Row]) -> dict[str, float | None]:
    return {
        "steps": extreme(rows, "step", max),
        "chars": extreme(rows, "chars", max),
        "hours": extreme(rows, "hours", max),
        **{name: extreme(rows, name) for name in ("val/loss", "val/ppl", "val/bpc")},
    }


def _figures_of_the_end(results: dict[str, Any]) -> dict[str, float | None]:
    """The figures of a run without metrics.csv, from results.json, whose time is left out: it includes validations."""
    loss = results.get("val/loss")
    by_loss = {} if loss is None else {"val/loss": loss, "val/ppl": perplexity(loss), "val/bpc": loss / math.log(2)}
    return {"steps": results.get("steps"), "chars": results.get("chars"), "hours": None, **by_loss}


def differing_keys(runs: Sequence[RunSummary]) -> list[str]:
    """The keys whose values differ between the runs, except those that are shown anyway."""
    keys = dict.fromkeys(key for run in runs for key in run.config if not is_marked(key, Mark.UNLISTED))
    same_data = len({run.data for run in runs}) == len({run.config["data.path"] for run in runs})
    return [
        key
        for key in keys
        if len({json.dumps(_comparable(run.settings.get(key))) for run in runs}) > 1
        and not (key == "data.path" and same_data)
    ]


def _comparable(value: Any) -> Any:
    """The value, an int as a float: earlier versions wrote 0 where 0.0 is written now."""
    return float(value) if type(value) is int else value


def _shown(run: RunSummary, key: str) -> str:
    if key not in run.config:
        return "–"
    value = run.settings[key]
    shown = value if isinstance(value, str) else json.dumps(value)
    return shown if value == run.config[key] else f"{shown} ({run.config[key]})"


def unlike_twins(runs: Sequence[RunSummary]) -> dict[str, RunSummary]:
    """The twins of runs whose best validation perplexity is over `TOLERANCE` times their twin's, by the runs' names.

    Twins are runs of the two directions whose configurations differ only in name, seed and keys that may change when a
    run is resumed (run length, devices, ...). Of several, the best one of the other direction is the twin.
    """
    found = {}
    for run in runs:
        twins = [
            other for other in runs if other.config["direction"] != run.config["direction"] and other.kind == run.kind
        ]
        perplexities = {twin.figures["val/ppl"]: twin for twin in twins if "val/ppl" in twin.figures}
        if perplexities and run.figures.get("val/ppl", 0) > TOLERANCE * min(perplexities):
            found[run.name] = perplexities[min(perplexities)]
    return found


def records(runs: Sequence[RunSummary]) -> list[dict[str, Any]]:
    """A mapping of plain values for every run; None for values that are unknown or infinite, which JSON lacks."""
    keys, unlike = differing_keys(runs), unlike_twins(runs)
    return [
        {
            "run": run.name,
            "path": str(run.path),
            "direction": run.config["direction"],
            "hidden_size": run.config["model.hidden_size"],
            "nlayers": run.config["model.nlayers"],
            "data": run.config["data.path"] or run.config["data.name"],
            **{key: run.settings.get(key) for key in keys},
            **{name: _finite(run.figures.get(name)) for name in FIGURES},
            "finished": run.is_finished,
            "unlike_twin": unlike[run.name].name if run.name in unlike else None,
        }
        for run in runs
    ]


def _finite(number: float | None) -> float | None:
    return None if number is None or math.isinf(number) else number


def tables(runs: Sequence[RunSummary]) -> list[Table]:
    """Tables for the terminal: the runs' figures, runs unlike their twins marked; and the keys that differ, if any."""
    keys, unlike = differing_keys(runs), unlike_twins(runs)
    items = "words" if all(run.config.get("data.level") == "word" for run in runs) else "chars"
    reached = _empty_table(["run", "direction", "model", "data"])
    for heading in ("epochs", "steps", items, "hours", f"{items}/s", "val/loss", "val/ppl", "val/bpc", "test/ppl"):
        reached.add_column(heading, justify="right", no_wrap=True)
    reached.add_column("status", no_wrap=True)
    for run in runs:
        mark = "[bold red]![/] " if run.name in unlike else ""
        cells = [escape(text) for text in (run.config["direction"], run.model, run.data)]
        cells += [_FORMATS[name](run.figures[name]) if name in run.figures else "–" for name in FIGURES]
        reached.add_row(mark + escape(run.name), *cells, "finished" if run.is_finished else "not finished")
    if not keys:
        return [reached]
    differing = _empty_table(["run", *keys])
    for run in runs:
        differing.add_row(*(escape(text) for text in (run.name, *(_shown(run, key) for key in keys))))
    return [reached, differing]


def _empty_table(headings: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def remarks(runs: Sequence[RunSummary]) -> list[str]:
    """Lines about the figures: runs unlike their twins, and figures that cannot be compared."""
    unlike = unlike_twins(runs)
    lines = [
        f"! {run.name}: perplexity {run.figures['val/ppl']:.3f}; the other direction, {unlike[run.name].name}, has "
        f"{unlike[run.name].figures['val/ppl']:.3f}. More than 10 % apart is the sign of a failed run: docs/how_good.md"
        for run in runs
        if run.name in unlike
    ]
    if len({run.text for run in runs}) > 1:
        lines.append("Figures on different texts do not compare: docs/how_good.md")
    return lines


def _short(number: float) -> str:
    """A number with three digits or more, such as 5.99 k or 412 M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}" if number < 1000 * size else f"{number / size:,.0f} {unit}"
    return f"{number:.0f}"


def _perplexity(value: float) -> str:
    return f"{value:.3f}" if value < 1000 else f"{value:.3g}"


_FORMATS = {
    "epochs": "{:.1f}".format,
    "steps": "{:,.0f}".format,
    "chars": _short,
    "hours": lambda hours: f"{hours:.3f}" if hours < 10 else f"{hours:.1f}",
    "chars_per_second": _short,
    "val/loss": "{:.4f}".format,
    "val/ppl": _perplexity,
    "val/bpc": "{:.3f}".format,
    "test/ppl": _perplexity,
}
