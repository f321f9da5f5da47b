"""Starts from a trained model (`init_from`): takes its settings, refuses contradictions, enlarges its dictionary."""

import copy
import hashlib
import os
import re
from collections import Counter
from collections.abc import Set
from dataclasses import asdict, replace
from pathlib import Path

import torch

from lmtrain.config.saved import flat, saved
from lmtrain.config.schema import Config
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


def settings_from_model(config: Config, language_model: LanguageModel, explicit: Set[str]) -> Config:
    """The configuration with the model's direction, level, delimiter and sizes, and its dropout unless that is set.

    Args:
        config: as it was composed.
        language_model: the model to start from.
        explicit: the keys that the user set, such as "model.hidden_size", or "model" for a group's choice.

    Raises:
        UserError: every key that the user set and that contradicts the model.
    """
    sizes = {f"model.{name}": value for name, value in asdict(language_model.model.sizes).items()}
    del sizes["model.vocabulary_size"]
    brought = {
        "direction": language_model.direction,
        "data.level": language_model.level,
        "data.document_delimiter": language_model.document_delimiter,
        **sizes,
    }
    if "model.dropout" in explicit:
        del brought["model.dropout"]
    composed, problems = flat(saved(config)), []
    for key, value in brought.items():
        is_set = key in explicit or (key.startswith("model.") and "model" in explicit and key != "model.dropout")
        if is_set and str(composed[key]).upper() != str(value).upper():
            problems.append(
                f"{key}={composed[key]!r} contradicts {config.init_from}, which has {value!r}. Leave the key out: it "
                "comes along with the model."
            )
    if explicit & {"dictionary", "dictionary.source", "dictionary.path"}:
        problems.append(
            f"dictionary={config.dictionary.source} contradicts {config.init_from}, which brings its own "
            f"dictionary ({len(language_model.dictionary)} items). Leave it out; dictionary.expand=true adds the new "
            "text's characters."
        )
    raise_if_any(problems)
    tuned = config.changed(brought if "model.name" in explicit else brought | {"model.name": "tuned"})
    if "name" not in explicit and config.name.startswith(default := _default_name(config)):
        name = _default_name(tuned) + config.name.removeprefix(default)  # the suffix that a sweep has appended
        tuned = tuned.changed({"name": name})
    return tuned


def _default_name(config: Config) -> str:
    return f"{config.model.name}-{config.data.name}-{config.direction}"


def fingerprint(language_model: LanguageModel) -> str:
    """A hash of the weights and the dictionary, the same for all files that hold the same model."""
    hashed = hashlib.blake2b(language_model.dictionary.fingerprint.encode(), digest_size=16)
    for name, tensor in language_model.model.state_dict().items():
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return hashed.hexdigest()


def with_new_items(dictionary: Dictionary, counts: Counter[str], min_count: int = 1) -> Dictionary:
    """The dictionary with the counted items that it lacks, most frequent first; old items keep their ids."""
    new = [
        item
        for item, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        if count >= min_count and item not in dictionary.ids and item != UNK  # which may only have the id 0
    ]
    return Dictionary([*dictionary.items, *new])


def with_larger_dictionary(language_model: LanguageModel, dictionary: Dictionary) -> LanguageModel:
    """A copy of the model for a larger dictionary.

    New rows of the encoder are initialised as in a new model. New rows of the decoder are zero, with the lowest of the
    old biases, so that they take little from the probability of the old items. Old rows are unchanged.

    Args:
        dictionary: begins with the items of the model's own.
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
