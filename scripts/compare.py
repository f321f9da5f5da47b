#!/usr/bin/env python
"""Puts runs side by side: what they reached, and the keys of their configurations that differ."""

import argparse
import csv
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lmtrain.cli.arguments import parse
from lmtrain.errors import UserError
from lmtrain.program.command import check_outputs, run
from lmtrain.program.plain_json import to_json

EXAMPLE = """examples:  python scripts/compare.py runs/*
           python scripts/compare.py runs/* --output runs.png --csv runs.csv

Runs may be unfinished. hours are those of training, without validations, and the validation figures those of the best
one. A run that is marked with ! has a perplexity more than 10 % above that of the run with the same configuration in
the other direction: docs/how_good.md says what to do."""

SORTS = ("run", "epochs", "steps", "chars", "hours", "chars_per_second", "val/loss", "test/ppl")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="run folders, such as runs/*; files beside them are passed over"
    )
    parser.add_argument("--sort", choices=SORTS, default="val/loss", help="lowest first (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="draw val/bpc by characters and by hours: .png, .pdf"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures, with all their digits")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="the same")
    parser.add_argument("--overwrite", action="store_true", help="replace the files if they exist")
    options = parse(parser, arguments)
    if options.output and options.output.suffix not in (".png", ".pdf"):
        raise UserError(f"--output is {options.output}; it must end in .png or .pdf.")
    check_outputs(*filter(None, (options.output, options.json, options.csv)), overwrite=options.overwrite)

    from rich.console import Console

    from lmtrain.program.time_left import time_left_of_each
    from lmtrain.runs.compare import plot, read_runs, records, remarks, tables

    with time_left_of_each() as show:
        runs = read_runs(options.runs, options.sort, partial(show, "Reading runs"))
    if options.output:
        plot(runs, options.output)
    if options.json:
        _write_json(records(runs), options.json)
    if options.csv:
        _write_csv(records(runs), options.csv)
    taken = Path("/dev/stdout") in (options.json, options.csv)  # by figures, which tables would spoil
    console = Console(highlight=False, stderr=taken)
    terminal = console.width
    for one in tables(runs):
        # lines that the terminal wraps are easier to read than cells squeezed to a few letters
        console.width = max(terminal, console.measure(one, options=console.options.update(width=10_000)).maximum)
        console.print(one)
        console.print()
    for line in remarks(runs):
        print(line, file=sys.stderr if taken else sys.stdout)


def _write_json(rows: list[dict], path: Path) -> None:
    from lmtrain.program.files import atomic_write

    with atomic_write(path) as unfinished:
        unfinished.write_text(to_json(rows, indent=1) + "\n", encoding="utf-8")


def _write_csv(rows: list[dict], path: Path) -> None:
    from lmtrain.program.files import atomic_write

    with atomic_write(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


command = partial(run, main)

if __name__ == "__main__":
    sys.exit(command())
