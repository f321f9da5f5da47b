"""How probable a trained model finds a text."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lmtrain.dictionary import UNK, code_points
from lmtrain.errors import UserError
from lmtrain.model import CharLM, LanguageModel

_CHUNK = 1 << 18  # items that are encoded at a time
_WINDOW_ELEMENTS = 1 << 24  # numbers in the recurrent output of a window: 64 MiB
_LOGIT_ELEMENTS = 1 << 23  # scores that are computed at a time: 32 MiB


@dataclass(frozen=True)
class Score:
    """What a model makes of a text. Scores of several texts can be added.

    As in Flair, the item that the model reads first (the first one, or the last one for a backward model) is not
    scored: nothing stands before it. All figures are about the other items.

    Args:
        items: how many were scored: characters, or words at word level.
        nats: the sum of their negative log-probabilities.
        bytes: their length in UTF-8; at word level with a space for every word.
        unknown: how many are not in the dictionary and were scored as `<unk>`.
    """

    items: int = 0
    nats: float = 0.0
    bytes: int = 0
    unknown: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(
            self.items + other.items, self.nats + other.nats, self.bytes + other.bytes, self.unknown + other.unknown
        )

    @property
    def log_probability(self) -> float:
        """In nats."""
        return -self.nats

    @property
    def loss(self) -> float:
        """Mean nats per item; NaN if nothing was scored."""
        return _ratio(self.nats, self.items)

    @property
    def perplexity(self) -> float:
        """exp(loss), what Flair's `calculate_perplexity` gives."""
        return math.inf if self.loss > 700 else math.exp(self.loss)

    @property
    def bits_per_item(self) -> float:
        """Bits per character, or per word at word level."""
        return _ratio(self.nats / math.log(2), self.items)

    @property
    def bits_per_byte(self) -> float:
        return _ratio(self.nats / math.log(2), self.bytes)

    @property
    def unknown_rate(self) -> float:
        """Share of the items, from 0 to 1."""
        return _ratio(self.unknown, self.items)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def score(language_model: LanguageModel, texts: Iterable[str], batch_size: int = 64) -> list[Score]:
    """Scores texts of any length, each by itself, from a zero state.

    Texts of similar length share a batch and are read in windows that carry the state, so that memory beyond the
    texts and their ids (one or two bytes an item) does not depend on their length; neither do the results depend
    on the batch, but for rounding.

    Args:
        language_model: a model with a decoder.
        texts: what to score. A text of fewer than two items has a score of no items.
        batch_size: how many texts are read at once.

    Raises:
        UserError: the model has no decoder, or a character is not in a dictionary without `<unk>`.
    """
    if language_model.model.decoder is None:
        raise UserError("The model has no decoder: it can embed, but not score.")
    encoded = [_encode(language_model, text) for text in texts]
    order = sorted(range(len(encoded)), key=lambda index: -len(encoded[index].ids))
    scores = [Score()] * len(encoded)
    for begin in range(0, len(order), batch_size):
        batch = [index for index in order[begin : begin + batch_size] if len(encoded[index].ids) > 1]
        nats = _nats_of_batch(language_model.model, [encoded[index].ids for index in batch])
        for index, total in zip(batch, nats, strict=True):
            text = encoded[index]
            unknown = int((text.ids[1:] == 0).sum()) if language_model.dictionary.has_unk else 0
            scores[index] = Score(len(text.ids) - 1, total, text.bytes, unknown)
    return scores


def score_lines(
    language_model: LanguageModel, lines: Iterable[str], batch_size: int = 64
) -> Iterator[tuple[str, Score]]:
    """Scores every line by itself, a few thousand at a time, in their order."""
    lines = iter(lines)
    while block := list(islice(lines, 4096)):
        yield from zip(block, score(language_model, block, batch_size), strict=True)


@dataclass(frozen=True)
class _Encoded:
    """ids `(N,)` in the order in which the model reads them, and the UTF-8 length of all but the first."""

    ids: np.ndarray
    bytes: int


def encode(language_model: LanguageModel, text: str) -> np.ndarray:
    """The items of a text in the order in which the model reads them, ids `(N,)` of the dictionary's type.

    Raises:
        UserError: an item is not in a dictionary without `<unk>`.
    """
    return _encode(language_model, text).ids


def _encode(language_model: LanguageModel, text: str) -> _Encoded:
    dictionary = language_model.dictionary
    ids = [np.zeros(0, dictionary.dtype)]
    first, last, total = 0, 0, 0
    for items in _chunks_of_items(text, language_model.level):
        if isinstance(items, str):
            points = code_points(items)
            ids.append(dictionary.encode_code_points(points))
            lengths = 1 + (points > 0x7F).astype(np.int64) + (points > 0x7FF) + (points > 0xFFFF)
        else:
            ids.append(dictionary.encode_words(items))
            lengths = np.array([1 + len(word.encode("utf-8", "surrogatepass")) for word in items])
        if not dictionary.has_unk and (ids[-1] == dictionary.missing).any():
            item = items[int(np.argmax(ids[-1] == dictionary.missing))]
            raise UserError(f"{item!r} is not in the dictionary, which has no {UNK}.")
        first, last, total = first or int(lengths[0]), int(lengths[-1]), total + int(lengths.sum())
    joined = np.concatenate(ids)
    if language_model.is_forward_lm:
        return _Encoded(joined, total - first)
    return _Encoded(joined[::-1], total - last)


def _chunks_of_items(text: str, level: str) -> Iterator[str | list[str]]:
    """The items of a text, a bounded number at a time: characters as a string, words as a list."""
    if level == "word":
        words = (match.group() for match in re.finditer(r"\S+", text))
        while chunk := list(islice(words, _CHUNK)):
            yield chunk
    else:
        yield from (text[begin : begin + _CHUNK] for begin in range(0, len(text), _CHUNK))


@torch.inference_mode()
def _nats_of_batch(model: CharLM, texts: Sequence[np.ndarray]) -> list[float]:
    """The summed negative log-probability of every text's items but the first.

    Args:
        texts: ids, at least two each, the longest text first.
    """
    device = model.encoder.weight.device
    totals = torch.zeros(len(texts), dtype=torch.float64)  # on the CPU: Apple's GPUs have no float64
    hidden = model.zero_hidden(len(texts))
    begin = 0
    while texts and begin < len(texts[0]) - 1:
        active = sum(len(text) - 1 > begin for text in texts)
        window = min(4096, max(1, _WINDOW_ELEMENTS // (active * model.hidden_size)), len(texts[0]) - 1 - begin)
        # One item more than the window: its inputs are all but the last, its targets all but the first.
        columns = np.full((window + 1, active), -1, dtype=np.int64)
        for column, text in enumerate(texts[:active]):
            piece = text[begin : begin + window + 1]
            columns[: len(piece), column] = piece
        ids = torch.from_numpy(columns).to(device)
        output, hidden = model(ids[:-1].clamp_min(0), tuple(part[:, :active].contiguous() for part in hidden))
        targets = ids[1:]
        wanted = targets >= 0
        losses = _losses(model, output[wanted], targets[wanted])
        totals.index_add_(0, wanted.nonzero()[:, 1].cpu(), losses)
        begin += window
    return totals.tolist()


def _losses(model: CharLM, output: Tensor, targets: Tensor) -> Tensor:
    """Outputs `(N, D)` and int64 targets `(N,)` → float64 negative log-probabilities `(N,)` on the CPU."""
    rows = max(1, _LOGIT_ELEMENTS // model.vocabulary_size)
    losses = [
        F.cross_entropy(model.decoder(some_output).float(), some_targets, reduction="none")
        for some_output, some_targets in zip(output.split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(losses).cpu().double()
