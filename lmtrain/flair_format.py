"""Flair's model files, written and read without Flair being installed, and without running what is in them."""

import pickle
import sys
import threading
import types
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lmtrain.dictionary import Dictionary
from lmtrain.errors import UserError
from lmtrain.files import replacing
from lmtrain.model import CharLM, LanguageModel


def save_language_model(language_model: LanguageModel, path: str | Path) -> None:
    """Writes a file that Flair's `LanguageModel.load_language_model` and `FlairEmbeddings` read.

    Pickle protocol 4 as Flair writes it; the one key that Flair does not know, `lmtrain`, it ignores.
    """
    model = language_model.model
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    with _flair_dictionary_class() as flair_dictionary, replacing(path) as unfinished:
        content = {
            "state_dict": OrderedDict(weights),
            "dictionary": _to_flair(language_model.dictionary, flair_dictionary),
            "is_forward_lm": language_model.is_forward_lm,
            "hidden_size": model.hidden_size,
            "nlayers": model.nlayers,
            "embedding_size": model.embedding_size,
            "nout": model.nout,
            "document_delimiter": language_model.document_delimiter,
            "dropout": model.dropout,
            "recurrent_type": model.recurrent_type,
            "has_decoder": model.decoder is not None,
            "lmtrain": {"level": language_model.level},
        }
        torch.save(content, unfinished, pickle_protocol=4)


def _to_flair(dictionary: Dictionary, flair_dictionary: type) -> Any:
    items = [item.encode("utf-8", "surrogateescape") for item in dictionary.items]
    result = flair_dictionary.__new__(flair_dictionary)
    result.item2idx = {item: index for index, item in enumerate(items)}
    result.idx2item = items
    result.add_unk = dictionary.has_unk
    result.multi_label = False
    result.span_labels = False
    return result


_flair_module_lock = threading.Lock()


@contextmanager
def _flair_dictionary_class() -> Iterator[type]:
    """A class that pickles as `flair.data.Dictionary`; Flair's own modules, if loaded, are put back after."""
    cls = type("Dictionary", (), {"__module__": "flair.data"})
    with _flair_module_lock:
        loaded = {name: sys.modules.get(name) for name in ("flair", "flair.data")}
        package, module = types.ModuleType("flair"), types.ModuleType("flair.data")
        package.data, module.Dictionary = module, cls
        sys.modules.update({"flair": package, "flair.data": module})
        try:
            yield cls
        finally:
            for name, original in loaded.items():
                if original is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = original


def load_language_model(path: str | Path, map_location: str = "cpu") -> LanguageModel:
    """Reads a model that Flair or lmtrain wrote.

    Raises:
        UserError: the file is missing, is not such a file, or asks for a global that is not allowed.
    """
    try:
        content = torch.load(path, map_location=map_location, pickle_module=_RestrictedPickle, weights_only=False)
    except OSError as error:
        raise UserError(f"The model {path} cannot be read: {error.strerror}.") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise UserError(f"{path} is not a model that can be read: {error}") from None
    flair_dictionary = content["dictionary"]
    dictionary = Dictionary(item.decode("utf-8", "surrogateescape") for item in flair_dictionary.idx2item)
    weights = content["state_dict"]
    model = CharLM(
        vocabulary_size=len(dictionary),
        hidden_size=content["hidden_size"],
        nlayers=content["nlayers"],
        embedding_size=content["embedding_size"],
        nout=content["nout"],
        dropout=content["dropout"],
        recurrent_type=content.get("recurrent_type", "LSTM"),
        has_decoder="decoder.weight" in weights,
    )
    model.load_state_dict(weights)
    return LanguageModel(
        model=model.eval(),
        dictionary=dictionary,
        is_forward_lm=content["is_forward_lm"],
        document_delimiter=content.get("document_delimiter", "\n"),
        level=content.get("lmtrain", {}).get("level", "character"),
    )


class _FlairDictionary:
    """What a pickled `flair.data.Dictionary` becomes: its attributes, nothing else."""


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("flair.data", "Dictionary"):
            return _FlairDictionary
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed in a model file")


_ALLOWED = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch", "FloatStorage"),
}


class _RestrictedPickle:
    """What torch.load needs of a `pickle_module`."""

    Unpickler = _RestrictedUnpickler
    __name__ = "lmtrain.flair_format"

    @staticmethod
    def load(file, **options) -> Any:
        return _RestrictedUnpickler(file, **options).load()
