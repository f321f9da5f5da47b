"""A run's model as a folder that the Hugging Face Hub takes as it is."""

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
"""The model card and, of runs with logger=csv, its curves; the model for Flair, if Flair has its cell; the same for
lmtrain, without pickles: weights, all the rest."""


STEPS = 3
"""How often `write_hub_folder` calls `advance`: the model is read, copied, and written without pickles."""


def write_hub_folder(
    model: Path, output: Path, overwrite: bool = False, advance: Callable[[], object] = lambda: None
) -> None:
    """Writes a folder with FILES, without curves if the run has none; it appears whole, or not at all.

    Args:
        model: the `best-lm.pt` of a run that has ended, in its run folder, or that folder.
        output: the folder, which must not exist or be empty.
        overwrite: replace a folder that this wrote before.
        advance: called after each of STEPS.

    Raises:
        UserError: the run has no model card, or not that of this model; the output is something else.
    """
    model = model / "best-lm.pt" if model.is_dir() else model
    raise_if_any([*_what_is_wrong_with_the_run(model), *_what_is_wrong_with_the_output(output, overwrite)])
    language_model = load_language_model(model)
    check_finite(language_model, model)
    advance()
    output.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(output) as place:
        folder = Path(place, output.name)  # its parent is for this user only; it is not
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


def _what_is_wrong_with_the_run(model: Path) -> list[str]:
    folder = RunFolder(model.parent)
    missing = [name for name in (model.name, "README.md") if not (folder.path / name).is_file()]
    if missing:
        return [
            f"{folder.path} has no {', '.join(missing)}. Give the best-lm.pt in the folder of a run that has ended: "
            "its model card is written then."
        ]
    written = (folder.read_results() or {}).get("val/loss")
    best = extreme(read_metrics(folder.path / "metrics.csv"), "val/loss")
    if written is not None and best is not None and best < written * (1 - 1e-6):  # in float32
        return [
            f"{folder.path / 'README.md'} is not about this model: the run has gone on since, from validation loss "
            f"{written:.4f} to {best:.4f}. Let it come to its end, which writes the model card."
        ]
    return []


def _what_is_wrong_with_the_output(output: Path, overwrite: bool) -> list[str]:
    if not output.exists():
        return []
    if not output.is_dir():
        return [f"--output {output} is a file; with --format hub it must name a folder."]
    found = sorted(path.name for path in output.iterdir())
    others = [name for name in found if name not in FILES]
    if others:
        return [
            f"--output {output} holds other things than this writes: {', '.join(others[:5])}. Choose another folder."
        ]
    if found and not overwrite:
        return [f"--output {output} exists. Choose another folder, or replace it with --overwrite."]
    return []
