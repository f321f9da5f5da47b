"""Writes and reads Flair's files of models and dictionaries without Flair, and without running code in them."""

import os
import pickle
import reprlib
import types
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmtrain.data.dictionary import Dictionary
from lmtrain.errors import UserError, raise_if_any
from lmtrain.model.cells import why_not_in_flair
from lmtrain.model.language_model import LanguageModel
from lmtrain.model_files.checkpoint_version import check_version
from lmtrain.model_files.safe_pickle import NOT_IN_FLAIR, FlairDictionary, read_pickle
from lmtrain.model_files.settings import SETTINGS, SIZES, assembled, settings_of, wrong_settings
from lmtrain.model_files.torch_file import read_torch_file
from lmtrain.program.files import atomic_write


def save_language_model(language_model: LanguageModel, path: str | Path) -> None:
    """Writes a file that Flair's `LanguageModel.load_language_model` and `FlairEmbeddings` read.

    It is pickle protocol 4, as in Flair's own files. Flair ignores the additional key `lmtrain`.

    Raises:
        UserError: Flair does not have the model's recurrent cell.
    """
    if reason := why_not_in_flair(language_model.model.sizes.recurrent_type):
        raise UserError(reason)
    model, sizes = language_model.model, language_model.model.sizes
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    content = {
        "state_dict": OrderedDict(weights),
        "dictionary": _to_flair(language_model.dictionary),
        "is_forward_lm": language_model.is_forward_lm,
        "hidden_size": sizes.hidden_size,
        "nlayers": sizes.nlayers,
        "embedding_size": sizes.embedding_size,
        "nout": sizes.nout,
        "document_delimiter": language_model.document_delimiter,
        "dropout": sizes.dropout,
        "recurrent_type": sizes.recurrent_type,
        "has_decoder": model.decoder is not None,
        "lmtrain": {"level": language_model.level},
    }
    _write(content, path)


def save_for_lmtrain(language_model: LanguageModel, path: str | Path) -> None:
    """Writes a file that `load_language_model` reads and Flair refuses, for any recurrent cell.

    Flair could otherwise take an unknown cell for another one with weights of the same shapes.
    """
    settings = settings_of(language_model)
    content = {
        "state_dict": {f"model.{name}": weight.cpu() for name, weight in language_model.model.state_dict().items()},
        "dictionary": _NotInFlair,
        "lmtrain": {
            **{name: value for name, value in settings.items() if name not in SIZES},
            "items": list(language_model.dictionary.items),
            "model": {name: settings[name] for name in SIZES},
        },
    }
    _write(content, path)


def _write(content: dict[str, Any], path: str | Path) -> None:
    with (
        atomic_write(path) as unfinished,
        unfinished.open("wb") as file,
    ):  # given a path, torch would write its name into the file
        torch.save(content, file, pickle_module=_pickling, pickle_protocol=4)


def save_dictionary_for_flair(dictionary: Dictionary, path: str | Path) -> None:
    """Writes the pickle that Flair's `Dictionary.load_from_file` reads."""
    items = _to_bytes(dictionary.items)
    content = {"idx2item": items, "item2idx": {item: index for index, item in enumerate(items)}}
    with atomic_write(path) as unfinished, unfinished.open("wb") as file:
        pickle.dump(content, file, protocol=4)


def _to_flair(dictionary: Dictionary) -> Any:
    items = _to_bytes(dictionary.items)
    result: Any = _FlairsDictionary()
    result.item2idx = {item: index for index, item in enumerate(items)}
    result.idx2item = items
    result.add_unk = dictionary.has_unk
    result.multi_label = False
    result.span_labels = False
    return result


def _to_bytes(items: Iterable[str]) -> list[bytes]:
    """Items in UTF-8, as Flair has them; the surrogates that `_to_text` makes of other bytes become these again."""

    def encode(item: str) -> bytes:
        try:
            return item.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # a lone surrogate, from a damaged text
            return item.encode("utf-8", "surrogatepass")

    return [encode(item) for item in items]


class _FlairsDictionary:
    """Pickled under the name of `flair.data.Dictionary`."""


class _NotInFlair:
    """Pickled under a name that cannot be imported, see `safe_pickle.NOT_IN_FLAIR`."""


_NAMES = {_FlairsDictionary: ("flair.data", "Dictionary"), _NotInFlair: NOT_IN_FLAIR}


_PicklersBase: Any = pickle._Pickler  # the one in C writes only names that it can import


class _Pickler(_PicklersBase):
    """Pickles the classes above under their `_NAMES`, without renaming them, which other threads would see."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if obj not in _NAMES:
            super().save_global(obj, name)
            return
        for part in _NAMES[obj]:
            self.save(part)
        self.write(pickle.STACK_GLOBAL)
        self.memoize(obj)


# the attributes of `pickle_module` that torch.save uses
_pickling = types.SimpleNamespace(__name__=__name__, Pickler=_Pickler)


def load_language_model(path: str | Path, map_location: str = "cpu") -> LanguageModel:
    """Reads a model: Flair's `best-lm.pt`, `checkpoint.pt` or `epoch_N.pt` of any age, ours, or a Lightning checkpoint.

    Weights become float32 whatever they were stored as. `model.decoder` is None if the file has none.

    Args:
        path: the file.
        map_location: the device to put the model on.

    Raises:
        UserError: the file is missing, damaged or not such a file, asks for a global that is not allowed, or its parts
            do not fit together.
    """
    content = read_torch_file(path)
    try:
        weights, dictionary, settings = _parts(content)
        if sum(tensor.nbytes for tensor in weights.values()) > os.path.getsize(path):
            raise UserError("Its tensors share storage, so that they are larger than the file; a model's never do.")
        copies = {name: tensor.to(torch.float32, copy=True).contiguous() for name, tensor in weights.items()}
        language_model = assembled(settings, dictionary, copies)
    except UserError as error:
        raise UserError(*(f"{path}: {problem}" for problem in error.problems)) from None
    language_model.model.to(map_location)
    return language_model


def load_dictionary(path: str | Path) -> Dictionary:
    """Reads a dictionary: the JSON that `Dictionary.save` writes or the pickle of Flair's `Dictionary.save`.

    Raises:
        UserError: the file is missing, damaged, neither of the two, or asks for a global that is not allowed.
    """
    try:
        with open(path, "rb") as file:
            beginning = file.read(64).lstrip()
    except OSError as error:
        raise UserError(f"The dictionary {path} cannot be read: {error.strerror or error}.") from None
    if beginning.startswith((b"{", b"[", b"\xef\xbb\xbf")):
        return Dictionary.load(path)
    if beginning.startswith(b"PK"):
        raise UserError(
            f"{path} is not a dictionary but an archive; init_from=<model> takes a model together with its dictionary."
        )
    content = read_pickle(path, "dictionary")
    try:
        return _from_flair(content)
    except UserError as error:
        raise UserError(*(f"{path}: {problem}" for problem in error.problems)) from None


# ----- what is in a file --------------------------------------------------------------------------------------


def _parts(content: Any) -> tuple[dict[str, Tensor], Dictionary, dict[str, Any]]:
    """The weights by Flair's names, the dictionary, and a value for each of `SETTINGS`."""
    if not isinstance(content, dict):
        raise UserError(f"It holds a {type(content).__name__}; a model file holds a dict.")
    ours = content.get("lmtrain", {})
    if not isinstance(ours, dict):
        raise UserError("Its entry lmtrain is not a dict.")
    if "items" in ours:
        return _our_parts(content, ours)
    _require(
        content, "state_dict", "dictionary", "is_forward_lm", *(name for name in SIZES if name != "recurrent_type")
    )
    weights = _weights(content["state_dict"])
    if not isinstance(content["dictionary"], FlairDictionary):
        found = type(content["dictionary"]).__name__
        raise UserError(f"Its dictionary is a {found}; a pickled flair.data.Dictionary is required.")
    dictionary = _from_flair(content["dictionary"].state)
    return weights, dictionary, _settings({**content, "level": ours.get("level", "character")}, weights)


def _our_parts(content: dict, ours: dict) -> tuple[dict[str, Tensor], Dictionary, dict[str, Any]]:
    """As `_parts`, of a Lightning checkpoint or a file of `save_for_lmtrain`.

    Weights are named `model.<name>`, and everything else is in the entry `lmtrain`.
    """
    check_version(ours)
    _require(content, "state_dict")
    _require(ours, "items", "is_forward_lm", "document_delimiter", "level", "model")
    items, sizes = ours["items"], ours["model"]
    if not (isinstance(items, list) and all(isinstance(item, str) for item in items)):
        raise UserError("Its items are not a list of strings.")
    if not isinstance(sizes, dict):
        raise UserError("Its entry model is not a dict.")
    _require(sizes, *SIZES)
    weights = _weights(content["state_dict"], "model.")
    has_decoder = "decoder.weight" in weights
    return weights, Dictionary(items), _settings({**ours, **sizes, "has_decoder": has_decoder}, weights)


def _require(entries: Mapping[str, Any], *names: str) -> None:
    missing = [name for name in names if name not in entries]
    if missing:
        raise UserError(f"It lacks {', '.join(missing)}, which a model file needs.")


def _weights(state_dict: Any, prefix: str = "") -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names."""
    if not isinstance(state_dict, dict):
        raise UserError(f"Its state_dict is a {type(state_dict).__name__}; a dict of tensors is required.")
    weights = {}
    for name, tensor in state_dict.items():
        if not isinstance(name, str) or not name.startswith(prefix):
            continue
        if not (isinstance(tensor, Tensor) and tensor.is_floating_point()):
            raise UserError(f"Its weight {reprlib.repr(name)} is not a tensor of floating-point numbers.")
        weights[name.removeprefix(prefix)] = tensor
    return weights


def _settings(entries: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """A valid value for each of `SETTINGS`; what older files lack has Flair's default."""
    defaults = {
        "recurrent_type": "LSTM",
        "has_decoder": "decoder.weight" in weights,
        "document_delimiter": "\n",
    }
    settings = {name: entries.get(name, defaults.get(name)) for name in SETTINGS}
    raise_if_any([f"Its {problem}" for problem in wrong_settings(settings)])
    return settings


def _from_flair(mapping: Any) -> Dictionary:
    """The dictionary in Flair's `idx2item` and `item2idx`, which must agree."""
    if isinstance(mapping, FlairDictionary):
        mapping = mapping.state
    if not isinstance(mapping, dict):
        raise UserError(f"It holds a {type(mapping).__name__}; a dictionary has idx2item and item2idx.")
    missing = [name for name in ("idx2item", "item2idx") if name not in mapping]
    if missing:
        raise UserError(f"The dictionary lacks {' and '.join(missing)}.")
    items, ids = mapping["idx2item"], mapping["item2idx"]
    if not (isinstance(items, list) and all(isinstance(item, bytes | str) for item in items)):
        raise UserError("The dictionary's idx2item is not a list of bytes or strings.")
    dictionary = Dictionary(map(_to_text, items))
    if not isinstance(ids, dict):
        raise UserError(f"The dictionary's item2idx is a {type(ids).__name__}; a dict is required.")
    for index, item in enumerate(items):
        if type(ids.get(item)) is not int or ids[item] != index:
            raise UserError(
                f"The dictionary's item {reprlib.repr(item)} is number {index} in idx2item "
                f"but {reprlib.repr(ids.get(item))} in item2idx; both must agree."
            )
    if len(ids) != len(items):
        raise UserError(f"The dictionary has {len(items)} items in idx2item, {len(ids)} in item2idx; both must agree.")
    return dictionary


def _to_text(item: bytes | str) -> str:
    """An item of Flair as text; bytes that are not UTF-8 become lone surrogates, which `_to_bytes` turns back."""
    return item.decode("utf-8", "surrogateescape") if isinstance(item, bytes) else item
