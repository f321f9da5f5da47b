"""The features of tokens that a probe learns from: vectors of a language model, or character n-grams."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from lmtrain.errors import UserError
from lmtrain.inference.embeddings import StringEmbeddings
from lmtrain.inference.vector_file import TokenizedSentence

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import CountVectorizer

_LONGEST = 5  # characters of an n-gram
_COMPONENTS = 256  # principal components of vectors that are joined with their neighbours'
AROUND, WORD = (-1, 0, 1), 0  # the word before, the word itself, the word after
_BLOCK = 1024  # sentences that are embedded at a time


def vectors_of(embeddings: StringEmbeddings, sentences: Sequence[TokenizedSentence]) -> np.ndarray:
    """The vectors of all tokens, one after the other, float32 `(tokens, embedding_length)`.

    Args:
        embeddings: makes the vectors.
        sentences: one or more.

    Raises:
        UserError: a vector is not finite.
    """
    blocks = []
    for begin in range(0, len(sentences), _BLOCK):
        block = sentences[begin : begin + _BLOCK]
        vectors = embeddings.embed([one.tokens for one in block], [one.whitespace_after for one in block])
        blocks.append(torch.cat(vectors).cpu().numpy())
    together = np.concatenate(blocks)
    if not np.isfinite(together).all():
        raise UserError("A vector has numbers that are not finite. Take a model of a run that did not diverge.")
    return together


def standardized(vectors: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both arrays, standardized by the means and deviations of the first one's columns."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(vectors)
    return scaler.transform(vectors), scaler.transform(others)


def components(vectors: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both arrays, projected to the first 256 principal components of the first one if they have more columns."""
    from sklearn.decomposition import PCA

    if min(vectors.shape) <= _COMPONENTS:
        return vectors, others
    pca = PCA(_COMPONENTS, svd_solver="randomized", random_state=0).fit(vectors)
    return pca.transform(vectors), pca.transform(others)


def with_neighbours(vectors: np.ndarray, sentences: Sequence[TokenizedSentence]) -> np.ndarray:
    """`(tokens, D)` → `(tokens, 3 * D)`: the vectors of the previous token in the sentence, the token and the next one.

    Where there is no such token, they are zeros.
    """
    ends = np.cumsum([len(one.tokens) for one in sentences])
    before, after = np.roll(vectors, 1, axis=0), np.roll(vectors, -1, axis=0)
    before[np.concatenate([[0], ends[:-1]])] = 0
    after[ends - 1] = 0
    return np.concatenate([before, vectors, after], axis=1)


def ngram_vectorizer(words: Sequence[int]) -> "CountVectorizer":
    """Makes indicators of n-grams, sparse float32 `(tokens, n-grams)`, from the rows of `ngrams_of`.

    It knows the n-grams that occur in two or more of the tokens that it is fitted on.

    Args:
        words: whose n-grams to take: `WORD`, or all of `AROUND`.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    def names(rows: Sequence[Sequence[str]]) -> list[str]:
        return [f"{word}{ngram}" for word in words for ngram in rows[word + 1]]

    return CountVectorizer(analyzer=names, binary=True, min_df=2, dtype=np.float32)


def ngrams_of(sentences: Iterable[TokenizedSentence]) -> list[list[tuple[str, ...]]]:
    """For every token of all sentences the n-grams of the previous token, of the token and of the next one.

    These are the word itself and all sequences of 1 to 5 characters in it, with marks at the word's ends.
    """
    rows = []
    for sentence in sentences:
        words = [_ngrams(word) for word in ("", *sentence.tokens, "")]
        rows += [words[number : number + 3] for number in range(len(sentence.tokens))]
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
