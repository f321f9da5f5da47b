"""Runs linear probes over embeddings, over n-grams and over both, for several sizes of the training set."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmtrain.errors import UserError
from lmtrain.inference.embeddings import StringEmbeddings
from lmtrain.probing.features import (
    AROUND,
    WORD,
    components,
    ngram_vectorizer,
    ngrams_of,
    side_by_side,
    standardized,
    vectors_of,
    with_neighbours,
)
from lmtrain.probing.linear import Fitted, fit_linear
from lmtrain.probing.material import Figures, Material, drawn, judged, tags_of
from lmtrain.probing.tagged_text import TaggedSentence

MAJORITY = "majority"
NGRAMS, EMBEDDINGS = "n-grams", "embeddings"
NGRAMS_AROUND, EMBEDDINGS_AROUND = "n-grams, with neighbours", "embeddings, with neighbours"
BOTH = "both, with neighbours"
_HELD_OUT = 0.2  # of the training sentences, to choose the regularization
_STRENGTHS_OF_BOTH = tuple(10 ** (exponent / 2) for exponent in range(-3, 3))
SEED_OF_TEST = 0


@dataclass(frozen=True)
class Result:
    """One measurement.

    Args:
        features: the name of the features.
        sentences, tokens: the size of the training set.
        seed: the seed that drew the training sentences.
        figures: the scores on the test sentences.
        c: the regularization that was chosen; None if there is none.
    """

    features: str
    sentences: int
    tokens: int
    seed: int
    figures: Figures
    c: float | None = None


def curve(
    material: Material,
    embeddings: StringEmbeddings,
    sizes: Sequence[int],
    seeds: Sequence[int],
    test_sentences: int,
    progress: Callable[[float], None] = lambda _: None,
) -> Iterator[Result]:
    """Yields the results of all features for each seed and size.

    A smaller training set is part of the larger ones of the same seed. All are tested on the same sentences.

    Args:
        material: the sentences to draw from.
        embeddings: makes the vectors.
        sizes: numbers of training sentences, ascending; at least 2 each.
        seeds: one draw of training sentences for each.
        test_sentences: how many test sentences, at most.
        progress: called with how many sentences have been learned from since the last call.

    Raises:
        UserError: the drawn sentences have one tag only.
    """
    test = drawn(material.test, test_sentences, SEED_OF_TEST)
    test_vectors, test_ngrams = vectors_of(embeddings, test), ngrams_of(test)
    for seed in seeds:
        most = drawn(material.train, sizes[-1], seed)
        vectors, ngrams = vectors_of(embeddings, most), ngrams_of(most)
        for size in sizes:
            train = most[:size]
            tags = tags_of(train)
            count = len(tags)
            if len(set(tags)) == 1:
                raise UserError(
                    f"The {size:,} training sentences that seed {seed} draws have one tag only, {tags[0]!r}: take more."
                )

            pairs = (vectors[:count], test_vectors), (ngrams[:count], test_ngrams)
            for features, found, c in _probes(train, test, *pairs):
                yield Result(features, size, count, seed, judged(test, found, material.has_entities), c)
            progress(size)


def _probes(
    train: list[TaggedSentence], test: list[TaggedSentence], vectors: tuple, ngrams: tuple
) -> Iterator[tuple[str, list[str], float | None]]:
    """Yields the name of each kind of features, the tags that are found with it, and its C.

    Args:
        train, test: the sentences to learn from, and those to tag.
        vectors, ngrams: the features of the training tokens and the test tokens.
    """
    tags, learned = tags_of(train), learned_tokens(train)

    def found(fitted: Fitted, features: Any) -> list[str]:
        return fitted.classifier.predict(features).tolist()

    yield MAJORITY, [Counter(tags).most_common(1)[0][0]] * len(vectors[1]), None
    for features, words in ((NGRAMS, (WORD,)), (NGRAMS_AROUND, AROUND)):
        vectorizer = ngram_vectorizer(words)
        by_ngrams = vectorizer.fit_transform(ngrams[0]), vectorizer.transform(ngrams[1])
        of_ngrams = fit_linear(by_ngrams[0], tags, learned)
        yield features, found(of_ngrams, by_ngrams[1]), of_ngrams.c
    by_vectors = standardized(*vectors)
    of_vectors = fit_linear(by_vectors[0], tags, learned)
    yield EMBEDDINGS, found(of_vectors, by_vectors[1]), of_vectors.c
    reduced = components(*by_vectors)
    around = with_neighbours(reduced[0], train), with_neighbours(reduced[1], test)
    of_around = fit_linear(around[0], tags, learned)
    yield EMBEDDINGS_AROUND, found(of_around, around[1]), of_around.c
    # scaled so that C = 1 gives each kind of features the regularization that was best for it alone
    scales = math.sqrt(of_around.c), math.sqrt(of_ngrams.c)
    by_both = [
        side_by_side(np.float32(scales[0]) * one, np.float32(scales[1]) * other)
        for one, other in zip(around, by_ngrams, strict=True)
    ]
    of_both = fit_linear(by_both[0], tags, learned, _STRENGTHS_OF_BOTH)
    yield BOTH, found(of_both, by_both[1]), of_both.c


def found_by_vectors(
    train: list[TaggedSentence], vectors: np.ndarray, test_vectors: np.ndarray
) -> tuple[list[str], float]:
    """The tags that a probe over vectors alone finds, and its C.

    Args:
        train: the sentences to learn from.
        vectors, test_vectors: float32 `(tokens, D)`, of their tokens and of the tokens to tag.
    """
    scaled, test_scaled = standardized(vectors, test_vectors)
    fitted = fit_linear(scaled, tags_of(train), learned_tokens(train))
    return fitted.classifier.predict(test_scaled).tolist(), fitted.c


def learned_tokens(train: list[TaggedSentence]) -> int:
    """The number of tokens before the held-out sentences, of which there is at least one."""
    held_out = max(1, round(_HELD_OUT * len(train)))
    return sum(len(sentence.tags) for sentence in train[: len(train) - held_out])
