"""Writes a trained model in another form: Flair's, safetensors with JSON, ONNX, or a folder to publish."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from lmtrain.cli.arguments import MODEL, Command, Option
from lmtrain.errors import UserError
from lmtrain.program.command import check_outputs
from lmtrain.program.files import is_stream

EXAMPLES = """example:  python scripts/export.py runs/small-demo-forward/best-lm.pt --format safetensors \\
              --output my-model.safetensors

flair         the file that Flair's LanguageModel.load_language_model and FlairEmbeddings read
safetensors   weights in FILE, everything else in the .json file beside it; the other scripts and
              lmtrain.load(FILE) in Python read it
onnx          ids and hidden states in, embeddings, logits and hidden states out; needs pip install 'lmtrain[onnx]'
hub           a folder for the Hugging Face Hub: the model in Flair's form and as safetensors, the model card and the
              curves of its run (docs/publishing.md)"""


@dataclass(frozen=True, kw_only=True)
class Options:
    model: Annotated[str, MODEL]
    format: Annotated[Literal["flair", "safetensors", "onnx", "hub"], Option("see below")]
    output: Annotated[Path, Option("where to write; hub: a folder", "FILE")]
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


command = Command(main, Options, EXAMPLES)
