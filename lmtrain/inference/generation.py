"""Samples text from a trained model."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lmtrain.errors import raise_if_any
from lmtrain.inference.scoring import encode
from lmtrain.inference.stepper import Stepper, product_dtype
from lmtrain.model.language_model import Hidden, LanguageModel

_BLOCK_ELEMENTS = 1 << 22  # random numbers that are drawn at once: 16 MiB


def generate(  # noqa: PLR0913  # one for each flag of the command
    language_model: LanguageModel,
    prefix: str = "\n",
    length: int = 1000,
    temperature: float = 1.0,
    samples: int = 1,
    stop: str | None = None,
    seed: int | None = None,
    precision: str = "32",
    progress: Callable[[float], None] = lambda _: None,
) -> list[tuple[str, float]]:
    """Samples texts, all in one batch.

    As in Flair's `generate_text`, the prefix is part of the text, an empty one becomes a line break, `<unk>` is
    sampled like any other item, and the second value is the mean **negative** log-probability in nats per
    generated item, at temperature 1 whatever the temperature of sampling.

    The text of a backward model is in reading order, too: its prefix is the end of the text, and the model writes
    what comes before it. (Flair feeds a backward model the prefix from left to right, which reverses it:
    `generate(model, prefix=p)` is Flair's `generate_text(prefix=p[::-1])`.)

    At word level, items are separated by spaces.

    Args:
        language_model: a model with a decoder.
        prefix: text that the model reads before it generates.
        length: how many items to generate, at least 1.
        temperature: 0 always takes the most probable item; higher values take improbable ones more often.
        samples: how many texts.
        stop: a sample ends as soon as its generated part ends with this (of a backward model: begins with it),
            which stays in the text; None for always `length` items.
        seed: the same seed gives the same texts on the same machine; None for PyTorch's global generator.
        precision: "32", or "bf16" for matrix products in bfloat16 where they are faster than in float32.
        progress: called with how many items of each sample have been generated since the last call.

    Returns:
        a text and its mean negative log-probability for each sample.

    Raises:
        UserError: an argument is out of range, the model has no decoder, or the prefix has a character that is
            not in a dictionary without `<unk>`.
    """
    _check(language_model, length, temperature, samples, seed)
    dtype = product_dtype(precision, language_model.model, samples)
    device = language_model.model.encoder.weight.device
    generator = None if seed is None else torch.Generator(device).manual_seed(seed)
    prefix = prefix or "\n"
    read = _ids_in_reading_order(language_model, prefix).to(device)
    written = [_Sample(language_model, stop) for _ in range(samples)]
    with torch.inference_mode():
        runner = Stepper(language_model.model, samples, dtype, decode=True)
        runner.set_hidden(_state_after(language_model, read[:-1]))
        ids, losses = _sample(runner, read[-1:].expand(samples), length, temperature, generator, written, progress)
    return [
        (sample.text(prefix, items), float(nats[: sample.length(len(items))].mean()))
        for sample, items, nats in zip(written, ids.tolist(), losses.cpu().double(), strict=True)
    ]


def _sample(  # noqa: PLR0913
    runner: Stepper,
    ids: Tensor,
    length: int,
    temperature: float,
    generator: torch.Generator | None,
    written: list["_Sample"],
    progress: Callable[[float], None],
) -> tuple[Tensor, Tensor]:
    """Lets the model read `ids` `(B,)` and continue.

    Returns:
        int64 ids `(B, N)` and their negative log-probabilities, float32 `(B, N)`; N is `length` unless all samples
        ended before.
    """
    all_ids, all_losses, are_done = [], [], False
    bias = runner.decoder_bias
    block = max(1, min(32, _BLOCK_ELEMENTS // (len(ids) * len(bias))))
    while length > 0 and not are_done:
        count = min(block, length)
        length -= count
        noise = _noise(bias.new_empty(count, len(ids), len(bias)), temperature, generator).add_(bias)
        block_ids, scores = [], torch.empty_like(noise)
        for step_noise, step_scores in zip(noise.unbind(), scores.unbind(), strict=True):
            runner.step(ids)
            step_scores.copy_(runner.scores)
            ids = step_noise.add_(step_scores).argmax(dim=1)
            block_ids.append(ids)
            if written[0].stop and all([one.add(index) for one, index in zip(written, ids.tolist(), strict=True)]):
                are_done = True
                break
        chosen = torch.stack(block_ids)
        logits = scores[: len(chosen)].add_(bias)
        all_losses.append(F.cross_entropy(logits.flatten(0, 1), chosen.flatten(), reduction="none").view_as(chosen))
        all_ids.append(chosen)
        progress(len(chosen))
    return torch.cat(all_ids).t(), torch.cat(all_losses).t()


def readable(text: str) -> str:
    """The text with its lone surrogates decoded, so that it can be printed as UTF-8.

    They stand for bytes, in dictionaries of Flair whose items are no whole characters (`model_files/flair.py`); bytes
    that are not UTF-8 become U+FFFD.
    """
    only_bytes = re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text)
    return only_bytes.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _check(language_model: LanguageModel, length: int, temperature: float, samples: int, seed: int | None) -> None:
    problems = []
    if language_model.model.decoder is None:
        problems.append("The model has no decoder: it can embed, but not generate.")
    if length < 1:
        problems.append(f"length is {length}; it must be at least 1.")
    if samples < 1:
        problems.append(f"samples is {samples}; it must be at least 1.")
    if not 0 <= temperature < math.inf:
        problems.append(f"temperature is {temperature}; it must be 0 (greedy) or a positive number.")
    if seed is not None and not 0 <= seed < 2**64:
        problems.append(f"seed is {seed}; it must be from 0 to 2**64 - 1.")
    raise_if_any(problems)


def _ids_in_reading_order(language_model: LanguageModel, prefix: str) -> Tensor:
    """The ids of the prefix in the order of reading, int64 `(N,)`, N ≥ 1: a prefix without words becomes item 0."""
    ids = encode(language_model, prefix)
    return torch.from_numpy(ids.astype(np.int64)) if len(ids) else torch.zeros(1, dtype=torch.int64)


def _state_after(language_model: LanguageModel, ids: Tensor) -> Hidden:
    """The state `(L, 1, H)` after int64 ids `(N,)`, read in pieces to bound memory."""
    hidden = language_model.model.zero_hidden(1)
    for piece in ids.split(1024):
        if len(piece):
            _, hidden = language_model.model(piece[:, None], hidden)
    return hidden


def _noise(noise: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """Fills a tensor with Gumbel noise times the temperature.

    The argmax of logits + noise is a sample from softmax(logits / temperature) (Gumbel, 1954). Without a division by
    the temperature nothing overflows, and temperature 0 gives the most probable item.
    """
    smallest = torch.finfo(noise.dtype).tiny  # log(0) * 0 would be NaN
    return noise.exponential_(generator=generator).clamp_min_(smallest).log_().mul_(-min(temperature, 1e30))


@dataclass
class _Sample:
    """One text being generated, and where it ended, if it did."""

    language_model: LanguageModel
    stop: str | None = None
    _items: list[str] = field(default_factory=list)
    _end: int | None = None

    @property
    def _separator(self) -> str:
        return " " if self.language_model.level == "word" else ""

    def add(self, index: int) -> bool:
        """Adds an item, unless the sample has ended; returns whether it has ended."""
        if self._end is None and self.stop:
            self._items.append(self.language_model.dictionary.items[index])
            last = self._items[-len(self.stop) :]  # an item is at least a character long
            if self.language_model.is_forward_lm:
                found = self._separator.join(last).endswith(self.stop)
            else:
                found = self._separator.join(last[::-1]).startswith(self.stop)
            if found:
                self._end = len(self._items)
        return self._end is not None

    def length(self, generated: int) -> int:
        """How many of the generated items belong to the sample."""
        return generated if self._end is None else self._end

    def text(self, prefix: str, ids: list[int]) -> str:
        items = [self.language_model.dictionary.items[index] for index in ids[: self.length(len(ids))]]
        if self.language_model.level == "word":
            prefix = " ".join(prefix.split())
        if self.language_model.is_forward_lm:
            return self._separator.join([prefix, *items] if prefix else items)
        return self._separator.join([*items[::-1], prefix] if prefix else items[::-1])
