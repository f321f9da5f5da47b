#!/usr/bin/env python
"""Checks in a minute whether this machine's GPU trains as it should: types, gradients, repeatability, speed."""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial

from lmtrain.cli.arguments import parse
from lmtrain.program.command import run

EXAMPLE = """example:  python scripts/check_gpu.py | tee gpu.txt

The exit status is 1 if something is wrong. The speeds are those of steps alone, without text, validations and saving;
`nn.LSTM in float32, as in Flair` does what a step of Flair's trainer does."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default, text in (
        ("hidden-size", 1024, "H"),
        ("length", 250, "T, characters of a window"),
        ("lanes", 100, "B"),
        ("steps", 20, "how many are timed"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default: %(default)s)")
    options = parse(parser, arguments)

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as in training, before CUDA starts
    from lmtrain.cli.gpu_check import Size, check_gpu

    wrong = []
    for finding in check_gpu(Size(options.hidden_size, options.length, options.lanes, options.steps)):
        mark = {True: "right", False: "WRONG", None: ""}[finding.is_right]
        print(f"{mark:5}  {finding.name:32}  {finding.text}", flush=True)
        if finding.is_right is False:
            wrong.append(finding.name)
    print(f"\nVerdict: {'something is WRONG: ' + ', '.join(wrong) if wrong else 'all is right'}.")
    print(
        "No GPU has been seen with lmtrain by its authors yet: please send these lines in an issue, whatever they say."
    )
    if wrong:
        sys.exit(1)


command = partial(run, main)

if __name__ == "__main__":
    sys.exit(command())
