"""Compares the results of runs, and the keys in which their configurations differ."""

import csv
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from lmtrain.cli.arguments import Command, Option, Positional
from lmtrain.errors import UserError
from lmtrain.program.command import check_outputs
from lmtrain.program.files import atomic_write, open_file
from lmtrain.program.plain_json import to_json

EXAMPLES = """examples:  python scripts/compare.py runs/*
           python scripts/compare.py runs/* --output runs.png --csv runs.csv

Runs may be unfinished. The hours are those of training without validations. The validation figures are those of the
best validation. A run marked with ! has a perplexity more than 10 % above that of the run with the same configuration
in the other direction; docs/how_good.md says what to do."""


@dataclass(frozen=True, kw_only=True)
class Options:
    runs: Annotated[list[str], Positional("run folders, such as runs/*; files among them are ignored", "RUN")]
    sort: Annotated[
        Literal["run", "epochs", "steps", "chars", "hours", "chars_per_second", "val/loss", "test/ppl"],
        Option("sort by this column, lowest first"),
    ] = "val/loss"
    output: Annotated[Path | None, Option("plot val/bpc by characters and by hours, as .png or .pdf", "FILE")] = None
    json: Annotated[Path | None, Option("write the figures as JSON, with all digits", "FILE")] = None
    csv: Annotated[Path | None, Option("write the figures as CSV, with all digits", "FILE")] = None
    overwrite: Annotated[bool, Option("replace the files if they exist")] = False


def main(options: Options) -> None:
    if options.output and options.output.suffix not in (".png", ".pdf"):
        raise UserError(f"--output is {options.output}; it must end in .png or .pdf.")
    check_outputs(*filter(None, (options.output, options.json, options.csv)), overwrite=options.overwrite)

    from rich.console import Console

    from lmtrain.program.time_left import time_left_of_each
    from lmtrain.runs.compare import read_runs, records, remarks, tables

    with time_left_of_each() as show:
        runs = read_runs(options.runs, options.sort, partial(show, "Reading runs"))
    if options.output:
        from lmtrain.runs.compare_plot import plot

        plot(runs, options.output)
    if options.json:
        with atomic_write(options.json) as unfinished:
            unfinished.write_text(to_json(records(runs), indent=1) + "\n", encoding="utf-8")
    if options.csv:
        _write_csv(records(runs), options.csv)
    # tables would spoil JSON or CSV on standard output, so they go to standard error then
    taken = 1 in (open_file(path) for path in (options.json, options.csv) if path)
    console = Console(highlight=False, stderr=taken)
    terminal = console.width
    for one in tables(runs):
        # lines that the terminal wraps are easier to read than cells squeezed to a few letters
        console.width = max(terminal, console.measure(one, options=console.options.update(width=10_000)).maximum)
        console.print(one)
        console.print()
    for line in remarks(runs):
        print(line, file=sys.stderr if taken else sys.stdout)


def _write_csv(rows: list[dict], path: Path) -> None:
    with atomic_write(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


command = Command(main, Options, EXAMPLES)
