#!/usr/bin/env python
"""Measures what embeddings are worth: a linear probe over a model's vectors, beside character n-grams and both."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lmtrain.cli.arguments import Range, add_encoding, parse
from lmtrain.errors import UserError, raise_if_any
from lmtrain.program.command import check_outputs, run
from lmtrain.program.plain_json import to_json

EXAMPLE = """examples:
  python scripts/probe.py forward/best-lm.pt backward/best-lm.pt --train train.tsv --test test.tsv
  python scripts/probe.py forward/best-lm.pt --train train.conllu --test test.conllu --json probe.json --plot probe.png

TRAIN and TEST have a token and its tag in each line and an empty line after each sentence, or are CoNLL-U; plain or
compressed. Of tags such as B-PER the F1 of whole entities is measured, of others the share of right tags.

The vectors are not trained any further. What is compared are logistic regressions that tag one token at a time, by its
n-grams of 1 to 5 characters or by its vector; each alone, with those of the word before and after it, and both
together. majority gives all tokens the tag that is most frequent. Beside those of neighbours, vectors are reduced to
256 principal components. The regularization is chosen on a fifth of the training sentences. A size is measured once
for each seed, which draws the sentences; the table has means and standard deviations. docs/how_good.md has examples
and what to make of them."""

_SENTENCES = 1500
_EPOCHS = 30
_SIZES = 4  # each half as large as the next


def main(arguments: Sequence[str] | None = None) -> None:
    at_least_one = Range(1, 10**9)
    options = parse(_parser(), arguments, seeds=Range(1, 1000), test_sentences=at_least_one, epochs=Range(1, 10**6))
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


def _check_options(options: argparse.Namespace) -> None:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "models", metavar="MODEL", nargs="+", help="best-lm.pt of a forward and of a backward run, or one"
    )
    parser.add_argument("--train", required=True, metavar="FILE", help="tagged sentences to learn from")
    parser.add_argument("--test", required=True, metavar="FILE", help="tagged sentences to test on")
    parser.add_argument(
        "--column",
        type=int,
        metavar="N",
        help="which column is the tag, counted from 0, -1 for the last (default: the last; of CoNLL-U 3, UPOS)",
    )
    parser.add_argument(
        "--token-column", type=int, default=0, metavar="N", help="which column is the token (default: %(default)s)"
    )
    parser.add_argument("--comment", metavar="PREFIX", help="skip lines that begin with PREFIX, such as '# '")
    add_encoding(parser)
    parser.add_argument(
        "--sizes",
        metavar="N,N,...",
        help="numbers of training sentences (default: an eighth, a quarter, a half and all of them, at most "
        f"{_SENTENCES:,}; with --tagger only the last)",
    )
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="how many draws of each size (default: 3, with --tagger 1)"
    )
    parser.add_argument(
        "--test-sentences",
        type=int,
        default=_SENTENCES,
        metavar="N",
        help="how many are tested, always the same; all if there are fewer (default: %(default)s)",
    )
    parser.add_argument("--tagger", action="store_true", help="train Flair's SequenceTagger in place of linear probes")
    parser.add_argument("--epochs", type=int, metavar="N", help=f"of --tagger, at most (default: {_EPOCHS})")
    parser.add_argument(
        "--untokenized",
        action="store_true",
        help="the models were trained on untokenized text: no space after CoNLL-U's SpaceAfter=No",
    )
    parser.add_argument("--lower", action="store_true", help="the models were trained on text in lower case")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result, with all digits")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves: .png, .pdf")
    parser.add_argument("--overwrite", action="store_true", help="replace the files if they exist")
    return parser


def _models(options: argparse.Namespace) -> list:
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


def _sizes(options: argparse.Namespace, sentences: int) -> list[int]:
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


def _measured(options: argparse.Namespace, material, language_models: list, sizes: list[int]) -> list:
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


def _report(options: argparse.Namespace, material, results: list) -> None:
    from lmtrain.probing.results import plot, records, table, verdict
    from lmtrain.program.files import atomic_write

    if options.json:
        asked = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
        with atomic_write(options.json) as unfinished:
            text = to_json({"options": asked, "results": records(results)}, indent=1, ensure_ascii=False)
            unfinished.write_text(text + "\n", encoding="utf-8")
    if options.plot:
        plot(results, options.plot)
    to = sys.stderr if Path("/dev/stdout") in (options.json, options.plot) else sys.stdout
    tested = min(options.test_sentences, len(material.test))
    what = "Flair's SequenceTagger" if options.tagger else "Linear probes"
    print(f"{what}, tested on {tested:,} of {len(material.test):,} sentences of {options.test}\n", file=to)
    print(table(results), file=to)
    if not options.tagger:
        print(f"\n{verdict(results)}", file=to)


command = partial(run, main)

if __name__ == "__main__":
    sys.exit(command())
