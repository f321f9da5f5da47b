"""The settings that all model files hold beside weights and dictionary; checks them and assembles a model."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

import torch
from torch import Tensor

from lmtrain.data.dictionary import Dictionary
from lmtrain.errors import UserError
from lmtrain.model.cells import CELLS
from lmtrain.model.language_model import LanguageModel, RecurrentLM, Sizes, parameter_shapes

SIZES = tuple(field.name for field in fields(Sizes) if field.name != "vocabulary_size")  # that is the dictionary's


def settings_of(language_model: LanguageModel) -> dict[str, Any]:
    """The values of all `SETTINGS` of a model."""
    sizes = asdict(language_model.model.sizes)
    return {
        **{name: sizes[name] for name in SIZES},
        "is_forward_lm": language_model.is_forward_lm,
        "document_delimiter": language_model.document_delimiter,
        "level": language_model.level,
        "has_decoder": language_model.model.decoder is not None,
    }


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_share(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= 1


_SIZE = (_is_size, "a whole number above 0")
_BOOLEAN = (lambda value: type(value) is bool, "True or False")
SETTINGS = {
    "hidden_size": _SIZE,
    "nlayers": _SIZE,
    "embedding_size": _SIZE,
    "nout": (lambda value: value is None or _is_size(value), "a whole number above 0 or None"),
    "dropout": (_is_share, "a number from 0 to 1"),
    "recurrent_type": (lambda value: type(value) is str and value.upper() in CELLS, f"one of {', '.join(CELLS)}"),
    "has_decoder": _BOOLEAN,
    "is_forward_lm": _BOOLEAN,
    "document_delimiter": (lambda value: type(value) is str, "a text"),
    "level": (lambda value: value in ("character", "word"), "character or word"),
}
"""By name: a function that tells whether a value is valid, and what is required."""


def wrong_settings(settings: Mapping[str, Any]) -> list[str]:
    """A sentence for each value that is not valid: "nlayers is 0; a whole number above 0 is required."."""
    return [
        f"{name} is {reprlib.repr(settings.get(name))}; {required} is required."
        for name, (fits, required) in SETTINGS.items()
        if not fits(settings.get(name))
    ]


def assembled(settings: Mapping[str, Any], dictionary: Dictionary, weights: Mapping[str, Tensor]) -> LanguageModel:
    """A model in eval mode whose weights are these tensors, not copies.

    Args:
        settings: a valid value for each of `SETTINGS`.
        dictionary: the items.
        weights: by their names; those of a decoder are ignored if the settings have none.

    Raises:
        UserError: the weights are not those of such a model, which is found before any memory is allocated.
    """
    sizes = Sizes(len(dictionary), **{name: settings[name] for name in SIZES})
    _check_shapes(weights, _expected_shapes(sizes, settings["has_decoder"], len(weights)))
    with torch.device(
        "meta"
    ):  # without drawing random numbers, which would change those of a seeded run in another thread
        model = RecurrentLM(sizes, settings["has_decoder"])
    model.load_state_dict({name: weights[name] for name in model.state_dict()}, assign=True)
    about_text = (settings[name] for name in ("is_forward_lm", "document_delimiter", "level"))
    return LanguageModel(model.requires_grad_(True).eval(), dictionary, *about_text)


def _expected_shapes(sizes: Sizes, has_decoder: bool, tensors: int) -> dict[str, tuple[int, ...]]:
    """As `parameter_shapes`, but refuses more layers than a file's tensors can make up."""
    try:
        of_one_layer = parameter_shapes(replace(sizes, nlayers=1), has_decoder)
        in_a_layer = sum(name.startswith("rnn.") for name in of_one_layer)
        if in_a_layer * sizes.nlayers > tensors:
            raise UserError(
                f"Its nlayers is {reprlib.repr(sizes.nlayers)}, but it has only {tensors} tensors, too few for that."
            )
        return parameter_shapes(sizes, has_decoder)
    except OverflowError:
        numbers = ", ".join(f"{name}={reprlib.repr(getattr(sizes, name))}" for name in SIZES)
        raise UserError(f"Its sizes ({numbers}) are too large for any model.") from None


def _check_shapes(weights: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    missing = [name for name in expected if name not in weights]
    if missing:
        raise UserError(f"It lacks the weights {', '.join(missing)}.")
    unknown = [name for name in weights if name not in expected and not name.startswith("decoder.")]
    if unknown:
        raise UserError(f"It has weights that a model of its settings lacks, for example {reprlib.repr(unknown[0])}.")
    for name, shape in expected.items():
        found = tuple(weights[name].shape)
        if found != shape:
            raise UserError(
                f"Its weight {name} has the shape {found}, but its dictionary and sizes require {reprlib.repr(shape)}; "
                "its parts do not belong together."
            )
