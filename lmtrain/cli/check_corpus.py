"""Reports what would go wrong in training on a corpus, before it starts.

It checks the encoding, the sizes of train, valid, test and splits, duplicates, documents of valid and test that also
occur in train, and how the built-in dictionaries fit. It counts scripts, blocks and languages, shows on a sample what
the optional steps of scripts/prepare_corpus.py would change, and measures how fast the model trains on this machine.
Exit status: 0 if training will work, 1 if there are errors, 2 if PATH or an option is wrong.
"""

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from lmtrain.cli.arguments import Command, Option, Positional
from lmtrain.program.command import as_typed_here, script
from lmtrain.program.plain_json import to_json

if TYPE_CHECKING:
    from lmtrain.prepare.check_result import Check

EXAMPLES = """examples:
  python scripts/check_corpus.py corpus
  python scripts/check_corpus.py corpus model=large data.batch_size=50 dictionary=chars
  python scripts/check_corpus.py corpus --json > check.json
"""
_STYLES = {"error": "bold red", "warning": "yellow"}


@dataclass(frozen=True, kw_only=True)
class Options:
    path: Annotated[str, Positional("corpus folder, or its fsspec URL", "PATH")]
    overrides: Annotated[
        list[str],
        Positional(
            "keys that you will give `python train.py` besides data=folder data.path=PATH, such as model=large",
            "KEY=VALUE",
        ),
    ] = field(default_factory=list)
    json: Annotated[bool, Option("print all results as JSON")] = False
    no_cost: Annotated[bool, Option("do not measure how fast the model trains")] = False


def main(options: Options) -> None:
    from rich.console import Console

    from lmtrain.prepare.corpus_check import check_corpus
    from lmtrain.program.time_left import time_left_of_each

    with time_left_of_each() as show_time_left:
        check = check_corpus(
            options.path,
            options.overrides,
            with_cost=not options.no_cost,
            show=show_time_left,
        )
    if options.json:
        print(to_json(check.to_json(), indent=2))
    else:
        console = Console(highlight=False)
        if not console.is_terminal:
            console.width = 120
        show(check, console)
    if check.has_errors:
        sys.exit(1)


def show(check: "Check", console) -> None:
    """Prints tables of the figures, and then the findings with their remedies."""
    if check.parts:
        _show_parts(check, console)
        _show_characters(check, console)
        _show_quality(check, console)
        _show_training(check, console)
    from rich.text import Text

    for finding in check.findings:
        message = as_typed_here(finding.message)
        console.print(Text.assemble((f"{finding.level}: ", _STYLES[finding.level]), message), soft_wrap=True)
    if not check.findings:
        console.print("Nothing is wrong.", style="green")


def _table(*columns: str):
    from rich.table import Table

    table = Table(columns[0], box=None, header_style="bold", pad_edge=False)
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _show_parts(check: "Check", console) -> None:
    table = _table("part", "files", "characters", "documents", "median", "99 %", "longest", "duplicates", "in train")
    for part, facts in check.parts.items():
        numbers = [facts[name] for name in ("files", "characters", "documents")]
        numbers += [*facts["lengths"].values(), facts["duplicates"]]
        known = facts.get("in_train")
        table.add_row(part, *(f"{number:,}" for number in numbers), "" if known is None else f"{known:,}")
    console.print(table, "", sep="\n")


def _show_characters(check: "Check", console) -> None:
    for name, counts in (("script", check.scripts), ("block", check.blocks)):
        table = _table(name, "characters", "share")
        total = sum(counts.values())
        for row, (kind, count) in enumerate(counts.items()):
            if row == 10:
                rest = sum(list(counts.values())[row:])
                table.add_row(f"{len(counts) - row} more", f"{rest:,}", f"{rest / total:.4%}")
                break
            table.add_row(kind, f"{count:,}", f"{count / total:.4%}")
        console.print(table, "", sep="\n")
    from rich.markup import escape

    table = _table("dictionary", "items", "train", "valid", "test")
    table.add_column("it lacks, for example")
    for coverage in check.dictionaries:
        lacking = " ".join(escape(item if item.isprintable() else ascii(item)) for item in list(coverage.unknown)[:12])
        shares = (f"{share:.4%}" for share in coverage.covered.values())
        table.add_row(f"dictionary={coverage.choice}", f"{coverage.size:,}", *shares, lacking)
    console.print(table, "", sep="\n")


def _show_quality(check: "Check", console) -> None:
    from rich.markup import escape

    total = sum(check.languages.values())
    shares = ", ".join(f"{language} {count / total:.1%}" for language, count in list(check.languages.items())[:8])
    if shares:
        console.print(f"languages of {total:,} documents (?: not sure): {shares}", "", sep="\n", soft_wrap=True)
    table = _table(f"option of {script('prepare_corpus').rpartition('/')[2]}", "documents")
    table.add_column("that")
    for effect in check.effects:
        example = escape(f"{effect.what}: {effect.examples[0]}")
        table.add_row(escape(effect.option), f"{effect.share:.2%}", example)
    if check.effects:
        console.print(table, "", sep="\n")
    if check.not_tried:
        needs = ", ".join(f"{what} needs {package}" for what, package in check.not_tried.items())
        remedy = "Install all: pip install 'lmtrain[prepare]'"
        console.print(f"Left out: {needs}. {remedy}", "", sep="\n", markup=False, soft_wrap=True)


def _show_training(check: "Check", console) -> None:
    sizes, validation, cost = list(check.splits.values()), check.validation, check.cost
    if sizes:
        span = f"{len(sizes)} training splits of {min(sizes):,} to {max(sizes):,} items"
        console.print(span if len(sizes) > 1 else f"1 training split of {sizes[0]:,} items")
    if validation:
        console.print(
            f"{validation['per_epoch']} × validation an epoch, after every {validation['every']:,} items; "
            f"they take about {validation['share_of_time']:.1%} of the time",
            soft_wrap=True,
        )
    if cost:
        console.print(
            f"{cost['parameters']:,} parameters; training takes about {cost['memory'] / 2**30:.1f} GiB in "
            f"{cost['precision']}, and an epoch about {_duration(cost['epoch_seconds'])} on this machine "
            f"({cost['device']}: {cost['items_per_second']:,.0f} items/s), each validation "
            f"{_duration(cost['validation_seconds'])}",
            soft_wrap=True,
        )
    console.print()


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"


command = Command(main, Options, EXAMPLES)
