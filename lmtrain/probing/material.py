"""The tagged sentences that a probe learns from and is tested on, and the score of the tags it finds."""

import random
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lmtrain.errors import UserError, raise_if_any
from lmtrain.probing.entities import are_entity_tags, entity_f1
from lmtrain.probing.tagged_text import TaggedSentence, read_tagged_sentences


@dataclass(frozen=True)
class Material:
    """Tagged sentences to learn from and to test on.

    Args:
        train, test: the sentences.
        has_entities: whether the tags are of named entities, for which there is an F1.
        remarks: sentences that a reader of the figures should know.
    """

    train: list[TaggedSentence]
    test: list[TaggedSentence]
    has_entities: bool
    remarks: list[str]


def read_material(
    train: str | Path,
    test: str | Path,
    column: int | None = None,
    token_column: int = 0,
    comment: str | None = None,
    encoding: str | None = None,
) -> Material:
    """Reads and checks the files of training and test sentences.

    Args:
        train, test: the files.
        column, token_column, comment, encoding: as in `read_tagged_sentences`.

    Raises:
        UserError: the problems of both files, or the files do not fit together.
    """
    read, problems = [], []
    for path in (train, test):
        try:
            read.append(read_tagged_sentences(path, column, token_column, comment, encoding))
        except UserError as error:
            problems += error.problems
    if len(read) == 2 and len(read[0]) == 1:
        problems.append(f"{train} has one sentence. A probe needs at least two: one is held out to choose by.")
    raise_if_any(problems)
    known, asked = (set(tags_of(sentences)) for sentences in read)
    unknown = sorted(asked - known)
    if not known & asked - {"O"}:
        learned, others = (", ".join(sorted(tags - {"O"})[:5]) for tags in (known, asked))
        raise UserError(f"{train} and {test} have no tag in common: {learned} and {others}. They must be tagged alike.")
    remarks = [f"{len(unknown)} tags of {test} are not in {train}: {', '.join(unknown[:10])}."] if unknown else []
    texts = {tuple(one.tokens) for one in read[0]}
    again = sum(tuple(one.tokens) in texts for one in read[1])
    if again == len(read[1]):
        raise UserError(
            f"All sentences of {test} are in {train}, too: a probe would be tested on what it has learned. Give a file "
            "of other sentences: --test FILE (train.py: callbacks.probe.test=FILE)."
        )
    if again:
        remarks.append(f"{again:,} of {len(read[1]):,} sentences of {test} are in {train}, too.")
    return Material(read[0], read[1], are_entity_tags(known | asked), remarks)


def drawn(sentences: list[TaggedSentence], count: int, seed: int) -> list[TaggedSentence]:
    """The first `count` sentences in an order drawn with the seed, so that a smaller draw is part of a larger one."""
    return random.Random(seed).sample(sentences, len(sentences))[:count]


def tags_of(sentences: list[TaggedSentence]) -> list[str]:
    """The tags of all tokens, one after the other."""
    return [tag for sentence in sentences for tag in sentence.tags]


@dataclass(frozen=True)
class Figures:
    """The share of right tags, and the F1 of entities (None for other tags)."""

    accuracy: float
    f1: float | None


def judged(sentences: list[TaggedSentence], found: list[str], has_entities: bool) -> Figures:
    """Scores the tags that were found for all tokens against those of the sentences."""
    truth = tags_of(sentences)
    accuracy = sum(one == other for one, other in zip(truth, found, strict=True)) / len(truth)
    if not has_entities:
        return Figures(accuracy, None)
    at, parts = 0, []
    for sentence in sentences:
        parts.append(found[at : at + len(sentence.tags)])
        at += len(sentence.tags)
    return Figures(accuracy, entity_f1([sentence.tags for sentence in sentences], parts))


def check_installed(what: str) -> None:
    """Raises `UserError` if scikit-learn is missing, which `what` needs."""
    if find_spec("sklearn") is None:
        raise UserError(f"{what} needs scikit-learn. Install it: pip install 'lmtrain[probe]'.")
