#!/usr/bin/env python
"""Writes a trained model in another form: Flair's, safetensors with JSON, ONNX, or a folder to publish."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lmtrain.cli.arguments import parse
from lmtrain.errors import UserError
from lmtrain.program.command import check_outputs, run
from lmtrain.program.files import is_stream

EXAMPLE = """example:  python scripts/export.py runs/small-demo-forward/best-lm.pt --format safetensors \\
              --output my-model.safetensors

flair         the file that Flair's LanguageModel.load_language_model and FlairEmbeddings read
safetensors   weights in FILE, everything else in the .json file beside it; the other scripts and
              lmtrain.model_files.export.load_safetensors(FILE) read it
onnx          ids and hidden states in, embeddings, logits and hidden states out; needs pip install 'lmtrain[onnx]'
hub           a folder for the Hugging Face Hub: the model in Flair's form and as safetensors, the model card and the
              curves of its run (docs/publishing.md)"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", help="best-lm.pt, or a .safetensors file that this script wrote")
    parser.add_argument("--format", choices=["flair", "safetensors", "onnx", "hub"], required=True, help="see below")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="where to write; hub: a folder")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE, or the folder, if it exists")
    options = parse(parser, arguments)
    if options.format == "hub":
        from lmtrain.program.time_left import time_left
        from lmtrain.runs.publishing import STEPS, write_hub_folder

        with time_left("Writing", STEPS) as advance:
            write_hub_folder(Path(options.model), options.output, options.overwrite, partial(advance, 1))
        if not (options.output / "best-lm.pt").exists():
            print("Without best-lm.pt: Flair does not have the model's recurrent cell.", file=sys.stderr)
        print(options.output)
        return
    written = [options.output]
    if options.format == "safetensors":
        if options.output.suffix != ".safetensors":
            raise UserError(f"--output is {options.output}; with --format safetensors it must end in .safetensors.")
        written.append(options.output.with_suffix(".json"))
    check_outputs(*written, overwrite=options.overwrite)

    from lmtrain.model_files.export import load_model, save_onnx, save_safetensors
    from lmtrain.model_files.flair import save_language_model
    from lmtrain.program.time_left import time_left

    difference = None
    with time_left("Exporting", 2) as advance:
        language_model = load_model(options.model)
        advance(1)
        if options.format == "flair":
            save_language_model(language_model, options.output)
        elif options.format == "safetensors":
            save_safetensors(language_model, options.output)
        else:
            difference = save_onnx(language_model, options.output)
        advance(1)
    if options.format == "onnx":
        if difference is None:
            print("Not compared with PyTorch: onnxruntime is not installed.", file=sys.stderr)
        else:
            print(f"onnxruntime and PyTorch differ by {difference:.1e} at most.", file=sys.stderr)
    print(" and ".join(map(str, written)), file=sys.stderr if is_stream(options.output) else sys.stdout)


command = partial(run, main)

if __name__ == "__main__":
    sys.exit(command())
