"""What a probe sees of tokens: vectors of a language model, or character n-grams."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from lmtrain.embeddings import StringEmbeddings
from lmtrain.errors import UserError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

_LONGEST = 5  # characters of an n-gram
_AROUND = (-1, 0, 1)  # the word before, the word itself, the word after
_BLOCK = 1024  # sentences that are embedded at a time


def vectors_of(embeddings: StringEmbeddings, sentences: Sequence) -> np.ndarray:
    """The vectors of all tokens, one after the other, float32 `(tokens, embedding_length)`.

    Args:
        embeddings: makes them.
        sentences: `TokenizedSentence`s.

    Raises:
        UserError: one is not finite.
    """
    blocks = []
    for begin in range(0, len(sentences), _BLOCK):
        block = sentences[begin : begin + _BLOCK]
        vectors = embeddings.embed([one.tokens for one in block], [one.whitespace_after for one in block])
        blocks.append(torch.cat(vectors).cpu().numpy())
    together = np.concatenate(blocks)
    if not np.isfinite(together).all():
        raise UserError("A vector holds numbers that are not finite. Is the model a run that diverged?")
    return together


def ngram_vectorizer() -> "CountVectorizer":
    """Makes a sparse float32 `(tokens, n-grams)` of what `ngrams_of` gives: whether an n-gram is there.

    Fitted on training tokens, it knows the n-grams that occur there twice.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(analyzer=_as_it_is, binary=True, min_df=2, dtype=np.float32)


def _as_it_is(names: Iterable[str]) -> Iterable[str]:
    return names


def ngrams_of(sentences: Iterable) -> list[list[str]]:
    """For every token of `TokenizedSentence`s, one after the other, the names of its n-grams.

    The word, and all 1 to 5 characters in it that stand together, with marks at the word's ends; of the word itself and
    of its neighbours on both sides.
    """
    rows = []
    for sentence in sentences:
        padded = ["", *sentence.tokens, ""]
        for number in range(1, len(padded) - 1):
            rows.append([f"{place}{ngram}" for place in _AROUND for ngram in _ngrams(padded[number + place])])
    return rows


@lru_cache(1 << 16)
def _ngrams(word: str) -> tuple[str, ...]:
    marked = f"\x02{word}\x03"
    parts = {marked[at : at + n] for n in range(1, _LONGEST + 1) for at in range(len(marked) - n + 1)}
    return tuple(sorted(parts | {marked}))


def side_by_side(vectors: np.ndarray, ngrams: "csr_matrix") -> "csr_matrix":
    """Dense `(tokens, D)` and sparse `(tokens, n-grams)` → sparse `(tokens, D + n-grams)`."""
    from scipy import sparse

    return sparse.hstack([sparse.csr_matrix(vectors), ngrams], format="csr")
