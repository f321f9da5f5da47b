#!/usr/bin/env python
"""Makes a corpus folder out of what people have: text, dumps of Wikipedia, web crawls, tables, archives, treebanks.

The result trains with `python train.py data=folder data.path=OUTPUT`: train/ with splits of about equal size,
valid.txt, test.txt, and manifest.json, which tells what was done. A hash of each document decides whether it trains,
validates or tests, and where it stands: more text never moves a document from one part to another,
if the shares are given.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from lmtrain.cli.arguments import SEEDS, SHARES, Range, add_encoding, parse
from lmtrain.program.command import run, script, train_program
from lmtrain.program.shell import escaped, override_of, pasteable, unescaped

FORMATS = (
    *("auto", "text", "jsonl", "json", "csv", "parquet", "arrow", "mediawiki", "wikiextractor", "html", "warc"),
    *("leipzig", "tmx", "xml", "conllu", "columns", "vrt", "subtitles", "po"),
)
EXAMPLE = r"""examples:
  python scripts/prepare_corpus.py raw/*.txt.gz --output corpus
  python scripts/prepare_corpus.py books/ --split-at '\n\n' --boilerplate --output corpus
  python scripts/prepare_corpus.py iswiki-latest-pages-articles.xml.bz2 --output corpus
  python scripts/prepare_corpus.py 's3://bucket/part-*.parquet' --field content --valid 0.001 --output corpus
"""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        _parser(),
        arguments,
        **dict.fromkeys(("valid", "test", "min_letters", "max_repeats", "max_markup"), SHARES),
        **dict.fromkeys(("min_length", "max_length", "split_size", "workers"), Range(1)),
        seed=SEEDS,
    )
    from lmtrain.prepare.cleaning import BOILERPLATE, Cleaning
    from lmtrain.prepare.folder import prepare_corpus
    from lmtrain.prepare.options import PrepareOptions
    from lmtrain.prepare.shuffling import Dealing
    from lmtrain.program.time_left import time_left_of_each

    limits = {
        name: BOILERPLATE[name] if value is None and options.boilerplate else value
        for name, value in ((name, getattr(options, name)) for name in BOILERPLATE)
    }
    chosen = PrepareOptions(
        format=options.format,
        field=options.field,
        language=options.language,
        split_at=options.split_at,
        errors=options.errors,
        encoding=options.encoding,
        cleaning=Cleaning(
            fix_mojibake=options.fix_mojibake,
            remove_control=not options.keep_control,
            remove_invisible=options.remove_invisible,
            normalize=None if options.normalize == "none" else options.normalize,
            trim=not options.keep_whitespace,
            min_length=options.min_length,
            max_length=options.max_length,
            **limits,
            scripts=tuple(options.script),
            script_share=options.script_share,
            languages=tuple(options.only_language),
            other_languages=tuple(options.not_language),
            language_threshold=options.language_threshold,
        ),
        dealing=Dealing(
            options.valid,
            options.test,
            options.seed,
            not options.keep_duplicates,
            options.max_copies,
            options.near_duplicates,
        ),
        split_size=options.split_size,
        document_delimiter=options.document_delimiter,
    )
    with time_left_of_each() as progress:
        manifest = prepare_corpus(
            options.inputs,
            options.output,
            chosen,
            scheduler_address=options.scheduler,
            workers=options.workers,
            overwrite=options.overwrite,
            progress=progress,
        )
    _report(manifest, options.output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="file, pattern, folder (all files in it) or fsspec URL; plain, .gz, .bz2, .xz or .zst; -: standard input",
    )
    parser.add_argument("--output", required=True, metavar="FOLDER", help="the corpus folder; it must not exist")
    parser.add_argument("--overwrite", action="store_true", help="replace a corpus that was prepared before")
    _add_reading(parser.add_argument_group("reading"))
    _add_steps(parser.add_argument_group("steps, in this order"))
    _add_writing(parser.add_argument_group("writing"))
    _add_computing(parser.add_argument_group("computing (makes no difference to the output)"))
    return parser


def _add_reading(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--format",
        choices=FORMATS,
        default="auto",
        metavar="NAME",
        help=f"auto, which goes by the content, or {' '.join(FORMATS[1:])}; of archives, what is in them "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--field",
        help="which field of a record is the document: its name, NAME.NAME for one in a record, or the number of a "
        "column that has no name (default: text, or content)",
    )
    group.add_argument("--language", metavar="CODE", help="which to read of texts in several, as de (OPUS, TMX)")
    group.add_argument(
        "--split-at",
        type=unescaped,
        metavar="TEXT",
        help=r"what separates the documents of a text or page; '\n\n' for paragraphs (default: the end of a line; a "
        "record of JSON or a table is one document)",
    )
    add_encoding(group)
    group.add_argument(
        "--errors",
        choices=("strict", "replace"),
        default="strict",
        help="other bytes: strict stops at them, replace puts U+FFFD there (default: %(default)s)",
    )


def _add_steps(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fix-mojibake", action="store_true", help="turn back what was decoded with a wrong encoding (FranÃ§ais)"
    )
    group.add_argument(
        "--keep-control", action="store_true", help="do not remove control characters and byte-order marks"
    )
    group.add_argument(
        "--remove-invisible",
        action="store_true",
        help="remove soft hyphens, zero-width spaces (which Khmer, Lao, Thai and Burmese may need) and marks of "
        "direction; the joiners that scripts need stay",
    )
    group.add_argument(
        "--normalize",
        choices=("NFC", "NFD", "NFKC", "NFKD", "none"),
        default="NFC",
        help="Unicode form (default: %(default)s)",
    )
    group.add_argument("--keep-whitespace", action="store_true", help="do not remove whitespace around documents")
    group.add_argument("--min-length", type=int, metavar="N", help="leave out documents with fewer characters")
    group.add_argument("--max-length", type=int, metavar="N", help="leave out documents with more characters")
    group.add_argument(
        "--boilerplate", action="store_true", help="the next three, with 0.6, 0.2 and 0.2 where you give no other SHARE"
    )
    group.add_argument(
        "--min-letters", type=float, metavar="SHARE", help="leave out documents with a smaller share of letters, 0 to 1"
    )
    group.add_argument(
        "--max-repeats", type=float, metavar="SHARE", help="... a larger share of repeated characters: -----"
    )
    group.add_argument(
        "--max-markup", type=float, metavar="SHARE", help="... a larger share of tags, entities and links"
    )
    _add_languages(group)
    group.add_argument(
        "--keep-duplicates", action="store_true", help="keep all of several equal documents, instead of one"
    )
    group.add_argument(
        "--max-copies",
        type=int,
        metavar="N",
        help="leave out documents of which there are more than N equal ones: lines of text; of JSON and tables records "
        r"(their lines with --split-at '\n')",
    )
    group.add_argument(
        "--near-duplicates", action="store_true", help="keep one of documents that are almost equal (MinHash)"
    )


def _add_languages(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--script",
        action="append",
        default=[],
        metavar="NAME",
        help="leave out documents that are not in this Unicode script, as Cyrillic; may be given several times",
    )
    group.add_argument(
        "--script-share",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="... of whose letters a smaller share is in it (default: %(default)s)",
    )
    group.add_argument(
        "--only-language",
        action="append",
        default=[],
        metavar="CODE",
        help="leave out documents in other languages than this, as is; may be given several times",
    )
    group.add_argument(
        "--not-language",
        action="append",
        default=[],
        metavar="CODE",
        help="leave out documents in this language; for texts whose own language the identifier does not know",
    )
    group.add_argument(
        "--language-threshold",
        type=float,
        default=0.9,
        metavar="SHARE",
        help="... where it is at least so probable (default: %(default)s)",
    )


def _add_writing(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--valid",
        type=float,
        metavar="SHARE",
        help="of the documents to validate on (default: 0.01, halved until that is no more than 10 MB)",
    )
    group.add_argument("--test", type=float, metavar="SHARE", help="of the documents to test on (default: likewise)")
    group.add_argument(
        "--split-size",
        type=_bytes,
        default="20MB",
        metavar="SIZE",
        help="about how large a file of train/ is; the model is validated after each (default: %(default)s)",
    )
    group.add_argument(
        "--document-delimiter",
        type=unescaped,
        default="\n",
        metavar="TEXT",
        help="what ends a document; where it occurs inside one, a space or newline takes its place (default: newline)",
    )
    group.add_argument("--seed", type=int, default=1, help="of the order within the parts (default: %(default)s)")


def _add_computing(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--workers", type=int, metavar="N", help="processes on this machine (default: one a core)")
    group.add_argument(
        "--scheduler", metavar="tcp://HOST:PORT", help="use this Dask cluster, which must share the file system"
    )


def _bytes(text: str) -> int:
    units = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
    number = text.rstrip("BbKkMmGgIi ")
    try:
        return int(float(number) * units[text[len(number) :].strip().upper()])
    except (ValueError, KeyError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it like 20MB") from None


def _report(manifest: dict, output: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("step", "documents", "left out", "characters", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for step in manifest["steps"]:
        lost = step["in"]["documents"] - step["out"]["documents"]
        table.add_row(
            step["step"], f"{step['out']['documents']:,}", f"{lost:,}" if lost else "", f"{step['out']['characters']:,}"
        )
    for part, counts in manifest["parts"].items():
        table.add_row(f"→ {part}", f"{counts['documents']:,}", "", f"{counts['characters']:,}")
    Console().print(table)
    changed = [f"{step['step']} {step['changed']:,}" for step in manifest["steps"] if step.get("changed")]
    if changed:
        print(f"Documents changed: {', '.join(changed)}")
    for line in _passed_over(manifest):
        print(line)
    delimiter, more = manifest["options"]["document_delimiter"], ""
    if delimiter != "\n":
        more = f" {override_of('data.document_delimiter', escaped(delimiter))}"
    print(f"Check it:  {script('check_corpus')} {pasteable(output)}{more}")
    print(f"Train:     {train_program()} data=folder {override_of('data.path', output)}{more}")


def _passed_over(manifest: dict) -> Iterator[str]:
    """How many records were passed over in which formats, and why."""
    reasons: dict[str, Counter[str]] = {}
    examples: dict[str, str] = {}
    for source in manifest["sources"]:
        reasons.setdefault(source["format"], Counter()).update(source["left_out"])
        examples = {reason: f" ({example})" for reason, example in source["examples"].items()} | examples
    for name, counts in reasons.items():
        if counts:
            described = (f"{count:,} × {reason}{examples.get(reason, '')}" for reason, count in counts.most_common())
            yield f"Passed over ({name}): {'; '.join(described)}"
    if replaced := sum(source.get("replaced", 0) for source in manifest["sources"]):
        yield f"Not in the encoding, and read as U+FFFD: {replaced:,} times. Is it the right one? --encoding NAME"
    if manifest["beside"]:
        yield f"Not read, for they lie beside texts: {', '.join(manifest['beside'])}"


command = partial(run, main)

if __name__ == "__main__":
    sys.exit(command())
