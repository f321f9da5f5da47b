#!/usr/bin/env python
"""Compares the speed of lmtrain with Flair and with plain torch on this machine.

Needs Flair: pip install 'lmtrain[flair]'. The contestants run in turn, round by round, and medians are shown.
"""

import json
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from lmtrain.cli.arguments import Command, Option, Positional, Range

EXAMPLES = """examples:
  python scripts/benchmark.py train embed generate --rounds 5
  python scripts/benchmark.py page

train: steps of training; data: from text to windows; memory: peak memory of training; embed: vectors of sentences;
score: one long text; generate: text from a model; startup: from the command to the first step;
kernels: single layers and products, the figures of docs/kernels.md;
scale: the start on a corpus of --size GB, the first time, again and on more ranks (TMPDIR needs twice as much room).
Each figure is printed with its ratio to the reference and its range over the rounds, and kept in docs/benchmarks/, in a
file for this machine. `page` makes docs/benchmarks.md and its plot from these files."""


PARTS = ("train", "data", "memory", "embed", "score", "generate", "startup", "quality", "scale", "kernels")


@dataclass(frozen=True, kw_only=True)
class Options:
    parts: Annotated[
        list[Literal[tuple([*PARTS, "all", "page"])]],  # type: ignore[valid-type]
        Positional("train, data, ... (see below); all; or page, which measures nothing", "PART"),
    ]
    rounds: Annotated[int, Option("number of rounds; for memory and scale at most 3", "N", Range(1))] = 5
    size: Annotated[float, Option("size of the corpus for `scale`", "GB", Range(0.05, 1000.0))] = 4.0
    json: Annotated[Path | None, Option("file for the figures (default: docs/benchmarks/MACHINE.json)", "FILE")] = None


def main(options: Options) -> None:
    from benchmarks.page import PAGE, write_page
    from benchmarks.record import described, file_of, keep, machine

    parts = list(PARTS) if "all" in options.parts else [part for part in options.parts if part != "page"]
    if parts:
        about = machine()
        print(json.dumps(about, ensure_ascii=False))
        path = options.json or file_of(about)
        for part in parts:
            for result in measured(part, options):
                report(result)
                keep([described(result)], about, path)
        print(f"\n{path}")
    if "page" in options.parts:
        write_page()
        print(PAGE)


def measured(part: str, options: Options) -> Iterator[dict]:
    """The results of a part, each as soon as it is measured. Only the modules of that part are imported."""
    rounds = options.rounds
    if part == "train":
        from benchmarks.training import SIZES, benchmark_train

        yield from (benchmark_train(size, rounds) for size in SIZES)
    elif part == "data":
        from benchmarks.data import benchmark_data

        yield from (benchmark_data(script, rounds) for script in ("ASCII", "Cyrillic", "Japanese"))
    elif part == "memory":
        from benchmarks.processes import benchmark_corpus_memory, benchmark_vocabulary

        yield from (benchmark(min(rounds, 3)) for benchmark in (benchmark_vocabulary, benchmark_corpus_memory))
    elif part == "embed":
        from benchmarks.inference import benchmark_embed

        yield benchmark_embed(rounds=rounds)
    elif part == "score":
        from benchmarks.scoring import benchmark_score

        yield benchmark_score(rounds=rounds)
    elif part == "generate":
        from benchmarks.inference import benchmark_generate

        yield benchmark_generate(rounds=rounds)
    elif part == "startup":
        from benchmarks.processes import benchmark_startup

        yield benchmark_startup(rounds)
    elif part == "quality":
        from benchmarks.quality import CORPORA, benchmark_quality

        yield from (benchmark_quality(name, rounds) for name in CORPORA)
    elif part == "scale":
        from benchmarks.scale import benchmark_scale

        yield benchmark_scale(min(rounds, 3), int(options.size * 1e9))
    elif part == "kernels":
        from benchmarks.kernels import benchmark_kernels

        yield from benchmark_kernels(rounds)


def report(result: dict) -> None:
    """Prints medians and their ratios to the reference.

    Args:
        result: `task`, `size` and `unit`; `rates` (more is better) or `values`, contestant → the figure of each round;
            `reference`, the contestant that the others are compared with; `notes`.
    """
    print(f"\n{result['task']}, {result['size']}: {result['unit']}")
    figures = result.get("rates") or result["values"]
    reference = statistics.median(figures[result["reference"]])
    width = max(map(len, figures))
    for name, values in figures.items():
        median = statistics.median(values)
        span = f"({min(values):,.1f} to {max(values):,.1f})"
        print(f"  {name:{width}}  {median:14,.1f}  {median / reference:7.2f} x   {span}")
    for name, value in result["notes"].items():
        print(f"  {name}: {value:.3g}" if isinstance(value, float) else f"  {name}: {value}")


command = Command(main, Options, EXAMPLES)

if __name__ == "__main__":
    sys.exit(command())
