"""Makes a corpus folder of raw text: text files, dumps of Wikipedia, web crawls, tables, archives, treebanks.

The result trains with `python train.py experiment=fast data=folder data.path=OUTPUT`: train/ with splits of about equal
size, valid.txt, test.txt, and manifest.json, which records what was done. A hash of each document decides whether it
belongs to train, valid or test, and its place there. So if you give the shares, adding text never moves a document to
another part.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from lmtrain.cli.arguments import ENCODING, SEEDS, SHARES, Command, Option, Positional, Range
from lmtrain.program.command import check_can_be_trained_on, script, train_program
from lmtrain.program.shell import escaped, override_of, pasteable, unescaped

if TYPE_CHECKING:
    from lmtrain.prepare.options import PrepareOptions

EXAMPLES = r"""examples:
  python scripts/prepare_corpus.py raw/*.txt.gz --output corpus
  python scripts/prepare_corpus.py books/ --split-at '\n\n' --boilerplate --output corpus
  python scripts/prepare_corpus.py iswiki-latest-pages-articles.xml.bz2 --output corpus
  python scripts/prepare_corpus.py 's3://bucket/part-*.parquet' --field content --valid 0.001 --output corpus
"""


def _bytes(text: str) -> int:
    units = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}
    number = text.rstrip("BbKkMmGgIi ")
    try:
        return int(float(number) * units[text[len(number) :].strip().upper()])
    except (ValueError, KeyError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it like 20MB") from None


_READING, _STEPS, _WRITING = "reading", "steps, in this order", "writing"
_COMPUTING = "computing (makes no difference to the output)"

Format = Literal[
    "auto", "text", "jsonl", "json", "csv", "parquet", "arrow", "mediawiki", "wikiextractor", "html", "warc",
    "leipzig", "tmx", "xml", "conllu", "columns", "vrt", "subtitles", "po",
]  # fmt: skip
FORMATS = get_args(Format)


@dataclass(frozen=True, kw_only=True)
class Options:
    inputs: Annotated[
        list[str],
        Positional(
            "file, pattern, folder (all files in it) or fsspec URL; plain, .gz, .bz2, .xz or .zst; -: standard input",
            "INPUT",
        ),
    ]
    output: Annotated[str, Option("the corpus folder; it must not exist", "FOLDER")]
    overwrite: Annotated[bool, Option("replace a corpus that was prepared before")] = False

    format: Annotated[
        Format,
        Option(
            f"auto: recognised by the content; or {' '.join(FORMATS[1:])}; for an archive, the format of its files",
            "NAME",
            group=_READING,
        ),
    ] = "auto"
    field: Annotated[
        str | None,
        Option(
            "the field of a record that is the document: its name, NAME.NAME for a nested field, or the number of a "
            "column without a name (default: text, or content)",
            group=_READING,
        ),
    ] = None
    language: Annotated[
        str | None,
        Option("the language to read, such as de, in files with several (OPUS, TMX)", "CODE", group=_READING),
    ] = None
    split_at: Annotated[
        str | None,
        Option(
            r"what separates the documents of a text or page; '\n\n' for paragraphs (default: the end of a line; each "
            "record of JSON or of a table is one document)",
            "TEXT",
            read=unescaped,
            group=_READING,
        ),
    ] = None
    encoding: Annotated[str | None, replace(ENCODING, group=_READING)] = None
    errors: Annotated[
        Literal["strict", "replace"],
        Option("bytes that are not in the encoding: strict stops there, replace reads them as U+FFFD", group=_READING),
    ] = "strict"

    fix_mojibake: Annotated[
        bool, Option("repair text that was decoded with a wrong encoding (FranÃ§ais)", group=_STEPS)
    ] = False
    keep_control: Annotated[bool, Option("do not remove control characters and byte-order marks", group=_STEPS)] = False
    remove_invisible: Annotated[
        bool,
        Option(
            "remove soft hyphens, zero-width spaces (which Khmer, Lao, Thai and Burmese may need) and marks of "
            "direction; the joiners U+200C and U+200D stay",
            group=_STEPS,
        ),
    ] = False
    normalize: Annotated[Literal["NFC", "NFD", "NFKC", "NFKD", "none"], Option("Unicode form", group=_STEPS)] = "NFC"
    keep_whitespace: Annotated[bool, Option("do not remove whitespace around documents", group=_STEPS)] = False
    min_length: Annotated[
        int | None, Option("leave out documents with fewer characters", "N", Range(1), group=_STEPS)
    ] = None
    max_length: Annotated[
        int | None, Option("leave out documents with more characters", "N", Range(1), group=_STEPS)
    ] = None
    boilerplate: Annotated[
        bool, Option("the next three options, with 0.6, 0.2 and 0.2 unless you give another SHARE", group=_STEPS)
    ] = False
    min_letters: Annotated[
        float | None,
        Option("leave out documents with a smaller share of letters, 0 to 1", "SHARE", SHARES, group=_STEPS),
    ] = None
    max_repeats: Annotated[
        float | None,
        Option(
            "leave out documents with a larger share of repeated characters, such as -----",
            "SHARE",
            SHARES,
            group=_STEPS,
        ),
    ] = None
    max_markup: Annotated[
        float | None,
        Option("leave out documents with a larger share of tags, entities and links", "SHARE", SHARES, group=_STEPS),
    ] = None
    script: Annotated[
        list[str],
        Option(
            "leave out documents that are not in this Unicode script, such as Cyrillic; may be repeated",
            "NAME",
            group=_STEPS,
        ),
    ] = dataclass_field(default_factory=list)
    script_share: Annotated[
        float, Option("the share of letters that must be in a script of --script", "SHARE", group=_STEPS)
    ] = 0.5
    only_language: Annotated[
        list[str],
        Option(
            "leave out documents in other languages than this one, such as de; may be repeated", "CODE", group=_STEPS
        ),
    ] = dataclass_field(default_factory=list)
    not_language: Annotated[
        list[str],
        Option(
            "leave out documents in this language; use it if the identifier does not know the language of your text",
            "CODE",
            group=_STEPS,
        ),
    ] = dataclass_field(default_factory=list)
    language_threshold: Annotated[
        float, Option("for both: how probable a language must be to leave out a document", "SHARE", group=_STEPS)
    ] = 0.9
    keep_duplicates: Annotated[bool, Option("keep all copies of equal documents, not only one", group=_STEPS)] = False
    max_copies: Annotated[
        int | None,
        Option(
            "leave out all documents with more than N equal copies, such as menus of web pages; to count lines within "
            r"records of JSON or tables, give --split-at '\n', too",
            "N",
            group=_STEPS,
        ),
    ] = None
    near_duplicates: Annotated[
        bool, Option("keep only one of documents that are almost equal (MinHash)", group=_STEPS)
    ] = False

    valid: Annotated[
        float | None,
        Option(
            "share of the documents in valid.txt (default: 0.01, halved until it has at most 10 MB)",
            "SHARE",
            SHARES,
            group=_WRITING,
        ),
    ] = None
    test: Annotated[
        float | None,
        Option("share of the documents in test.txt (default: as --valid)", "SHARE", SHARES, group=_WRITING),
    ] = None
    split_size: Annotated[
        int,
        Option(
            "approximate size of a file of train/; training validates after each (default: 20MB)",
            "SIZE",
            Range(1),
            read=_bytes,
            group=_WRITING,
        ),
    ] = 20_000_000
    document_delimiter: Annotated[
        str,
        Option(
            "what ends a document; inside documents it becomes a space or a newline (default: newline)",
            "TEXT",
            read=unescaped,
            group=_WRITING,
        ),
    ] = "\n"
    seed: Annotated[
        int, Option("another seed gives another order within train, valid and test", None, SEEDS, group=_WRITING)
    ] = 1

    workers: Annotated[
        int | None, Option("processes on this machine (default: one for each core)", "N", Range(1), group=_COMPUTING)
    ] = None
    scheduler: Annotated[
        str | None,
        Option("use this Dask cluster; its workers must see the same file system", "tcp://HOST:PORT", group=_COMPUTING),
    ] = None


def main(options: Options) -> None:
    check_can_be_trained_on(options.output)
    from lmtrain.prepare.folder import prepare_corpus
    from lmtrain.program.time_left import time_left_of_each

    chosen = _chosen(options)
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


def _chosen(options: Options) -> "PrepareOptions":
    from lmtrain.prepare.cleaning import BOILERPLATE, Cleaning
    from lmtrain.prepare.options import PrepareOptions
    from lmtrain.prepare.shuffling import Dealing

    limits = {
        name: BOILERPLATE[name] if value is None and options.boilerplate else value
        for name, value in ((name, getattr(options, name)) for name in BOILERPLATE)
    }
    return PrepareOptions(
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


command = Command(main, Options, EXAMPLES)
