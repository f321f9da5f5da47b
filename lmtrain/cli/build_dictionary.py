"""Counts the characters (or words) of a corpus, shows how much of it they cover, and writes a dictionary.

Training counts by itself (`dictionary=corpus`). Use this command to look at the counts first, to leave out rare items,
or to make a dictionary that several models share: python train.py dictionary=file dictionary.path=FILE
"""

import logging
import os
import sys
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from lmtrain.cli.arguments import Command, Encoding, Option, Positional, Range
from lmtrain.program.command import check_can_be_trained_on, check_outputs, train_program
from lmtrain.program.shell import override_of

if TYPE_CHECKING:
    from lmtrain.data.dictionary import Dictionary

EXAMPLES = """examples:
  python scripts/build_dictionary.py corpus
  python scripts/build_dictionary.py corpus --coverage 0.99999 --output dictionary.json
  python scripts/build_dictionary.py raw/*.txt.gz --min-count 5 --flair dictionary.pkl
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    inputs: Annotated[
        list[str],
        Positional("corpus folder (its train/ is counted), file, pattern or URL; -: standard input", "INPUT"),
    ]
    output: Annotated[str | None, Option("write the dictionary there, as JSON", "FILE")] = None
    flair: Annotated[str | None, Option("write the dictionary there, as the pickle that Flair reads", "FILE")] = None
    overwrite: Annotated[bool, Option("replace files that exist")] = False
    min_count: Annotated[int, Option("leave out items that occur fewer than N times", "N", Range(1))] = 1
    coverage: Annotated[
        float,
        Option(
            "keep the most frequent items that make up this share of the text, 0 to 1 (default: DEFAULT, all)",
            "SHARE",
            Range(0, 1, above=True),
        ),
    ] = 1.0
    max_size: Annotated[int | None, Option("keep at most the N most frequent items (default: all)", "N", Range(1))] = (
        None
    )
    level: Annotated[Literal["character", "word"], Option("what an item is")] = "character"
    format: Annotated[
        Literal["auto", "text"], Option("auto refuses files that are not plain text; text reads them as plain text")
    ] = "auto"
    encoding: Encoding = None
    errors: Annotated[
        Literal["strict", "replace"],
        Option("bytes that are not in the encoding: strict stops there, replace counts them as U+FFFD"),
    ] = "strict"
    rows: Annotated[int, Option("number of rows to show; 0 shows all (default: DEFAULT)", "N", Range(0))] = 30
    cache_dir: Annotated[
        Path, Option("where counts are kept for training (default: $LMTRAIN_CACHE, or ~/.cache/lmtrain)", "FOLDER")
    ] = field(default_factory=lambda: Path(os.environ.get("LMTRAIN_CACHE") or "~/.cache/lmtrain"))


def main(options: Options) -> None:
    from lmtrain.data.dictionary import Dictionary
    from lmtrain.data.id_cache import TextFormat
    from lmtrain.prepare.dictionary_counts import count_texts
    from lmtrain.program.time_left import time_left_of_each

    check_can_be_trained_on(options.output)
    check_outputs(*filter(None, (options.output, options.flair)), overwrite=options.overwrite)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    text_format = TextFormat(options.level, errors=options.errors, encoding=options.encoding)
    with time_left_of_each() as progress:
        counts = count_texts(options.inputs, text_format, options.cache_dir, options.format, progress)
    dictionary = Dictionary.from_counts(
        counts, min_count=options.min_count, coverage=options.coverage, max_size=options.max_size
    )
    _print(counts, dictionary, options.rows)
    if options.output:
        dictionary.save(options.output)
        path = override_of("dictionary.path", options.output)
        print(f"Wrote {options.output}:  {train_program()} dictionary=file {path}")
    if options.flair:
        from lmtrain.model_files.flair import save_dictionary_for_flair

        save_dictionary_for_flair(dictionary, options.flair)
        print(f"Wrote {options.flair}:  flair.data.Dictionary.load_from_file({options.flair!r})")


def _print(counts: Counter[str], dictionary: "Dictionary", rows: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from lmtrain.prepare.dictionary_counts import coverage_curve, covered, table

    console = Console()
    items = Table("id", "item", "", "count", "share", "cumulative", box=None)
    listed = table(counts)
    for row in listed[: rows or None]:
        number = str(dictionary.ids[row.item]) if row.item in dictionary.ids else "-"
        figures = f"{row.count:,}", f"{row.share:.4%}", f"{row.cumulative:.4%}"
        items.add_row(number, *_shown(row.item), *figures)
    curve = Table("coverage", "items", "the rarest occurs", box=None)
    for point in coverage_curve(counts):
        curve.add_row(f"{point.coverage:.3%}", f"{point.items:,}", f"{point.rarest:,}×")
    for shown in (items, curve):
        for column in shown.columns:
            column.justify = "left" if column.header in ("item", "") else "right"
    console.print(items)
    if len(listed) > rows > 0:
        console.print(f"... and {len(listed) - rows:,} more (--rows 0 shows all)", highlight=False)
    console.print("", curve, "")
    share = covered(counts, dictionary)
    console.print(
        f"{len(dictionary):,} items, <unk> among them, cover {share:.4%} of {counts.total():,}.", highlight=False
    )


def _shown(item: str) -> tuple[str, str]:
    """An item so that it can be seen, and a character's name."""
    from rich.markup import escape

    if len(item) > 1:
        return escape(item), ""
    visible = item.isprintable() and not unicodedata.combining(item) and item != " "
    return (escape(item) if visible else f"U+{ord(item):04X}"), unicodedata.name(item, "").lower()


command = Command(main, Options, EXAMPLES)
