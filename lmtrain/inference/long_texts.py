"""Scores one long text in pieces that are read side by side: many times as fast as in one piece, and nearly exact."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lmtrain.errors import UserError
from lmtrain.inference.scoring import Score, encoded_text, losses_of, score
from lmtrain.inference.single_threads import pool_of
from lmtrain.inference.stepper import Stepper, product_dtype
from lmtrain.model.language_model import LanguageModel, RecurrentLM

_WINDOW = 512  # steps that are computed at once, at most
_OUTPUT = 1 << 21  # numbers in a thread's output of a window; with more, the gates leave the processor's cache
_LANES_OF_A_THREAD = 32  # at least; with fewer, a product takes hardly less time
_WEIGHTS = 1 << 28  # numbers in the copies of the weights that threads have together: 1 GiB


@dataclass(frozen=True)
class _Layout:
    """Which items a lane reads: lane k begins at item k·P, reads P + C and scores the last P; lane 0 scores all.

    Args:
        items: N, the length of the text.
        lanes: B.
        context: C, how many items a lane reads before those that it scores.
    """

    items: int
    lanes: int
    context: int

    @property
    def piece(self) -> int:
        """P: the lanes together score N - 1 items, all but the first."""
        return -(-(self.items - 1 - self.context) // self.lanes)

    @property
    def compared(self) -> int:
        """How many of the context's last items are compared with the losses of the lane before."""
        return max(1, self.context // 10)

    def windows(self, ids: np.ndarray, length: int) -> Iterator[tuple[int, np.ndarray]]:
        """The first step of each window, and its ids int64 `(T + 1, B)`, T ≤ `length`, -1 after the text's end."""
        steps = self.piece + self.context
        begins = np.arange(self.lanes) * self.piece
        for begin in range(0, steps, length):
            places = np.arange(begin, min(begin + length, steps) + 1)[:, None] + begins
            window = np.full(places.shape, -1, np.int64)
            is_there = places < self.items
            window[is_there] = ids[places[is_there]]
            yield begin, window


def score_in_lanes(
    language_model: LanguageModel,
    text: str,
    lanes: int = 128,
    context: int = 1000,
    precision: str = "32",
    progress: Callable[[float], None] = lambda _: None,
) -> tuple[Score, float]:
    """Scores a text in pieces. Each begins with a zero state and first reads some of the text before it.

    Args:
        language_model: a model with a decoder.
        text: what to score; a text that is too short for so many pieces is scored in fewer, or exactly.
        lanes: how many pieces, at least 1, which is `scoring.score`.
        context: how many items are read before a piece, at least 1.
        precision: "32", or "bf16" for matrix products in bfloat16 where they are faster, which changed a loss of 2.2068
            nats by less than 0.00001 (256 units, English documentation), whatever the context.
        progress: called with how many items have been scored since the last call.

    Returns:
        the score, and an upper estimate of its mean error in nats per item: the mean difference between the losses of
        the context's last tenth and those of the lane before, which had read more. The error falls with every further
        item.

    Raises:
        UserError: the model has no decoder, a character is not in a dictionary without `<unk>`, or an argument is out
            of range.
    """
    if lanes < 1 or context < 1:
        raise UserError(f"lanes is {lanes} and context {context}; they must be at least 1.")
    if language_model.model.decoder is None:
        raise UserError("The model has no decoder: it can embed, but not score.")
    encoded = encoded_text(language_model, text)
    items = len(encoded.ids)
    lanes = min(lanes, (items - 1) // max(2 * context, 64))
    if lanes < 2:
        return score(language_model, [text], progress=progress)[0], 0.0
    layout = _Layout(items, lanes, context)
    dtype = product_dtype(precision, language_model.model, lanes)
    nats, difference = _run(language_model, layout, encoded.ids, dtype, progress)
    return Score(items - 1, nats, encoded.bytes, encoded.unknown), difference


def _run(
    language_model: LanguageModel,
    layout: _Layout,
    ids: np.ndarray,
    dtype: torch.dtype,
    progress: Callable[[float], None],
) -> tuple[float, float]:
    """The sum of the losses that lanes score, and the mean difference between neighbouring lanes."""
    total = 0.0
    near = _Rows(layout.context - layout.compared, layout)
    far = _Rows(layout.piece + layout.context - layout.compared, layout)
    share = (layout.items - 1) / (
        layout.items - 1 + layout.context * (layout.lanes - 1)
    )  # scored items among those read
    length = _window(language_model.model, layout.lanes)
    with _readers(language_model.model, layout.lanes, dtype) as read:
        for begin, window in layout.windows(ids, length):
            losses, is_there = read(window), torch.from_numpy(window[1:] >= 0)
            near.take(begin, losses)
            far.take(begin, losses)
            losses[~is_there] = 0
            losses[: max(0, layout.context - begin), 1:] = 0  # context: read, not scored
            total += losses.sum().item()
            progress(int(is_there.sum()) * share)
    return total, (near.values[:, 1:] - far.values[:, :-1]).abs().mean().item()


@contextmanager
def _readers(model: RecurrentLM, lanes: int, dtype: torch.dtype) -> Iterator[Callable[[np.ndarray], Tensor]]:
    """Gives a function from the ids of a window `(T + 1, B)` to losses float64 `(T, B)`, which carries the state.

    On CPUs each thread reads some of the lanes: in bfloat16 a window at a time with torch's layers, in float32 item
    after item, which is faster there.
    """
    if model.encoder.weight.device.type != "cpu":
        yield _LayersReader(model, lanes, dtype)
        return
    threads = _threads(model, lanes)
    shares = [len(share) for share in np.array_split(np.arange(lanes), threads)]
    with pool_of(threads) as pool:
        kind = _StepReader if dtype == torch.float32 else _LayersReader
        readers = [kind(model, share, dtype) for share in shares]

        def read(window: np.ndarray) -> Tensor:
            pieces = np.array_split(window, threads, axis=1)
            return torch.cat(list(pool.map(lambda reader, piece: reader(piece), readers, pieces)), dim=1)

        yield read


def _threads(model: RecurrentLM, lanes: int) -> int:
    weights = sum(parameter.numel() for parameter in model.parameters())
    return max(1, min(torch.get_num_threads(), lanes // _LANES_OF_A_THREAD, _WEIGHTS // weights))


def _window(model: RecurrentLM, lanes: int) -> int:
    """How many steps are computed at once."""
    if model.encoder.weight.device.type != "cpu":
        return _WINDOW
    return min(_WINDOW, max(32, _OUTPUT * _threads(model, lanes) // (lanes * model.sizes.hidden_size)))


class _StepReader:
    """Reads B lanes on a CPU item after item."""

    def __init__(self, model: RecurrentLM, lanes: int, dtype: torch.dtype) -> None:
        self._stepper = Stepper(model, lanes, dtype, decode=True)

    @torch.inference_mode()
    def __call__(self, window: np.ndarray) -> Tensor:
        ids = torch.from_numpy(window).clamp_min(0)
        losses = torch.empty(len(ids) - 1, ids.shape[1], dtype=torch.float64)
        for step, targets, places in zip(ids, ids[1:], losses, strict=False):
            self._stepper.step(step)
            scores = self._stepper.scores + self._stepper.decoder_bias
            places.copy_(F.cross_entropy(scores, targets, reduction="none"))
        return losses


class _LayersReader:
    """Reads B lanes a window at a time, with the network's layers."""

    def __init__(self, model: RecurrentLM, lanes: int, dtype: torch.dtype) -> None:
        self._model, self._dtype = model, dtype
        self._hidden = model.zero_hidden(lanes)

    @torch.inference_mode()
    def __call__(self, window: np.ndarray) -> Tensor:
        device = self._model.encoder.weight.device
        ids = torch.from_numpy(window).clamp_min(0).to(device)
        with torch.autocast(device.type, self._dtype, enabled=self._dtype != torch.float32):
            output, self._hidden = self._model(ids[:-1], self._hidden)
            return losses_of(self._model, output.flatten(0, 1), ids[1:].flatten()).view(len(ids) - 1, -1)


class _Rows:
    """Collects the losses `(layout.compared, B)` of the steps from `first` on."""

    def __init__(self, first: int, layout: _Layout) -> None:
        self.first, self.values = first, torch.zeros(layout.compared, layout.lanes, dtype=torch.float64)

    def take(self, begin: int, losses: Tensor) -> None:
        """Keeps those among the losses `(T, B)` of the steps from `begin` on that belong here."""
        start, end = max(begin, self.first), min(begin + len(losses), self.first + len(self.values))
        if start < end:
            self.values[start - self.first : end - self.first] = losses[start - begin : end - begin]
