"""Turns tokenized sentences into the strings that a model reads, with the position of every token's embedding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmtrain.data.dictionary import Dictionary, code_points
from lmtrain.model.language_model import LanguageModel


def joined(tokens: Sequence[str], spaces: Sequence[int], tokenized: bool) -> tuple[str, np.ndarray, np.ndarray]:
    """The text of a sentence, and where each token begins and ends in it, int64 `(tokens,)`, by Flair's count.

    Flair counts several spaces as one, and counts the trailing white space that it cuts off.
    """
    lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
    if tokenized:
        text = " ".join(filter(None, tokens))
    else:
        text = "".join(token + count * " " for token, count in zip(tokens, spaces, strict=True) if token).rstrip()
    gaps = (np.asarray(spaces, np.int64) > 0) & (lengths > 0)
    ends = np.cumsum(lengths + gaps) - gaps
    return text, ends - lengths, ends


@dataclass(frozen=True)
class ModelInput:
    """The strings that one model reads, and where its outputs are taken.

    Args:
        ids: int64 `(characters,)`, of all strings, one after the other.
        lengths: int64 `(strings,)`.
        sentence, position, rows: int64 `(tokens,)`: each token's string, position in it, and row of the result.
    """

    ids: np.ndarray
    lengths: np.ndarray
    sentence: np.ndarray
    position: np.ndarray
    rows: np.ndarray

    def without(self, strings: np.ndarray) -> "ModelInput":
        """The input without the characters and tokens of the strings in this mask, bool `(strings,)`."""
        stays = ~strings[self.sentence]
        return ModelInput(
            ids=self.ids[np.repeat(~strings, self.lengths)],
            lengths=np.where(strings, 0, self.lengths),
            sentence=self.sentence[stays],
            position=self.position[stays],
            rows=self.rows[stays],
        )


def read(
    language_model: LanguageModel,
    texts: list[tuple[str, np.ndarray, np.ndarray]],
    with_whitespace: bool,
    is_lower: bool,
) -> ModelInput:
    delimiter, is_forward = language_model.document_delimiter, language_model.is_forward_lm
    strings, positions, rows, row = [], [], [], 0
    for text, begins, ends in texts:
        offsets = ends if is_forward else len(text) - begins
        offsets = offsets + len(delimiter) - (not with_whitespace)
        is_token = ends > begins
        # Below 0 only after white-space tokens that Flair cuts off; its vector then depends on the batch.
        position = np.maximum(offsets[is_token], 0)
        string = text.lower() if is_lower else text
        string = delimiter + (string if is_forward else string[::-1])
        # Characters after the last position are not read; missing ones before it are spaces, as in Flair's batches.
        length = int(position.max(initial=-1)) + 1
        strings.append(string[:length].ljust(length))
        positions.append(position)
        rows.append(row + np.flatnonzero(is_token))
        row += len(ends)
    counts = [len(position) for position in positions]
    empty = [np.zeros(0, np.int64)]
    return ModelInput(
        ids=_encode(language_model.dictionary, "".join(strings)),
        lengths=np.array([len(string) for string in strings], np.int64),
        sentence=np.repeat(np.arange(len(counts)), counts),
        position=np.concatenate(empty + positions),
        rows=np.concatenate(empty + rows),
    )


def _encode(dictionary: Dictionary, text: str) -> np.ndarray:
    """Characters → int64 ids; like Flair, 0 for one that is not in the dictionary, even if that has no `<unk>`."""
    ids = dictionary.encode_code_points(code_points(text)).astype(np.int64)
    ids[ids == dictionary.missing] = 0
    return ids
