"""Scores texts: how probable a trained model finds them."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmtrain.data.dictionary import UNK, code_points
from lmtrain.errors import UserError
from lmtrain.model.language_model import LanguageModel, RecurrentLM
from lmtrain.units import perplexity

_CHUNK = 1 << 18  # items that are encoded at once
_WINDOW_ELEMENTS = 1 << 24  # numbers in the recurrent output of a window: 64 MiB
_LOGIT_ELEMENTS = 1 << 23  # logits that are computed at once: 32 MiB
_ROWS = 1024  # of logits at once on a CPU, so that those of characters stay in its cache


@dataclass(frozen=True)
class Score:
    """How probable a model finds a text. Scores of several texts can be added.

    As in Flair, the item that the model reads first (the first one, or the last one for a backward model) is not
    scored, because nothing comes before it. All figures are about the other items.

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
        """In nats; NaN if nothing was scored, because 0 would be the best log-probability."""
        return -self.nats if self.items else math.nan

    @property
    def loss(self) -> float:
        """Mean nats per item; NaN if nothing was scored."""
        return _ratio(self.nats, self.items)

    @property
    def perplexity(self) -> float:
        """exp(loss), what Flair's `calculate_perplexity` gives."""
        return perplexity(self.loss)

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


def score(
    language_model: LanguageModel,
    texts: Iterable[str],
    batch_size: int = 64,
    progress: Callable[[float], None] = lambda _: None,
) -> list[Score]:
    """Scores texts of any length, each by itself, from a zero state.

    Texts of similar length share a batch and are read in windows that carry the state, so that memory beyond the
    texts and their ids (one or two bytes an item) does not depend on their length. Results depend on the batch only by
    rounding.

    Args:
        language_model: a model with a decoder.
        texts: what to score. A text of fewer than two items has a score of no items.
        batch_size: how many texts are read at once.
        progress: called with how many items have been scored since the last call.

    Raises:
        UserError: `texts` is one text, the batch size is below 1, the model has no decoder, or a character is not in a
            dictionary without `<unk>`.
    """
    if language_model.model.decoder is None:
        raise UserError("The model has no decoder: it can embed, but not score.")
    if isinstance(texts, str):
        raise UserError("score takes a list of texts, not one text: score(model, [text]).")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; it must be at least 1.")
    encoded = [encoded_text(language_model, text) for text in texts]
    order = sorted(range(len(encoded)), key=lambda index: -len(encoded[index].ids))
    scores = [Score()] * len(encoded)
    for begin in range(0, len(order), batch_size):
        batch = [index for index in order[begin : begin + batch_size] if len(encoded[index].ids) > 1]
        nats = _nats_of_batch(language_model.model, [encoded[index].ids for index in batch], progress)
        for index, total in zip(batch, nats, strict=True):
            text = encoded[index]
            scores[index] = Score(len(text.ids) - 1, total, text.bytes, text.unknown)
    return scores


def score_lines(
    language_model: LanguageModel, lines: Iterable[str], batch_size: int = 64
) -> Iterator[tuple[str, Score]]:
    """Scores every line by itself, in their order, a few thousand lines at a time."""
    lines = iter(lines)
    while block := list(islice(lines, 4096)):
        yield from zip(block, score(language_model, block, batch_size), strict=True)


@dataclass(frozen=True)
class EncodedItems:
    """A text as a model reads it.

    Args:
        ids: `(N,)` of the dictionary's type, in the order of reading.
        bytes: the UTF-8 length of all items but the first one read.
        unknown: how many of these are not in the dictionary.
    """

    ids: np.ndarray
    bytes: int
    unknown: int


def encode(language_model: LanguageModel, text: str) -> np.ndarray:
    """The ids of a text in the order in which the model reads them, `(N,)` of the dictionary's type.

    Raises:
        UserError: an item is not in a dictionary without `<unk>`.
    """
    return encoded_text(language_model, text).ids


def encoded_text(language_model: LanguageModel, text: str) -> EncodedItems:
    """A text as the model reads it.

    Raises:
        UserError: an item is not in a dictionary without `<unk>`.
    """
    dictionary = language_model.dictionary
    ids = [np.zeros(0, dictionary.dtype)]
    bytes_, unknown = _Sum(), _Sum()
    for items in _chunks_of_items(text, language_model.level):
        if isinstance(items, str):
            codes = code_points(items)
            ids.append(dictionary.encode_code_points(codes))
            are_unknown = dictionary.are_unknown(codes, ids[-1])
            lengths = 1 + (codes > 0x7F).astype(np.int64) + (codes > 0x7FF) + (codes > 0xFFFF)
        else:
            ids.append(dictionary.encode_words(items))
            are_unknown = dictionary.are_unknown(items, ids[-1])
            lengths = np.array([1 + len(word.encode("utf-8", "surrogatepass")) for word in items])
        if not dictionary.has_unk and are_unknown.any():
            item = items[int(np.argmax(are_unknown))]
            raise UserError(f"{item!r} is not in the dictionary, which has no {UNK} to stand for it.")
        bytes_.add(lengths)
        unknown.add(are_unknown)
    joined, is_forward = np.concatenate(ids), language_model.is_forward_lm
    read = joined if is_forward else joined[::-1]
    return EncodedItems(read, bytes_.but_the_first_read(is_forward), unknown.but_the_first_read(is_forward))


@dataclass
class _Sum:
    """The sum of numbers that come in chunks, with the first and the last number."""

    total: int = 0
    first: int | None = None
    last: int = 0

    def add(self, numbers: np.ndarray) -> None:
        self.total += int(numbers.sum())
        self.first = int(numbers[0]) if self.first is None else self.first
        self.last = int(numbers[-1])

    def but_the_first_read(self, is_forward: bool) -> int:
        return self.total - ((self.first or 0) if is_forward else self.last)


def _chunks_of_items(text: str, level: str) -> Iterator[str | list[str]]:
    """The items of a text, `_CHUNK` at a time: characters as a string, words as a list."""
    if level == "word":
        words = (match.group() for match in re.finditer(r"\S+", text))
        while chunk := list(islice(words, _CHUNK)):
            yield chunk
    else:
        yield from (text[begin : begin + _CHUNK] for begin in range(0, len(text), _CHUNK))


@torch.inference_mode()
def _nats_of_batch(model: RecurrentLM, texts: Sequence[np.ndarray], progress: Callable[[float], None]) -> list[float]:
    """The sum of the negative log-probabilities of each text's items but the first.

    Args:
        texts: ids, at least two each, the longest text first.
    """
    device = model.encoder.weight.device
    totals = torch.zeros(len(texts), dtype=torch.float64)  # on the CPU: Apple's GPUs have no float64
    hidden = model.zero_hidden(len(texts))
    begin = 0
    while texts and begin < len(texts[0]) - 1:
        active = sum(len(text) - 1 > begin for text in texts)
        window = min(4096, max(1, _WINDOW_ELEMENTS // (active * model.sizes.hidden_size)), len(texts[0]) - 1 - begin)
        # One item more than the window: its inputs are all but the last, its targets all but the first.
        columns = np.full((window + 1, active), -1, dtype=np.int64)
        for column, text in enumerate(texts[:active]):
            piece = text[begin : begin + window + 1]
            columns[: len(piece), column] = piece
        ids = torch.from_numpy(columns).to(device)
        output, hidden = model(ids[:-1].clamp_min(0), tuple(part[:, :active].contiguous() for part in hidden))
        targets = ids[1:]
        wanted = targets >= 0
        losses = losses_of(model, output[wanted], targets[wanted])
        totals.index_add_(0, wanted.nonzero()[:, 1].cpu(), losses)
        begin += window
        progress(int(wanted.sum()))
    return totals.tolist()


def _logits(decoder: nn.Linear, output: Tensor) -> Tensor:
    """Outputs `(N, D)` → float32 `(N, V)`.

    Under autocast the bias is added in float32: rounded to bfloat16 it would shift the losses of all items alike.
    """
    if torch.is_autocast_enabled(output.device.type):
        return F.linear(output, decoder.weight).float().add_(decoder.bias)
    logits: Tensor = decoder(output)
    return logits.float()


def losses_of(model: RecurrentLM, output: Tensor, targets: Tensor) -> Tensor:
    """Outputs `(N, D)` and int64 targets `(N,)` → float64 negative log-probabilities `(N,)` on the CPU."""
    assert model.decoder is not None  # callers refuse a model without one
    rows = max(1, _LOGIT_ELEMENTS // model.sizes.vocabulary_size)
    rows = min(rows, _ROWS) if output.device.type == "cpu" else rows
    losses = [
        F.cross_entropy(_logits(model.decoder, some_output), some_targets, reduction="none")
        for some_output, some_targets in zip(output.split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(losses).cpu().double()
