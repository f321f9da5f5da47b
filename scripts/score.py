#!/usr/bin/env python
"""Tells how probable a trained model finds texts: loss, perplexity, bits per character and per byte."""

import argparse
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

from lmtrain.command import run
from lmtrain.errors import UserError

EXAMPLE = """examples:  python scripts/score.py best-lm.pt valid.txt test.txt
           python scripts/score.py best-lm.pt --per-line < crawl.txt | sort -n | cut -f3 > most_probable_first.txt

Every file is one text (every line with --per-line). Its first character is not scored, since nothing stands before
it; a backward model reads from the end. --per-line prints bits per character, the log-probability in nats and the
line, separated by tabs, in the order of the input; nan where there is nothing to score. loss is in nats a character
(or word), lower is better; ppl is exp(loss), bits are loss / ln 2. unknown: the share that the model does not know."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", help="best-lm.pt, or a .safetensors file that export.py wrote")
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        default=["-"],
        help="text in UTF-8, not compressed; - or none: standard input",
    )
    parser.add_argument("--per-line", action="store_true", help="score every line by itself")
    parser.add_argument(
        "--batch-size",
        type=int,
        default=64,
        metavar="N",
        help="texts that are computed together; fewer take less memory (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print a JSON object for each file instead of a table")
    options = parser.parse_args(arguments)
    if options.batch_size < 1:
        raise UserError(f"--batch-size is {options.batch_size}; it must be at least 1.")

    from lmtrain.export import load_model

    language_model = load_model(options.model, options.device)
    if options.per_line:
        _print_lines(language_model, options)
    else:
        _print_files(language_model, options)


def _print_lines(language_model, options: argparse.Namespace) -> None:
    from lmtrain.scoring import score_lines

    for name in options.files:
        with _opened(name) as file:
            lines = (line.removesuffix("\n") for line in file)
            for line, score in score_lines(language_model, lines, options.batch_size):
                print(f"{score.bits_per_item:.6f}\t{score.log_probability:.6f}\t{line}")


def _print_files(language_model, options: argparse.Namespace) -> None:
    from lmtrain.scoring import Score, score

    texts = []
    for name in options.files:
        with _opened(name) as file:
            texts.append(file.read())
    scores = score(language_model, texts, options.batch_size)
    for name, one in zip(options.files, scores, strict=True):
        if not one.items:
            raise UserError(f"{name} is too short to score: it needs at least two {language_model.level}s.")
    rows = list(zip(options.files, scores, strict=True))
    if len(rows) > 1:
        rows.append(("total", sum(scores, Score())))
    unit = "word" if language_model.level == "word" else "character"
    if not options.json:
        headings = [f"{unit}s", "loss", "ppl", f"bits/{unit}", "bits/byte", "unknown", "text"]
        print("  ".join(f"{heading:>14}" for heading in headings[:-1]), headings[-1], sep="  ")
    for name, one in rows:
        figures = {
            f"{unit}s": one.items,
            "loss": one.loss,
            "ppl": one.perplexity,
            f"bits_per_{unit}": one.bits_per_item,
            "bits_per_byte": one.bits_per_byte,
            "unknown_rate": one.unknown_rate,
        }
        if options.json:
            print(json.dumps({"text": name, **figures}))
        else:
            count, *numbers, unknown = figures.values()
            cells = [f"{count:>14}", *(f"{number:>14.5f}" for number in numbers), f"{100 * unknown:>12.4f} %"]
            print("  ".join(cells), name, sep="  ")


@contextmanager
def _opened(name: str) -> Iterator[TextIO]:
    """A file or standard input as UTF-8 text, with whatever line ends as line breaks, as in training."""
    try:
        if name == "-":
            yield io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8")
        else:
            with Path(name).open(encoding="utf-8") as file:
                yield file
    except UnicodeDecodeError as error:
        where = "Standard input" if name == "-" else name
        raise UserError(f"{where} is not UTF-8: {error}.") from None


command = partial(run, main)

if __name__ == "__main__":
    sys.exit(command())
