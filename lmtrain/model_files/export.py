"""Writes and reads models as safetensors with JSON, writes them as ONNX, and reads any model file (`load_model`)."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lmtrain.data.dictionary import Dictionary
from lmtrain.errors import UserError, raise_if_any
from lmtrain.model.language_model import LanguageModel, RecurrentLM
from lmtrain.model_files.flair import load_language_model
from lmtrain.model_files.settings import assembled, settings_of, wrong_settings
from lmtrain.program.files import atomic_write, one_writer

FORMAT = "lmtrain language model"


def settings_path(path: str | Path) -> Path:
    """The file of settings and dictionary of a `.safetensors` file: the `.json` file beside it."""
    return Path(path).with_suffix(".json")


def save_safetensors(language_model: LanguageModel, path: str | Path) -> None:
    """Writes the weights to `path` and everything else to `settings_path(path)`; simultaneous writers take turns.

    Raises:
        UserError: a weight is not finite.
    """
    from safetensors.torch import save

    check_finite(language_model, path)
    settings = {"format": FORMAT, "version": 1, **_settings(language_model)}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in language_model.model.state_dict().items()}
    text = json.dumps(settings, ensure_ascii=False, indent=0)
    with (
        one_writer(Path(path).parent),
        atomic_write(path) as unfinished,
        atomic_write(settings_path(path)) as unfinished_settings,
    ):
        # safetensors' own save_file makes files that only their owner may read
        unfinished.write_bytes(save(weights, {"format": "pt", "settings": _fingerprint(settings)}))
        unfinished_settings.write_text(text + "\n", encoding="utf-8", errors="surrogatepass")


def _settings(language_model: LanguageModel) -> dict[str, Any]:
    return {**settings_of(language_model), "items": list(language_model.dictionary.items)}


def _fingerprint(settings: dict[str, Any]) -> str:
    """A hash of everything but the weights."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def load_safetensors(path: str | Path) -> LanguageModel:
    """Reads a model that `save_safetensors` wrote.

    Raises:
        UserError: a file is missing or damaged, or the two do not belong together.
    """
    from safetensors import SafetensorError, safe_open

    settings = _read_settings(settings_path(path))
    try:
        dictionary = Dictionary(settings["items"])
    except UserError as error:
        raise UserError(f"{settings_path(path)}: {error}") from None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dict)
    except OSError as error:
        raise UserError(f"The model {path} cannot be read: {error.strerror or error}.") from None
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file, or is damaged: {error}.") from None
    try:
        language_model = assembled(settings, dictionary, weights)
    except UserError as error:
        raise UserError(f"The weights in {path} do not fit {settings_path(path)}: {error}") from None
    # earlier versions wrote a hash of the dictionary alone
    expected = _fingerprint(settings) if "settings" in metadata else dictionary.fingerprint
    if expected not in (metadata.get("settings"), metadata.get("dictionary")):
        raise UserError(
            f"{path} and {settings_path(path)} do not belong together: the settings are another model's, or were "
            "changed. Export the model again."
        )
    return language_model


def load_model(path: str | Path, map_location: str = "cpu", needs_decoder: str = "") -> LanguageModel:
    """Reads a model from any format that can be read: `.safetensors`, or else a file that torch.save wrote.

    Args:
        path: the file, or the folder of a run or for the Hugging Face Hub.
        map_location: the device to load to.
        needs_decoder: what the model must be able to do with a decoder, such as "be fine-tuned"; "" for nothing.

    Raises:
        UserError: the device cannot be used, a weight is not finite, a needed decoder is missing, or as
            `load_safetensors` and `flair.load_language_model`.
    """
    path = _file_in(Path(path))
    try:
        torch.empty(0, device=map_location)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"The device {map_location!r} cannot be used: {str(error).splitlines()[0]}") from None
    if path.suffix == ".onnx":
        raise UserError(
            f"{path} is ONNX, which other programs read; lmtrain reads .pt or .safetensors. Give the file that it was "
            "exported from."
        )
    language_model = load_safetensors(path) if path.suffix == ".safetensors" else load_language_model(path)
    language_model.model.to(map_location)
    check_finite(language_model, path)
    if needs_decoder and language_model.model.decoder is None:
        raise UserError(
            f"{path}: It has no decoder, so it can embed but not {needs_decoder}; give the file that its training "
            "wrote (best-lm.pt or checkpoint.pt)."
        )
    return language_model


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_bytes().decode("utf-8", "surrogatepass"))
    except OSError as error:
        raise UserError(f"The model's settings {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(f"{path} is not a model's settings: {error}.") from None
    if not isinstance(settings, dict) or settings.get("format") != FORMAT or settings.get("version") != 1:
        raise UserError(f'{path} is not a model\'s settings: "format" must be "{FORMAT}" and "version" 1.')
    wrong = [f"{path}: {problem}" for problem in wrong_settings(settings)]
    items = settings.get("items")
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        wrong.append(f"{path}: items must be a list of strings.")
    raise_if_any(wrong)
    return settings


_IN_FOLDERS = ("best-lm.pt", "model.safetensors")


def _file_in(path: Path) -> Path:
    """The model's file: the path itself, or a file in this folder."""
    if not path.is_dir():
        return path
    found = [path / name for name in _IN_FOLDERS if (path / name).is_file()]
    if not found:
        unfinished = path / "checkpoints" / "last.ckpt"
        remedy = (
            f"The run has saved no best model yet; its last checkpoint is {unfinished}."
            if unfinished.is_file()
            else "Give the folder of a run, one that `--format hub` wrote, or a model's file."
        )
        raise UserError(f"The folder {path} has neither {' nor '.join(_IN_FOLDERS)}. {remedy}")
    return found[0]


class Difference(NamedTuple):
    """The largest difference between two programs' outputs.

    Args:
        absolute: in the outputs' own units.
        relative: to the largest number of the same output.
    """

    absolute: float
    relative: float


def save_onnx(language_model: LanguageModel, path: str | Path) -> float | None:
    """Writes an ONNX model (opset 17) and compares it with PyTorch, if onnxruntime is installed.

    The graph has ONNX's LSTM or GRU operators, or what `CELLS` has for other cells; time T and batch B may vary.

    | input | type, shape | output | type, shape |
    |---|---|---|---|
    | `ids` | int64 `(T, B)` | `output`, the embeddings | float32 `(T, B, D)` |
    | `h` | float32 `(L, B, H)` | `logits`, if there is a decoder | float32 `(T, B, V)` |
    | `c` (of an LSTM) | float32 `(L, B, H)` | `h_last`, `c_last` | as `h`, `c` |

    The file's metadata hold the settings and the dictionary as JSON under `lmtrain`.

    Returns:
        the largest absolute difference to PyTorch's outputs; None if onnxruntime is not installed.

    Raises:
        UserError: onnx is not installed, a weight or an output is not finite, or onnxruntime's outputs differ.
    """
    try:
        import onnx
    except ImportError:
        raise UserError("Exporting to ONNX needs the package onnx: pip install 'lmtrain[onnx]'.") from None
    from lmtrain.model_files.onnx_graph import build

    check_finite(language_model, path)
    with atomic_write(path) as unfinished:
        onnx.save_model(build(language_model.model, json.dumps(_settings(language_model))), str(unfinished))
        difference = _difference_to_torch(language_model.model, unfinished)
        if difference is not None and not difference.relative < 1e-4:
            raise UserError(
                f"onnxruntime's outputs differ from PyTorch's by {difference.absolute:.2g}, that is "
                f"{difference.relative:.2g} of the largest, or are not finite; {path} is not written."
            )
    return None if difference is None else difference.absolute


def _difference_to_torch(model: RecurrentLM, path: Path) -> Difference | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    differences = []
    for steps, batch in ((1, 1), (17, 3)):
        ids = torch.randint(model.sizes.vocabulary_size, (steps, batch), generator=generator)
        hidden = tuple(part.uniform_(-0.5, 0.5, generator=generator) for part in model.zero_hidden(batch))
        with torch.no_grad():
            output, last = model(ids, hidden)
            expected = [output, *([] if model.decoder is None else [model.decoder(output)]), *last]
        states = zip(model.sizes.cell.states, hidden, strict=True)
        inputs = {"ids": ids.numpy(), **{name: part.numpy() for name, part in states}}
        actual = session.run(None, inputs)
        differences += [difference_of(one.numpy(), other) for one, other in zip(expected, actual, strict=True)]
    # np.max gives NaN if there is one; max may not
    return Difference(*(float(np.max(column)) for column in zip(*differences, strict=True)))


def difference_of(expected: np.ndarray, actual: np.ndarray) -> Difference:
    """The largest difference between two arrays of one shape; NaN if a number in them is not finite."""
    if not (np.isfinite(expected).all() and np.isfinite(actual).all()):
        return Difference(math.nan, math.nan)
    absolute = float(np.abs(expected.astype(np.float64) - actual).max())
    largest = float(np.abs(expected).max())
    return Difference(absolute, absolute / largest if largest else math.inf if absolute else 0.0)


def check_finite(language_model: LanguageModel, path: str | Path) -> None:
    """Raises `UserError`, which names the file, if a weight of the model is NaN or infinite."""
    wrong = [name for name, tensor in language_model.model.state_dict().items() if not tensor.isfinite().all()]
    if wrong:
        raise UserError(
            f"{path}: the model's weights {', '.join(wrong)} have numbers that are not finite. The file is damaged, or "
            "its run diverged; take another, or train again with a smaller learning rate."
        )
