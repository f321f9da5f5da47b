"""Measures how well tags are predicted from embeddings: linear probes over vectors, character n-grams and both."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from lmtrain.cli.arguments import Command, Device, Encoding, Lower, Option, Positional, Range, Untokenized
from lmtrain.errors import UserError, raise_if_any
from lmtrain.program.command import check_outputs
from lmtrain.program.files import open_file
from lmtrain.program.plain_json import to_json

EXAMPLES = """examples:
  python scripts/probe.py forward/best-lm.pt backward/best-lm.pt --train train.tsv --test test.tsv
  python scripts/probe.py forward/best-lm.pt --train train.conllu --test test.conllu --json probe.json --plot probe.png

The files of --train and --test have one token and its tag a line and an empty line after each sentence, or are CoNLL-U,
plain or compressed. For tags such as B-PER the result is the F1 of whole entities, for others the share of right tags.

Logistic regressions tag one token at a time: by its n-grams of 1 to 5 characters or its vector, then by the n-grams,
the vectors, or both, of the token and of the tokens before and after it. For the latter, vectors are reduced to 256
principal components. "majority" gives all tokens the most frequent tag. The vectors themselves are not trained. The
regularization is chosen on a fifth of the training sentences. Each seed draws other sentences; the table has means and
standard deviations over the seeds. docs/how_good.md has examples and explains them."""

_SENTENCES = 1500
_EPOCHS = 30
_SIZES = 4  # each half as large as the next


@dataclass(frozen=True, kw_only=True)
class Options:
    models: Annotated[list[str], Positional("best-lm.pt of a forward and of a backward run, or one", "MODEL")]
    train: Annotated[str, Option("tagged sentences to learn from", "FILE")]
    test: Annotated[str, Option("tagged sentences to test on", "FILE")]
    column: Annotated[
        int | None,
        Option("column of the tag, counted from 0; -1 is the last (default: the last; for CoNLL-U 3, UPOS)", "N"),
    ] = None
    token_column: Annotated[int, Option("column of the token", "N")] = 0
    comment: Annotated[str | None, Option("skip lines that begin with PREFIX, such as '# '", "PREFIX")] = None
    encoding: Encoding = None
    sizes: Annotated[
        str | None,
        Option(
            "numbers of training sentences to try (default: an eighth, a quarter, a half and all, at most "
            f"{_SENTENCES:,}; with --tagger only the last)",
            "N,N,...",
        ),
    ] = None
    seeds: Annotated[
        int | None, Option("how often each size is drawn (default: 3, with --tagger 1)", "N", Range(1, 1000))
    ] = None
    test_sentences: Annotated[int, Option("number of test sentences, always the same ones", "N", Range(1, 10**9))] = (
        _SENTENCES
    )
    tagger: Annotated[bool, Option("train Flair's SequenceTagger instead of linear probes")] = False
    epochs: Annotated[int | None, Option(f"most epochs of --tagger (default: {_EPOCHS})", "N", Range(1, 10**6))] = None
    untokenized: Untokenized = False
    lower: Lower = False
    device: Device = "cpu"
    json: Annotated[Path | None, Option("write every result, with all digits", "FILE")] = None
    plot: Annotated[Path | None, Option("draw the curves: .png, .pdf", "FILE")] = None
    overwrite: Annotated[bool, Option("replace the files if they exist")] = False


def main(options: Options) -> None:
    _check_options(options)
    check_outputs(*filter(None, (options.json, options.plot)), overwrite=options.overwrite)

    from lmtrain.probing.flair_tagger import check_flair
    from lmtrain.probing.material import check_installed, read_material

    check_flair() if options.tagger else check_installed("scripts/probe.py")
    material = read_material(
        options.train, options.test, options.column, options.token_column, options.comment, options.encoding
    )
    language_models = _models(options)
    sizes = _sizes(options, len(material.train))
    for remark in material.remarks:
        print(remark, file=sys.stderr)
    results = _measured(options, material, language_models, sizes)
    _report(options, material, results)


def _check_options(options: Options) -> None:
    problems = []
    if options.plot and options.plot.suffix not in (".png", ".pdf"):
        problems.append(f"--plot is {options.plot}; it must end in .png or .pdf.")
    if len(options.models) > 2:
        problems.append(
            f"{len(options.models)} models were given; a probe takes a forward one, a backward one, or both."
        )
    problems += [
        f"{name} is -; a probe reads files: {name} FILE."
        for name in ("--train", "--test")
        if getattr(options, name.strip("-")) == "-"
    ]
    if options.tagger and (options.untokenized or options.lower):
        problems.append("--untokenized and --lower are for linear probes; leave them out with --tagger.")
    if options.epochs is not None and not options.tagger:
        problems.append("--epochs is for --tagger; linear probes have none.")
    raise_if_any(problems)


def _models(options: Options) -> list:
    """One or two models of characters, the forward one first."""
    from lmtrain.model_files.export import load_model

    loaded = [load_model(path, options.device) for path in options.models]
    problems = [
        f"{path} is a model of words; only one of characters has vectors of words in their context."
        for path, one in zip(options.models, loaded, strict=True)
        if one.level != "character"
    ]
    if len(loaded) == 2 and loaded[0].is_forward_lm == loaded[1].is_forward_lm:
        problems.append(
            f"{options.models[0]} and {options.models[1]} are both {loaded[0].direction} models; give one of each "
            "direction, or one only."
        )
    raise_if_any(problems)
    return sorted(loaded, key=lambda one: not one.is_forward_lm)


def _sizes(options: Options, sentences: int) -> list[int]:
    if options.sizes is None:
        most = min(sentences, _SENTENCES)
        sizes = {most} if options.tagger else {most >> exponent for exponent in range(_SIZES)}
        return sorted(size for size in sizes if size >= 2)
    try:
        sizes = {int(size) for size in options.sizes.split(",")}
    except ValueError:
        remedy = "it must be numbers with commas between them: --sizes 100,1000"
        raise UserError(f"--sizes is {options.sizes}; {remedy}.") from None
    if min(sizes) < 2 or max(sizes) > sentences:
        raise UserError(f"--sizes is {options.sizes}; each must be from 2 to the {sentences:,} of {options.train}.")
    return sorted(sizes)


def _measured(options: Options, material, language_models: list, sizes: list[int]) -> list:
    from lmtrain.program.time_left import time_left

    seeds = range(1, 1 + (options.seeds or (1 if options.tagger else 3)))
    total = len(seeds) * sum(sizes) * (3 if options.tagger else 1)
    with time_left("Probing", total) as progress:
        if options.tagger:
            from lmtrain.probing.flair_tagger import tagger_curve

            more = options.test_sentences, options.epochs or _EPOCHS, progress
            return list(tagger_curve(material, language_models, sizes, seeds, *more))
        from lmtrain.inference.embeddings import StringEmbeddings
        from lmtrain.probing.experiment import curve

        embeddings = StringEmbeddings(*language_models, tokenized_lm=not options.untokenized, is_lower=options.lower)
        return list(curve(material, embeddings, sizes, seeds, options.test_sentences, progress))


def _report(options: Options, material, results: list) -> None:
    from lmtrain.probing.results import plot, records, table, verdict
    from lmtrain.program.files import atomic_write

    if options.json:
        asked = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
        with atomic_write(options.json) as unfinished:
            text = to_json({"options": asked, "results": records(results)}, indent=1, ensure_ascii=False)
            unfinished.write_text(text + "\n", encoding="utf-8")
    if options.plot:
        plot(results, options.plot)
    taken = 1 in (open_file(path) for path in (options.json, options.plot) if path)
    to = sys.stderr if taken else sys.stdout
    tested = min(options.test_sentences, len(material.test))
    what = "Flair's SequenceTagger" if options.tagger else "Linear probes"
    print(f"{what}, tested on {tested:,} of {len(material.test):,} sentences of {options.test}\n", file=to)
    print(table(results), file=to)
    if not options.tagger:
        print(f"\n{verdict(results)}", file=to)


command = Command(main, Options, EXAMPLES)
