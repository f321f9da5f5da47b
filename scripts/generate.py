#!/usr/bin/env python
"""Lets a trained model write text."""

import argparse
import math
import sys
from collections.abc import Sequence
from functools import partial

from lmtrain.cli.arguments import SEEDS, Range, parse
from lmtrain.program.command import run
from lmtrain.program.plain_json import to_json
from lmtrain.program.shell import unescaped

EXAMPLE = r"""example:  python scripts/generate.py runs/small-demo-forward/best-lm.pt --prefix "The " --length 300

Texts go to standard output, their mean negative log-probabilities to standard error. \n and \t in --prefix and
--stop stand for a line break and a tab."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(
        _parser(),
        arguments,
        length=Range(1, 10**9),
        temperature=Range(0),
        samples=Range(1, 10**6),
        seed=SEEDS,
    )
    prefix, stop = unescaped(options.prefix), unescaped(options.stop) if options.stop else None

    from lmtrain.inference.generation import generate, readable
    from lmtrain.model_files.export import load_model
    from lmtrain.program.time_left import time_left

    language_model = load_model(options.model, options.device)
    with time_left("Generating", options.length) as progress:
        texts = generate(
            language_model,
            prefix=prefix,
            length=options.length,
            temperature=options.temperature,
            samples=options.samples,
            stop=stop,
            seed=options.seed,
            precision=options.precision,
            progress=progress,
        )
    unit = "word" if language_model.level == "word" else "character"
    for number, (text, nats) in enumerate(texts, 1):
        if options.json:
            print(to_json({"text": text, "negative_log_probability": nats}))
            continue
        if len(texts) > 1:
            print(f"===== {number} of {len(texts)} =====")
        print(readable(text), flush=True)
        print(f"text {number}: {nats:.4f} nats a {unit} ({nats / math.log(2):.4f} bits)", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", help="best-lm.pt, or a .safetensors file that export.py wrote")
    parser.add_argument(
        "--prefix",
        default=r"\n",
        metavar="TEXT",
        help="what the text begins with (default: a line break); for a backward model, what it ends with",
    )
    parser.add_argument(
        "--length",
        type=int,
        default=1000,
        metavar="N",
        help="characters (of a word model: words) to generate (default: %(default)s)",
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="below 1 less varied, above 1 wilder; 0: always the most probable item (default: %(default)s)",
    )
    parser.add_argument("--samples", type=int, default=1, metavar="N", help="how many texts (default: %(default)s)")
    parser.add_argument(
        "--stop", metavar="TEXT", help="end a text as soon as this has been generated (default: at its length)"
    )
    parser.add_argument("--seed", type=int, help="the same seed gives the same texts (default: different ones)")
    parser.add_argument(
        "--precision",
        choices=["32", "bf16"],
        default="32",
        help="bf16: compute in bfloat16 where the device is faster at it (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON: text and negative_log_probability")
    return parser


command = partial(run, main)

if __name__ == "__main__":
    sys.exit(command())
