#!/usr/bin/env python
"""Trains recipes on texts in many languages, and makes docs/evidence.md of what comes out."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from lmtrain.cli.arguments import Command, Option, Positional, Range
from lmtrain.errors import UserError

EXAMPLES = """examples:
  python scripts/evidence.py run corpora/finnish corpora/greek --recipe Flair@6 --recipe experiment=fast@1
  python scripts/evidence.py run corpora/greek --recipe 'experiment=fast optimizer.lr=0.03@1.5' --seeds 3
  python scripts/evidence.py speed corpora/*
  python scripts/evidence.py page

run: trains each recipe with each size and seed on each corpus folder, one after the other, each in a process of its
own, and keeps its curve in docs/evidence/TEXT.json; what is there is not trained again. speed: measures, on this
machine, which must be idle, how many characters a second the recipes train on these texts with the sizes that were run,
in turn; what is there is not measured again. page: makes docs/evidence.md and its plot of the files in docs/evidence/.

scripts/benchmarks/evidence_texts.py says how the texts were made. Needs Flair: pip install 'lmtrain[flair]'."""


@dataclass(frozen=True, kw_only=True)
class Options:
    task: Annotated[Literal["run", "speed", "page"], Positional("see below")]
    corpora: Annotated[list[Path], Positional("corpus folders", "CORPUS")] = field(default_factory=list)
    recipe: Annotated[
        list[str],
        Option(
            "Flair, its own trainer; or overrides of lmtrain's with spaces between them; may be given several times "
            "(default: Flair@6 and experiment=fast@1)",
            "RECIPE@EPOCHS",
        ),
    ] = field(default_factory=lambda: ["Flair@6", "experiment=fast@1"])
    size: Annotated[
        list[str],
        Option("hidden size, window, lanes; may be given several times (default: 256x100x50)", "HxTxB"),
    ] = field(default_factory=lambda: ["256x100x50"])
    seeds: Annotated[int, Option("seeds 1 to N", "N", Range(1, 1000))] = 1
    minutes: Annotated[float, Option("speed takes no longer", within=Range(0, above=True))] = 6


def main(options: Options) -> None:
    if options.task != "page" and not options.corpora:
        raise UserError(f"{options.task} needs corpus folders: python scripts/evidence.py {options.task} corpora/*")
    if options.task == "run":
        _run(options)
    elif options.task == "speed":
        from benchmarks.evidence_speed import measure_speeds

        measure_speeds(options.corpora, 60 * options.minutes)
    else:
        from benchmarks.evidence_page import PAGE, write_page

        write_page()
        print(PAGE)


def _run(options: Options) -> None:
    from benchmarks.evidence_runs import Contestant, keep_run

    sizes = [_size(one) for one in options.size]
    recipes = [_recipe(one) for one in options.recipe]
    for seed in range(1, options.seeds + 1):
        for corpus in options.corpora:
            for size in sizes:
                for recipe, epochs in recipes:
                    made = keep_run(corpus, Contestant(corpus.name, recipe, epochs, size, seed))
                    lowest = min((loss for _, loss in made["curve"]), default=float("nan"))
                    print(
                        f"{corpus.name} {'x'.join(map(str, size))} {recipe}@{epochs:g} seed {seed}: {lowest:.4f}",
                        f"{made.get('cpu_seconds', '')} s of CPU {made['failure'] or ''}",
                        flush=True,
                    )


def _recipe(text: str) -> tuple[str, float]:
    recipe, _, epochs = text.rpartition("@")
    try:
        number = float(epochs)
    except ValueError:
        number = 0
    if not recipe or number <= 0 or (recipe == "Flair" and number % 1):
        raise UserError(f"--recipe {text}: it must be RECIPE@EPOCHS, such as Flair@6 or experiment=fast@1.5.")
    return recipe, number


def _size(text: str) -> tuple[int, int, int]:
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise UserError(f"--size {text}: it must be hidden size, window and lanes, such as 256x100x50.")
    hidden, length, lanes = map(int, parts)
    return hidden, length, lanes


command = Command(main, Options, EXAMPLES)

if __name__ == "__main__":
    sys.exit(command())
