"""The contents of model files in all formats, for tests that write files with something wrong in them."""

import sys
import tracemalloc
import types
from collections import OrderedDict
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch

from lmtrain.data.dictionary import Dictionary
from lmtrain.errors import UserError
from lmtrain.model.language_model import LanguageModel, RecurrentLM, Sizes
from lmtrain.model_files.flair import load_language_model

ITEMS = ("<unk>", "a", "b", "ä", "\n")


def make(items=ITEMS, has_decoder=True, **sizes):
    """A small model."""
    model = RecurrentLM(Sizes(len(items), **({"hidden_size": 4, "embedding_size": 3} | sizes)), has_decoder)
    return LanguageModel(model.eval(), Dictionary(items))


mappings = types.SimpleNamespace  # stands for a flair.data.Dictionary until `write`


def flair_content(language_model=None, **changes):
    """The content of a best-lm.pt of Flair."""
    language_model = language_model or make()
    sizes = language_model.model.sizes
    dictionary = mappings(
        idx2item=[item.encode() for item in language_model.dictionary.items],
        item2idx={item.encode(): index for index, item in enumerate(language_model.dictionary.items)},
    )
    content = {
        "state_dict": language_model.model.state_dict(),
        "dictionary": dictionary,
        "is_forward_lm": True,
        "hidden_size": sizes.hidden_size,
        "nlayers": sizes.nlayers,
        "embedding_size": sizes.embedding_size,
        "nout": sizes.nout,
        "document_delimiter": "\n",
        "dropout": 0.1,
        "recurrent_type": sizes.recurrent_type,
        "has_decoder": True,
    }
    return content | changes


@contextmanager
def flairs_dictionary():
    """A class that pickles as `flair.data.Dictionary`, since it stands there within the block."""
    cls = type("Dictionary", (), {"__module__": "flair.data"})
    module = types.ModuleType("flair.data")
    module.Dictionary = cls
    with patch.dict(sys.modules, {"flair": types.ModuleType("flair"), "flair.data": module}):
        yield cls


def write(content, path, archive=True):
    """torch.save in its present or its old format; `mappings` becomes a flair.data.Dictionary. Gives the path."""
    with flairs_dictionary() as flair_dictionary:
        if isinstance(content, dict) and isinstance(content.get("dictionary"), mappings):
            dictionary = flair_dictionary()
            dictionary.__dict__.update(content["dictionary"].__dict__)
            content = content | {"dictionary": dictionary}
        torch.save(content, path, pickle_protocol=4, _use_new_zipfile_serialization=archive)
    return path


def lightning_content(language_model):
    """The content of one of lmtrain's checkpoints."""
    model = language_model.model
    sizes = ("hidden_size", "nlayers", "embedding_size", "nout", "dropout", "recurrent_type")
    return {
        "pytorch-lightning_version": "2.6.6",
        "epoch": 3,
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1.0, "params": [0]}]}],
        "state_dict": OrderedDict(
            {f"model.{name}": tensor for name, tensor in model.state_dict().items()} | {"seen": torch.tensor(4)}
        ),
        "lmtrain": {
            "items": list(language_model.dictionary.items),
            "is_forward_lm": language_model.is_forward_lm,
            "document_delimiter": language_model.document_delimiter,
            "level": language_model.level,
            "model": {name: getattr(model.sizes, name) for name in sizes},
        },
    }


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments

    def __call__(self):
        """Only so that it may stand for a function, which comes of another call."""


def refused(path, load=load_language_model):
    """Asserts that a file is refused in one line that names it, and without taking memory; gives the line."""
    tracemalloc.start()
    with pytest.raises(UserError) as caught:
        load(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000
    (message,) = caught.value.problems
    assert "\n" not in message
    assert str(path) in message
    return message
