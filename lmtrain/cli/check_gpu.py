"""Checks in a minute whether the GPU of this machine trains correctly: types, gradients, repeatability, speed."""

import os
import sys
from dataclasses import dataclass
from typing import Annotated

from lmtrain.cli.arguments import Command, Option, Range

EXAMPLES = """example:  python scripts/check_gpu.py | tee gpu.txt

The exit status is 1 if something is wrong. The speeds are those of training steps alone, without reading text,
validating and saving. `nn.LSTM in float32, as in Flair` does what a step of Flair's trainer does."""


@dataclass(frozen=True, kw_only=True)
class Options:
    hidden_size: Annotated[int, Option("H, hidden size of the model", "N", Range(1))] = 1024
    length: Annotated[int, Option("T, length of a window in characters", "N", Range(1))] = 250
    lanes: Annotated[int, Option("B, number of lanes", "N", Range(1))] = 100
    steps: Annotated[int, Option("number of steps that are timed", "N", Range(1))] = 20


def main(options: Options) -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as in training, before CUDA starts
    from lmtrain.cli.gpu_measurements import Size, check_gpu

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


command = Command(main, Options, EXAMPLES)
