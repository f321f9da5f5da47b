"""docs/evidence.md and its plot, made of the files in docs/evidence/ alone."""

import hashlib
import json
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence_runs import FLAIR, FOLDER
from benchmarks.page import _row
from benchmarks.record import ROOT
from lmtrain.config.peak_rate import rate_for_muon

PAGE, PLOT = ROOT / "docs/evidence.md", ROOT / "docs/evidence.svg"
STAND_IN = "experiment=flair trainer.precision=32-true anneal.patience=10"  # Flair's recipe, number for number
IN_BFLOAT16 = "experiment=flair trainer.precision=bf16-mixed anneal.patience=10"
FAST = "experiment=fast"
FIXED_RATE = f"{FAST} optimizer.lr=0.04"
_WHO = {FLAIR: "Flair", STAND_IN: "Flair's recipe", IN_BFLOAT16: "Flair's recipe, bf16"}
Run = dict[str, Any]
Key = tuple[str, tuple[int, ...], str, float]


def read_evidence(folder: Path = FOLDER) -> dict[str, Any]:
    """All texts by name, the `speeds`, the `tags`, and the `findings`, which people wrote."""
    texts = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    speeds, tags = texts.pop("speed", None), texts.pop("tags", None)
    findings = (folder / "findings.md").read_text(encoding="utf-8") if (folder / "findings.md").exists() else ""
    return {"texts": texts, "speeds": speeds, "tags": tags, "findings": findings}


def write_page(folder: Path = FOLDER, page: Path = PAGE, plot: Path = PLOT) -> None:
    """Makes page and plot anew from all files."""
    evidence = read_evidence(folder)
    page.write_text(page_text(evidence), encoding="utf-8")
    draw(evidence, plot)


def page_text(evidence: dict[str, Any]) -> str:
    """The page."""
    sections = [_HEAD.strip(), evidence["findings"].strip(), _texts(evidence), _times(evidence), _losses(evidence)]
    sections += [_tags(evidence), _speeds(evidence), _machines(evidence)]
    return "\n\n".join(filter(None, sections)) + "\n"


_HEAD = """# Evidence

What `experiment=fast` is worth in other languages and alphabets than those on which its rates were chosen. Made by
`python scripts/evidence.py page` from the files in [docs/evidence/](evidence), to which `python scripts/evidence.py
run` adds; `scripts/benchmarks/evidence_texts.py` says how the texts were made. `python scripts/evidence.py run
corpora/TEXT --recipe 'RECIPE@EPOCHS' --size HxTxB --seeds N` makes a row of the table of all runs again where its
JSON is missing. Each run is one process on one thread. Losses are those of validation, in nats per character, as the
trainer itself measured them at the end of every split, four times an epoch; of a run counts the lowest. H, T and B
are `model.hidden_size`, `data.sequence_length` and `data.batch_size`.

**Time.** The runs were made on a machine that others used, too, so no run was timed. The time to a loss is the number
of characters trained when it is first reached, divided by the speed, which `python scripts/evidence.py speed`
measures on the idle machine, all recipes in turn. The losses do not depend on what else a machine does.

**Flair.** `Flair` is its own `LanguageModelTrainer`. *Flair's recipe* is `experiment=flair trainer.precision=32-true
anneal.patience=10`, which takes the same steps, window by window, as tests show, in less time; its time here is that
of Flair's trainer for the same characters. Where both were run, both are in the table.

![Validation loss by characters trained](evidence.svg)"""


def groups(evidence: dict[str, Any]) -> dict[Key, list[Run]]:
    """The runs that ended, by text, size, recipe and epochs; in each the seeds."""
    found: dict[Key, list[Run]] = defaultdict(list)
    for text, known in evidence["texts"].items():
        for run in known["runs"]:
            of = run["contestant"]
            if run["curve"]:
                found[text, tuple(of["size"]), of["recipe"], of["epochs"]].append(run)
    return found


def lowest(run: Run) -> float:
    return min(loss for _, loss in run["curve"])


def first_reached(runs: Sequence[Run], loss: float) -> tuple[int, float] | None:
    """After how many characters the loss was reached soonest, and in a run of how many epochs."""
    found = [(chars, run["contestant"]["epochs"]) for run in runs for chars, value in run["curve"] if value <= loss]
    return min(found, default=None)


def speed_ratio(evidence: dict[str, Any], text: str, size: tuple[int, ...], recipe: str = FAST) -> float | None:
    """How many times as fast as Flair a recipe trains this text; None if it was not measured."""
    rates = {
        one["recipe"]: statistics.median(one["characters_per_second"])
        for one in (evidence["speeds"] or {"speeds": []})["speeds"]
        if one["text"] == text and tuple(one["size"]) == size
    }
    return rates[recipe] / rates[FLAIR] if recipe in rates and FLAIR in rates else None


def follows_rule(evidence: dict[str, Any], run: Run) -> bool:
    """Whether this is `experiment=fast` with the rate of the rule, or one near it, and nothing else."""
    of = run["contestant"]
    rate = re.fullmatch(rf"{FAST}(?: optimizer\.lr=(\S+))?", of["recipe"])
    _, length, lanes = of["size"]
    steps = of["epochs"] * evidence["texts"][of["text"]]["characters"] / length / lanes
    if rate is None or rate[1] in (None, "auto"):
        return rate is not None
    return abs(float(rate[1]) / rate_for_muon(steps) - 1) < 0.15


def comparisons(evidence: dict[str, Any], is_compared: Callable[[Run], bool]) -> Iterator[dict[str, Any]]:
    """For each run of six epochs of Flair or its recipe: how soon one of those compared, with its seed, was as good.

    Those in bfloat16 count where there is none in float32.
    """
    runs = [run for several in groups(evidence).values() for run in several]
    in_float32 = {_case(run) for run in runs if run["contestant"]["recipe"] in (FLAIR, STAND_IN)}
    for run in runs:
        of = run["contestant"]
        if of["recipe"] not in _WHO or of["epochs"] != 6:
            continue
        if of["recipe"] == IN_BFLOAT16 and _case(run) in in_float32:
            continue
        text, size = of["text"], tuple(of["size"])
        same = [one for one in runs if is_compared(one) and _case(one) == _case(run)]
        if not same:
            continue
        reached = first_reached(same, lowest(run))
        share = reached[0] / run["curve"][-1][0] if reached else None
        ratio = speed_ratio(evidence, text, size)
        losses = {one["contestant"]["epochs"]: lowest(one) for one in same}
        yield {
            **{"text": text, "size": size, "who": _WHO[of["recipe"]]},
            **{"seed": of["seed"], "loss": lowest(run), "fast": dict(sorted(losses.items())), "share": share},
            **{"epochs": reached[1] if reached else None, "speed": ratio},
            "time": share / ratio if share and ratio else None,
        }


def _case(run: Run) -> tuple[Any, ...]:
    of = run["contestant"]
    return of["text"], tuple(of["size"]), of["seed"]


def _texts(evidence: dict[str, Any]) -> str:
    lines = ["## Texts", "", _row(["", "training characters", "bytes", "different characters"]), _row(["---"] * 4)]
    for text, known in evidence["texts"].items():
        lines.append(_row([text, *(f"{known[name]:,}" for name in ("characters", "bytes", "alphabet"))]))
    return "\n".join(lines)


def _times(evidence: dict[str, Any]) -> str:
    lines = ["## Time to the loss of Flair's six epochs", "", f"### `{FAST}`: the rate goes by the number of steps", ""]
    lines += _table(evidence, lambda run: follows_rule(evidence, run))
    lines += ["", f"### `{FIXED_RATE}`, whatever the length"]
    lines += ["", *_table(evidence, lambda run: run["contestant"]["recipe"] == FIXED_RATE)]
    explained = """
Losses at most as high as Flair's are bold. *Characters*: those that `fast` had trained when it first had the loss, as
a share of those of the six epochs, in the run that had it soonest. *Speed*: how many times as many characters a
second as Flair's trainer. *Time*: the former by the latter."""
    return "\n".join([*lines, explained])


def _table(evidence: dict[str, Any], is_compared: Callable[[Run], bool]) -> list[str]:
    found = sorted(
        comparisons(evidence, is_compared), key=lambda one: (one["text"], one["size"], one["seed"], one["who"])
    )
    lengths = sorted({length for one in found for length in one["fast"]})
    head = ["text", "H×T×B", "seed", "six epochs of", "its loss", *(f"fast, {_plural(length)}" for length in lengths)]
    head += ["reached by fast of", "characters", "speed", "time"]
    lines = [_row(head), _row(["---"] * len(head))]
    for one in found:
        fast = [_bold(one["fast"].get(length), one["loss"]) for length in lengths]
        of = [_size(one["size"]), one["seed"], one["who"], f"{one['loss']:.3f}"]
        reached = [_plural(one["epochs"]), f"{one['share']:.1%}"] if one["share"] else ["not reached", ""]
        speed = f"{one['speed']:.2f}×" if one["speed"] else "not measured yet"
        lines.append(_row([one["text"], *of, *fast, *reached, speed, f"{one['time']:.1%}" if one["time"] else ""]))
    return lines


def _losses(evidence: dict[str, Any]) -> str:
    head = ["text", "H×T×B", "recipe", "epochs", "seeds", "lowest loss", "mean", "standard deviation"]
    lines = ["## All runs", "", _row(head), _row(["---"] * len(head))]
    for (text, size, recipe, epochs), runs in sorted(groups(evidence).items()):
        losses = [lowest(run) for run in sorted(runs, key=lambda run: run["contestant"]["seed"])]
        spread = [f"{statistics.mean(losses):.3f}", f"{statistics.stdev(losses):.3f}"] if len(losses) > 1 else ["", ""]
        seeds = ", ".join(str(run["contestant"]["seed"]) for run in runs)
        shown = ", ".join(f"{loss:.3f}" for loss in losses)
        lines.append(_row([text, _size(size), f"`{recipe}`", f"{epochs:g}", seeds, shown, *spread]))
    return "\n".join(lines)


def _tags(evidence: dict[str, Any]) -> str:
    tables = (evidence["tags"] or {"tables": []})["tables"]
    return "\n\n".join(["## Tags", *map(_tag_table, tables)]) if tables else ""


def _tag_table(table: dict[str, Any]) -> str:
    """What it is about, a row for each pair of models with means and deviations, and how they were trained."""
    rows = table["rows"]
    columns = list(
        dict.fromkeys((features, size) for row in rows for features in row["f1"] for size in row["f1"][features])
    )
    head = ["models", "losses, forward and backward", *(f"{features}, {size} sentences" for features, size in columns)]
    lines = [table["about"], "", _row(head), _row(["---"] * len(head))]
    for row in rows:
        cells = [_mean_and_deviation(row["f1"].get(features, {}).get(size, [])) for features, size in columns]
        lines.append(_row([row["models"], ", ".join(f"{loss:.3f}" for loss in row["losses"]), *cells]))
    lines += ["", *(f"- {row['models']}: `{row['overrides']}`" for row in rows if row["overrides"])]
    return "\n".join(lines)


def _mean_and_deviation(figures: list[float]) -> str:
    if len(figures) < 2:
        return "".join(f"{figure:.3f}" for figure in figures)
    return f"{statistics.mean(figures):.3f} ± {statistics.stdev(figures):.3f}"


def _speeds(evidence: dict[str, Any]) -> str:
    speeds = evidence["speeds"]
    if speeds is None:
        return "## Speed\n\nNot measured yet: `python scripts/evidence.py speed corpora/*` on an idle machine."
    about = speeds["machine"]
    where = f"{about['processor']}, {' '.join(about['flags'])}, {about['threads']} threads, torch {about['torch']}"
    lines = [f"## Speed\n\n{where}.", ""]
    lines += [_row(["text", "H×T×B", "recipe", "characters/s, round by round", "measured"]), _row(["---"] * 5)]
    for one in speeds["speeds"]:
        rates = ", ".join(f"{rate:,}" for rate in one["characters_per_second"])
        when = f"{one['date']}, commit {one['commit']}, load {one['load']} before"
        lines.append(_row([one["text"], _size(one["size"]), f"`{one['recipe']}`", rates, when]))
    return "\n".join(lines)


def _machines(evidence: dict[str, Any]) -> str:
    runs = [run for known in evidence["texts"].values() for run in known["runs"]]
    failed = [run for run in runs if run["failure"]]
    hours = sum(run.get("cpu_seconds", 0) for run in runs) / 3600
    lines = [
        "## What it took",
        "",
        f"{len(runs)} runs, {hours:.1f} hours of one core beside other work. {len(failed)} failed; in "
        f"{sum(run['rollbacks'] > 0 for run in runs)} a loss or gradient was not finite.",
        "",
    ]
    by_machine = defaultdict(list)
    for run in runs:
        by_machine[run["processor"], run["threads"], run["date"], run["commit"]].append(run)
    for (processor, threads, date, commit), several in sorted(by_machine.items(), key=str):
        lines.append(f"- {processor}, {threads} thread, {date}, lmtrain of commit {commit}: {len(several)} runs")
    lines += [
        f"- failed: `{run['contestant']['recipe']}` on {run['contestant']['text']}: {run['failure']}" for run in failed
    ]
    return "\n".join(lines)


def _bold(loss: float | None, limit: float) -> str:
    return "" if loss is None else f"**{loss:.3f}**" if loss <= limit else f"{loss:.3f}"


def _plural(epochs: float) -> str:
    return f"{epochs:g} epoch{'s' * (epochs != 1)}"


def _size(size: Sequence[int]) -> str:
    return "×".join(map(str, size))


def fingerprint(evidence: dict[str, Any]) -> str:
    """Of what is drawn; the plot holds it."""
    return hashlib.sha256(json.dumps(evidence["texts"], sort_keys=True).encode()).hexdigest()[:16]


def draw(evidence: dict[str, Any], path: Path) -> None:
    """Draws, for each text and size with six epochs of Flair's recipe, its curve and those of `fast`, of seed 1."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    by_key = groups(evidence)
    panels = sorted({key[:2] for key in by_key if key[2] in _WHO and key[3] == 6})
    rows = max(1, -(-len(panels) // 3))
    figure = Figure(figsize=(11, 0.6 + 2.6 * rows), layout="constrained")
    styles = {recipe: (color, _WHO[recipe]) for recipe, color in zip(_WHO, ("black", "0.4", "0.7"), strict=True)}
    styles[FIXED_RATE] = ("tab:blue", FIXED_RATE)
    short_runs = ("tab:orange", f"{FAST}, the rate by the number of steps")
    for axes, panel in zip(figure.subplots(rows, 3, squeeze=False).flat, panels, strict=False):
        for key, runs in sorted(by_key.items()):
            first = min(runs, key=lambda run: run["contestant"]["seed"])
            style = short_runs if follows_rule(evidence, first) else styles.get(key[2])
            if key[:2] == panel and style:
                color, label = style
                axes.plot(*zip(*first["curve"], strict=True), color=color, label=label, marker=".", markersize=4)
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title(f"{panel[0]}, {_size(panel[1])}", loc="left", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in figure.axes[len(panels) :]:
        axes.set_axis_off()
    figure.supxlabel("characters trained")
    figure.supylabel("validation loss, nats per character")
    shown: dict[str, Any] = {}
    for axes in figure.axes:
        shown |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=3, frameon=False)
    with matplotlib.rc_context({"svg.hashsalt": "lmtrain", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None, "Description": fingerprint(evidence)})
