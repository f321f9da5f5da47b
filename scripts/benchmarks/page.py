"""Makes docs/benchmarks.md and its plot from the JSON files in docs/benchmarks/."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import FOLDER, ROOT, SOURCE

PAGE, PLOT = ROOT / "docs/benchmarks.md", ROOT / "docs/benchmarks.svg"

_HEAD = """# Benchmarks

Made by `python scripts/benchmark.py page` from the files in `docs/benchmarks/`, one for each machine;
`python scripts/benchmark.py all` measures a machine and writes its file. What is compared runs in turn, round by round:
figures are medians, in brackets the range over the rounds where it is known, behind it the ratio to the first column.
Flair trains and computes in float32. Each line says when it was measured, and of which commit.

![How many times as fast as Flair](benchmarks.svg)

H, T and B are `model.hidden_size`, `data.sequence_length` and `data.batch_size`. The *torch loop* is the same tensors
through nothing but torch's modules: embedding, dropout, `nn.LSTM`, decoder, loss, clipping and SGD; the *compiled loop*
is that with `torch.compile` around the computation of the loss (it leaves `nn.LSTM` alone). Reading text and logging
are in Flair's and lmtrain's figures only.
"""


def read_records(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """The content of all files of the folder; first those that scripts/benchmark.py has written."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return sorted(records, key=lambda record: record["source"] != SOURCE)


def write_page(folder: Path = FOLDER, page: Path = PAGE, plot: Path = PLOT) -> None:
    """Writes the page and the plot, from all files of the folder."""
    records = read_records(folder)
    page.write_text(page_text(records), encoding="utf-8")
    draw(records, plot)


def page_text(records: Sequence[dict[str, Any]]) -> str:
    sections = [_HEAD.strip(), _machines(records)]
    tasks = dict.fromkeys(result["task"] for record in records for result in record["results"])
    sections += [_section(task, records) for task in tasks]
    return "\n\n".join(sections) + "\n"


_ABOUT = ("processor", "flags", "threads", "GPU", "torch", "source")


def _machines(records: Sequence[dict[str, Any]]) -> str:
    lines = ["## Machines", "", _row(["", *_ABOUT]), _row(["---"] * (len(_ABOUT) + 1))]
    for number, record in enumerate(records, 1):
        about = record["machine"]
        cells = [
            *(f"{number}", about["processor"], " ".join(about["flags"]), about["threads"], about["gpu"]),
            *(about["torch"] or "not noted", record["source"]),
        ]
        lines.append(_row(cells))
    return "\n".join(lines)


def _section(task: str, records: Sequence[dict[str, Any]]) -> str:
    found = [
        (number, result)
        for number, record in enumerate(records, 1)
        for result in record["results"]
        if result["task"] == task
    ]
    lines = [f"## {task[0].upper()}{task[1:]}"]
    for unit in dict.fromkeys(result["unit"] for _, result in found):
        lines += ["", *_table(unit, [one for one in found if one[1]["unit"] == unit])]
    notes = [
        f"- {result['size']}, machine {number}: {name}: {_number(value) if isinstance(value, (int, float)) else value}"
        for number, result in found
        for name, value in result["notes"].items()
    ]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _table(unit: str, found: Sequence[tuple[int, dict[str, Any]]]) -> list[str]:
    names = [result["reference"] for _, result in found]
    names += [name for _, result in found for name in result["figures"]]
    contestants = list(dict.fromkeys(names))
    lines = [_row([unit, "machine", *contestants, "measured"]), _row(["---"] * (len(contestants) + 3))]
    for number, result in found:
        cells = [_cell(result, name) for name in contestants]
        lines.append(_row([result["size"], number, *cells, _measured(result)]))
    return lines


def _measured(result: dict[str, Any]) -> str:
    rounds = f", {result['rounds']} round{'s' * (result['rounds'] > 1)}" if result["rounds"] else ""
    load = f", load {result['load']}" if result["load"] is not None else ""
    return f"{result['date'] or 'date not noted'}, {result['commit'] or 'commit not noted'}{rounds}{load}"


def _cell(result: dict[str, Any], name: str) -> str:
    figure = result["figures"].get(name)
    if figure is None:
        return ""
    text = "" if figure["median"] is None else _number(figure["median"])
    if figure["low"] != figure["high"]:
        text += f" ({_number(figure['low'])} to {_number(figure['high'])})"
    ratio = ratio_of(result, name)
    if name == result["reference"]:
        return text or "1"
    return f"{text} **{ratio:.2f}×**".strip()


def ratio_of(result: dict[str, Any], name: str) -> float | None:
    """A contestant's figure divided by the reference's; None if it was not measured."""
    figure, reference = result["figures"].get(name), result["figures"][result["reference"]]
    if figure is None:
        return None
    return figure["ratio"] if figure["median"] is None else figure["median"] / reference["median"]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.3g}"


def _row(cells: Sequence[Any]) -> str:
    return f"| {' | '.join('' if cell is None else str(cell) for cell in cells)} |"


def fingerprint(records: Sequence[dict[str, Any]]) -> str:
    """A hash of the records, which the plot holds so that a test notices an outdated plot."""
    return hashlib.sha256(json.dumps(list(records), sort_keys=True).encode()).hexdigest()[:16]


_MARKS = {  # by the beginning of a contestant's name: label, marker, colour
    "torch loop": ("torch loop", "s", "0.45"),
    "compiled loop": ("torch loop, compiled", "^", "0.45"),
    "onnxruntime": ("onnxruntime", "D", "tab:green"),
    "bare": ("bare product or nn.LSTM", "s", "0.75"),
}


def drawn(records: Sequence[dict[str, Any]]) -> list[tuple[int, list[dict[str, Any]]]]:
    """The machines (by number, from 1) with results to draw, and these: rates for which lmtrain's default is known."""
    found = [
        (number, [result for result in record["results"] if result["more_is_better"] and result.get("ours")])
        for number, record in enumerate(records, 1)
    ]
    return [(number, results) for number, results in found if results]


def draw(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws, for each machine, how many times as fast as Flair lmtrain's default and the other contestants are."""
    import matplotlib
    from matplotlib.figure import Figure

    machines = drawn(records)
    heights = [len(results) + 1 for _, results in machines]
    figure = Figure(figsize=(9, 1.1 + 0.34 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(machines), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for (number, results), axes in zip(machines, panels, strict=True):
        _panel(axes, _title(number, records[number - 1]["machine"]), results)
    panels[-1].set_xlabel("times as fast as Flair")
    shown: dict[str, Any] = {}
    for axes in panels:
        shown |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=5, frameon=False)
    # the same file every time; text as text
    with matplotlib.rc_context({"svg.hashsalt": "lmtrain", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None, "Description": fingerprint(records)})


def _title(number: int, about: dict[str, Any]) -> str:
    what = about["gpu"] or about["processor"]
    notable = [flag for flag in about["flags"] if flag in ("avx512_bf16", "amx_bf16")]
    return f"{number}: {', '.join([what, *notable])}, {about['threads']} threads"


def _panel(axes, title: str, results: Sequence[dict[str, Any]]) -> None:
    places = range(len(results))[::-1]
    ratios = [ratio_of(result, result["ours"]) for result in results]
    axes.barh(places, ratios, height=0.6, color="tab:blue", alpha=0.85, label="lmtrain")
    for place, ratio, result in zip(places, ratios, results, strict=True):
        end = ratio
        precision = result["ours"].partition(", ")[2]  # loops of another precision are not compared with this bar
        for name in result["figures"]:
            style = next((style for begin, style in _MARKS.items() if name.startswith(begin)), None)
            if style and (precision in name or "loop" not in name) and (other := ratio_of(result, name)):
                label, marker, color = style
                axes.plot(other, place, marker, color=color, markeredgecolor="white", markersize=8, label=label)
                end = max(end, other)
        axes.annotate(f"  {ratio:.2f}×", (end, place), va="center", fontweight="bold")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_xlim(0.5, 16)
    axes.set_xticks([0.5, 1, 2, 4, 8, 16], ["½", "1 (Flair)", "2", "4", "8", "16"])
    axes.set_yticks(list(places), [f"{result['task']}, {result['size']}" for result in results])
    axes.set_title(title, loc="left", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
