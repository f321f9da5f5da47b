"""The run's report: a model card and its curves."""

import csv
import json
import math
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml

from lmtrain.command import program
from lmtrain.files import replacing
from lmtrain.run_folder import RunFolder


def write_report(folder: RunFolder, values: dict[str, Any], results: dict[str, Any]) -> None:
    """Writes `README.md`, a model card, and `report.png`, the curves, into the run folder.

    Args:
        folder: the run's, with its metrics.csv.
        values: the configuration.
        results: what `results.json` holds.
    """
    rows = read_metrics(folder.path / "metrics.csv")
    if rows:
        plot(rows, folder.path / "report.png")
    with replacing(folder.path / "README.md") as unfinished:
        unfinished.write_text(model_card(folder, values, results, rows), encoding="utf-8")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of a metrics.csv without their empty cells; none if there is no such file."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    except OSError:
        return []


def column(rows: list[dict[str, float]], name: str) -> tuple[list[float], list[float]]:
    """Characters seen, and the figure at that point."""
    found = [(row["chars"], row[name]) for row in rows if name in row and "chars" in row]
    return [chars for chars, _ in found], [value for _, value in found]


def plot(rows: list[dict[str, float]], path: Path) -> None:
    """Draws losses with the annealing marked, and the speed, by characters seen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    losses, speeds = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for name, label in (("train/bpc", "train"), ("val/bpc", "validation")):
        chars, values = column(rows, name)
        losses.plot(chars, values, label=label, marker="." if len(chars) < 30 else None)
    chars, rates = column(rows, "lr")
    annealed = [at for at, before, now in zip(chars[1:], rates, rates[1:], strict=False) if now < before]
    for number, at in enumerate(annealed):
        losses.axvline(at, color="gray", linestyle=":", label="learning rate lowered" if number == 0 else None)
    losses.set_ylabel("bits per character")
    losses.legend()
    nats = losses.secondary_yaxis("right", functions=(lambda bits: bits * math.log(2), lambda nats: nats / math.log(2)))
    nats.set_ylabel("nats")
    speeds.plot(*column(rows, "chars_per_second"))
    speeds.set_ylabel("characters/s")
    speeds.set_ylim(bottom=0)
    speeds.set_xlabel("characters seen in training")
    with replacing(path) as unfinished:
        FigureCanvasAgg(figure).print_png(unfinished)


def model_card(folder: RunFolder, values: dict[str, Any], results: dict[str, Any], rows: list[dict[str, float]]) -> str:
    """The text of the run's README.md."""
    model, data = values["model"], values["data"]
    level = data["level"]
    sections = [
        f"# {values['name']}",
        f"A {values['direction']} {level}-level {model['recurrent_type']} language model for contextual string "
        "embeddings (Akbik et al., 2018), trained with lmtrain. "
        f"{model['nlayers']} × {model['hidden_size']} hidden units"
        + (f", projected to {model['nout']}" if model["nout"] else "")
        + f", embedding size {model['embedding_size']}.",
        "## Results",
        _results_table(results, level),
        f"The best of {len(column(rows, 'val/loss')[0])} validations was at step {results['best_step']:,} of "
        f"{results['steps']:,}, in {results['epochs']:,} whole epochs and {results['chars']:,} {level}s; training took "
        f"{_duration(results['seconds'])}.",
        "![Curves](report.png)",
        "## Use",
        "In Flair:",
        '```python\nfrom flair.embeddings import FlairEmbeddings\nembeddings = FlairEmbeddings("best-lm.pt")\n```',
        "In lmtrain:",
        "```python\nfrom lmtrain.flair_format import load_language_model\n"
        'language_model = load_language_model("best-lm.pt")\n```',
        "## Data",
        f"`{data['path'] or data['name']}`",
        _data_table(folder, level),
        _manifest(data["path"]),
        "## Provenance",
        _provenance(values),
        f"```yaml\n{yaml.safe_dump(values, allow_unicode=True, sort_keys=False)}```",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _results_table(results: dict[str, Any], level: str) -> str:
    lines = [f"| | loss (nats) | perplexity | bits per {level} |", "|---|---|---|---|"]
    for stage, name in (("val", "validation"), ("test", "test")):
        if f"{stage}/loss" in results:
            loss = results[f"{stage}/loss"]
            lines.append(f"| {name} | {loss:.4f} | {math.exp(loss):.3f} | {loss / math.log(2):.3f} |")
    return "\n".join(lines)


def _data_table(folder: RunFolder, level: str) -> str:
    texts = json.loads(folder.corpus.read_text(encoding="utf-8"))
    lines = [f"| file | {level}s |", "|---|---|"]
    shown = list(texts.items()) if len(texts) <= 20 else [*list(texts.items())[:10], *list(texts.items())[-5:]]
    lines += [f"| {name} | {items:,} |" for name, (items, _) in shown]
    if len(shown) < len(texts):
        lines.append(f"| {len(texts) - len(shown)} more | {sum(items for items, _ in texts.values()):,} in all |")
    return "\n".join(lines)


def _manifest(path: str | None) -> str:
    try:
        manifest = json.loads((Path(path or "") / "manifest.json").read_text(encoding="utf-8"))
        return f"```json\n{json.dumps(manifest, indent=1, ensure_ascii=False)[:4000]}\n```" if path else ""
    except (OSError, ValueError):
        return ""


def _provenance(values: dict[str, Any]) -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    trainer = values["trainer"]
    packages = " · ".join(f"{name} {_version(name)}" for name in ("lmtrain", "torch", "lightning", "hydra-core"))
    return "\n".join(
        [
            f"- {packages} · Python {platform.python_version()} on {platform.system()}",
            f"- lmtrain's commit: {_commit()}",
            f"- {device}, {trainer['devices']} device(s) on {trainer['num_nodes']} host(s), seed {values['seed']}",
            f"- `{' '.join([program(), *sys.argv[1:]])}`",
        ]
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _commit() -> str:
    checkout = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    try:
        (checkout / ".git").stat()  # where lmtrain is installed, git would describe whatever repository is around it
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown (not a checkout)"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
