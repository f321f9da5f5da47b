"""Converts a trained model: to Flair's format, safetensors with JSON, ONNX, or a folder to publish."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Annotated, Literal

from lmtrain.cli.arguments import MODEL, Command, Option
from lmtrain.model_files.export_formats import EXPORT_FORMATS
from lmtrain.program.command import check_outputs
from lmtrain.program.files import is_stream

_HUB = (
    "a folder for the Hugging Face Hub: the model in Flair's form and as safetensors, the model card and the curves of "
    "its run (docs/publishing.md)"
)
_ALL = {name: form.help for name, form in EXPORT_FORMATS.items()} | {"hub": _HUB}
EXAMPLES = """example:  python scripts/export.py runs/small-demo-forward/best-lm.pt --format safetensors \\
              --output my-model.safetensors

""" + "\n".join(
    fill(text, 118, initial_indent=f"{name:<14}", subsequent_indent=14 * " ") for name, text in _ALL.items()
)


@dataclass(frozen=True, kw_only=True)
class Options:
    model: Annotated[str, MODEL]
    format: Annotated[Literal[tuple(_ALL)], Option("see below")]  # type: ignore[valid-type]
    output: Annotated[Path, Option("output file; for hub, a folder", "FILE")]
    overwrite: Annotated[bool, Option("replace FILE, or the folder, if it exists")] = False


def main(options: Options) -> None:
    if options.format == "hub":
        from lmtrain.program.time_left import time_left
        from lmtrain.runs.publishing import STEPS, write_hub_folder

        with time_left("Writing", STEPS) as advance:
            write_hub_folder(Path(options.model), options.output, options.overwrite, partial(advance, 1))
        if not (options.output / "best-lm.pt").exists():
            print("Without best-lm.pt: Flair does not have the model's recurrent cell.", file=sys.stderr)
        print(options.output)
        return
    form = EXPORT_FORMATS[options.format]
    written = form.files(options.output)
    check_outputs(*written, overwrite=options.overwrite)

    from lmtrain.model_files.export import load_model
    from lmtrain.program.time_left import time_left

    with time_left("Exporting", 2) as advance:
        language_model = load_model(options.model)
        advance(1)
        remark = form.write(language_model, options.output)
        advance(1)
    if remark:
        print(remark, file=sys.stderr)
    print(" and ".join(map(str, written)), file=sys.stderr if is_stream(options.output) else sys.stdout)


command = Command(main, Options, EXAMPLES)
