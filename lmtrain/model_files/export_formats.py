"""The formats in which a model is exported; each is a class and its entry in `EXPORT_FORMATS`."""

from pathlib import Path
from typing import TYPE_CHECKING

from lmtrain.model_files.export_format import ExportFormat

if TYPE_CHECKING:
    from lmtrain.model.language_model import LanguageModel


class Flair(ExportFormat):
    name = "flair"
    help = "the file that Flair's LanguageModel.load_language_model and FlairEmbeddings read"

    def write(self, language_model: "LanguageModel", path: Path) -> None:
        from lmtrain.model_files.flair import save_language_model

        save_language_model(language_model, path)


class Safetensors(ExportFormat):
    name = "safetensors"
    help = (
        "weights in FILE, everything else in the .json file beside it; the other scripts and lmtrain.load(FILE) in "
        "Python read it"
    )
    suffix = ".safetensors"

    def files(self, path: Path) -> list[Path]:
        return [*super().files(path), path.with_suffix(".json")]

    def write(self, language_model: "LanguageModel", path: Path) -> None:
        from lmtrain.model_files.export import save_safetensors

        save_safetensors(language_model, path)


class Onnx(ExportFormat):
    name = "onnx"
    help = "ids and hidden states in, embeddings, logits and hidden states out; needs pip install 'lmtrain[onnx]'"

    def write(self, language_model: "LanguageModel", path: Path) -> str:
        from lmtrain.model_files.export import save_onnx

        difference = save_onnx(language_model, path)
        if difference is None:
            return "Not compared with PyTorch: onnxruntime is not installed."
        return f"onnxruntime and PyTorch differ by {difference:.1e} at most."


EXPORT_FORMATS = {form.name: form for form in (Flair(), Safetensors(), Onnx())}
"""By their names for `--format`."""
