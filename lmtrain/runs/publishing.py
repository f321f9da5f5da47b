"""Makes a folder of a run's model that can be uploaded to the Hugging Face Hub as it is."""

import shutil
from collections.abc import Callable
from pathlib import Path

from lmtrain.errors import raise_if_any
from lmtrain.model_files.export import check_finite, save_safetensors
from lmtrain.model_files.flair import load_language_model
from lmtrain.program.command import interrupt_deferred
from lmtrain.program.files import unfinished_folder
from lmtrain.runs.curves import extreme, read_metrics
from lmtrain.runs.run_folder import RunFolder

FILES = ("README.md", "report.png", "best-lm.pt", "model.safetensors", "model.json")
"""The model card and its curves (of runs with logger=csv); the model for Flair, if Flair has its recurrent cell; the
model for lmtrain without pickles, weights and settings."""

STEPS = 3
"""How often `write_hub_folder` calls `advance`: the model is read, copied, and written without pickles."""


def write_hub_folder(
    model: Path, output: Path, overwrite: bool = False, advance: Callable[[], object] = lambda: None
) -> None:
    """Writes a folder with FILES, which appears whole or not at all.

    Args:
        model: the `best-lm.pt` of a run that has ended, in its run folder, or that folder.
        output: the folder to make; it may exist if it is empty.
        overwrite: replace a folder of FILES.
        advance: called after each of STEPS.

    Raises:
        UserError: the run has no model card of this model, or the output has other files.
    """
    model = model / "best-lm.pt" if model.is_dir() else model
    raise_if_any([*_problems_of_run(model), *_problems_of_output(output, overwrite)])
    language_model = load_language_model(model)
    check_finite(language_model, model)
    advance()
    output.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(output) as place:
        folder = Path(place, output.name)  # others may read it, unlike the temporary folder
        folder.mkdir()
        for name in ("README.md", "report.png"):
            if model.with_name(name).is_file():
                shutil.copyfile(model.with_name(name), folder / name)
        if language_model.model.sizes.cell.is_in_flair:
            shutil.copyfile(model, folder / "best-lm.pt")
        advance()
        save_safetensors(language_model, folder / "model.safetensors")
        advance()
        with interrupt_deferred():
            if output.exists():
                output.rename(Path(place, "replaced"))
            folder.rename(output)


def _problems_of_run(model: Path) -> list[str]:
    folder = RunFolder(model.parent)
    missing = [name for name in (model.name, "README.md") if not (folder.path / name).is_file()]
    if missing:
        return [
            f"{folder.path} has no {', '.join(missing)}. Give the best-lm.pt in the folder of a run that has ended: "
            "the model card is written at the end."
        ]
    written = (folder.read_results() or {}).get("val/loss")
    best = extreme(read_metrics(folder.path / "metrics.csv"), "val/loss")
    if written is not None and best is not None and best < written * (1 - 1e-6):  # in float32
        return [
            f"{folder.path / 'README.md'} is not about this model: the run has gone on since, from validation loss "
            f"{written:.4f} to {best:.4f}. Let the run end, which writes the model card."
        ]
    return []


def _problems_of_output(output: Path, overwrite: bool) -> list[str]:
    if not output.exists():
        return []
    if not output.is_dir():
        return [f"--output {output} is a file; with --format hub it must name a folder."]
    found = sorted(path.name for path in output.iterdir())
    others = [name for name in found if name not in FILES]
    if others:
        return [
            f"--output {output} has other files than a model folder: {', '.join(others[:5])}. Choose another folder."
        ]
    if found and not overwrite:
        return [f"--output {output} exists. Choose another folder, or replace it with --overwrite."]
    return []
