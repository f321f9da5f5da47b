"""Starting from a trained model: what comes along from it, what may not contradict it, and new characters for it."""

import copy
import hashlib
import os
import re
from collections import Counter
from collections.abc import Set
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from lmtrain.data.dictionary import UNK, Dictionary
from lmtrain.errors import UserError, raise_if_any
from lmtrain.model.language_model import LanguageModel, RecurrentLM
from lmtrain.program.shell import override_of, pasteable


def check_is_a_file(init_from: str) -> None:
    """Raises `UserError` if this is no file but may be the name of one of Flair's models, and says how to get it."""
    if Path(init_from).exists() or not re.fullmatch(r"[\w-]*(forward|backward)[\w-]*", init_from):
        return
    kept = Path(os.environ.get("FLAIR_CACHE_ROOT", "~/.flair"), "embeddings")
    there = sorted(kept.expanduser().glob("*.pt"))
    command = pasteable("python", "-c", f"from flair.embeddings import FlairEmbeddings; FlairEmbeddings({init_from!r})")
    raise UserError(
        f"init_from={init_from} is not a file. If Flair has a model of that name, this downloads it into {kept}: "
        f"{command}. Then give that file: init_from={kept}/FILE.pt"
        + (f". These are there: {', '.join(override_of('init_from', path) for path in there)}." if there else ".")
    )


def inherit(values: dict[str, Any], language_model: LanguageModel, explicit: Set[str]) -> dict[str, Any]:
    """The configuration with what the model brings along: direction, level, delimiter, sizes and dictionary.

    Dropout comes along too, but may be set.

    Args:
        values: the composed configuration.
        language_model: the model to start from.
        explicit: the keys that the user set, such as "model.hidden_size", or "model" for a group's choice.

    Raises:
        UserError: the keys that the user set to something else than the model has.
    """
    sizes = {f"model.{name}": value for name, value in asdict(language_model.model.sizes).items()}
    del sizes["model.vocabulary_size"]
    brought = {
        "direction": language_model.direction,
        "data.level": language_model.level,
        "data.document_delimiter": language_model.document_delimiter,
        **sizes,
    }
    before, values = values, copy.deepcopy(values)
    problems = []
    for key, value in brought.items():
        *path, name = key.split(".")
        section = values[path[0]] if path else values
        is_set = key in explicit or (path and path[0] == "model" and "model" in explicit and key != "model.dropout")
        if key == "model.dropout" and is_set:
            continue
        if is_set and str(section[name]).upper() != str(value).upper():
            problems.append(
                f"{key}={section[name]!r} contradicts {values['init_from']}, which has {value!r}. Leave the key out: "
                "it comes along with the model."
            )
        section[name] = value
    if explicit & {"dictionary", "dictionary.source", "dictionary.path"}:
        problems.append(
            f"dictionary={values['dictionary']['source']} contradicts {values['init_from']}, which brings its own "
            f"dictionary ({len(language_model.dictionary)} items). Leave it out; dictionary.expand=true adds the new "
            "text's characters."
        )
    raise_if_any(problems)
    if "model.name" not in explicit:
        values["model"]["name"] = "tuned"
    if "name" not in explicit and values["name"].startswith(composed := _default_name(before)):
        values["name"] = _default_name(values) + values["name"].removeprefix(composed)  # a sweep has appended to it
    return values


def _default_name(values: dict[str, Any]) -> str:
    return f"{values['model']['name']}-{values['data']['name']}-{values['direction']}"


def fingerprint(language_model: LanguageModel) -> str:
    """A hash of the weights and the dictionary: of the model, whatever file it is in."""
    hashed = hashlib.blake2b(language_model.dictionary.fingerprint.encode(), digest_size=16)
    for name, tensor in language_model.model.state_dict().items():
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return hashed.hexdigest()


def expanded(dictionary: Dictionary, counts: Counter[str], min_count: int = 1) -> Dictionary:
    """The dictionary with the counted items that it lacks, most frequent first; old items keep their ids."""
    new = [
        item
        for item, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        if count >= min_count and item not in dictionary.ids and item != UNK  # which stands at 0 or nowhere
    ]
    return Dictionary([*dictionary.items, *new])


def grown(language_model: LanguageModel, dictionary: Dictionary) -> LanguageModel:
    """A copy of the model for a larger dictionary.

    New rows of the encoder are as in a new model; new rows of the decoder are zero and their bias is the lowest of
    the old ones, so that they take little from the probability of the old items. Old rows are untouched.

    Args:
        language_model: the model.
        dictionary: one that begins with the model's own.
    """
    if dictionary == language_model.dictionary:
        return replace(language_model, model=copy.deepcopy(language_model.model))
    old = language_model.model
    model = RecurrentLM(replace(old.sizes, vocabulary_size=len(dictionary)))
    with torch.no_grad():
        model.decoder.weight.zero_()
        model.decoder.bias.fill_(old.decoder.bias.min())
        weights = old.state_dict()
        for name, grown_weights in model.state_dict().items():
            grown_weights[: len(weights[name])] = weights[name]
    return replace(language_model, model=model, dictionary=dictionary)
