"""Generates text with a trained model."""

import math
import sys
from dataclasses import dataclass
from typing import Annotated

from lmtrain.cli.arguments import MODEL, SEEDS, Command, Device, Option, Precision, Range
from lmtrain.program.plain_json import to_json
from lmtrain.program.shell import unescaped

EXAMPLES = r"""example:  python scripts/generate.py runs/small-demo-forward/best-lm.pt --prefix "The " --length 300

Texts are printed to standard output, and their mean negative log-probabilities to standard error. In --prefix and
--stop, \n means a line break and \t a tab."""


@dataclass(frozen=True, kw_only=True)
class Options:
    model: Annotated[str, MODEL]
    prefix: Annotated[
        str,
        Option("beginning of the text, or its end for a backward model (default: a line break)", "TEXT"),
    ] = r"\n"
    length: Annotated[
        int, Option("number of characters to generate, or words for a word model", "N", Range(1, 10**9))
    ] = 1000
    temperature: Annotated[
        float,
        Option(
            "below 1, the text is more predictable, above 1 more varied; 0 always takes the most probable item",
            "T",
            Range(0),
        ),
    ] = 1.0
    samples: Annotated[int, Option("number of texts", "N", Range(1, 10**6))] = 1
    stop: Annotated[
        str | None, Option("end a text as soon as this was generated (default: only at --length)", "TEXT")
    ] = None
    seed: Annotated[
        int | None, Option("the same seed gives the same texts (default: a new seed each time)", None, SEEDS)
    ] = None
    precision: Precision = "32"
    device: Device = "cpu"
    json: Annotated[bool, Option("print each text as JSON, with its negative_log_probability")] = False


def main(options: Options) -> None:
    prefix, stop = unescaped(options.prefix), unescaped(options.stop) if options.stop else None

    from lmtrain.inference.generation import generate, readable
    from lmtrain.model_files.export import load_model
    from lmtrain.program.time_left import time_left

    language_model = load_model(options.model, options.device, needs_decoder="generate text")
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


command = Command(main, Options, EXAMPLES)
