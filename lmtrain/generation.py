"""Text sampled from a trained model."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from lmtrain.errors import UserError, raise_if_any
from lmtrain.model import Hidden, LanguageModel
from lmtrain.stepper import Stepper


def generate(
    language_model: LanguageModel,
    prefix: str = "\n",
    length: int = 1000,
    temperature: float = 1.0,
    samples: int = 1,
    stop: str | None = None,
    seed: int | None = None,
) -> list[tuple[str, float]]:
    """Samples texts, all of them as one batch.

    As Flair's `generate_text`: the prefix is part of the text, an empty one becomes a line break, `<unk>` is
    sampled like any other item, and the second value is the mean **negative** log-probability in nats per
    generated item, at temperature 1 whatever the temperature of sampling.

    The text of a backward model reads forwards too: its prefix, given as it reads, is the end of the text, and
    the model writes what stands before it. (Flair feeds a backward model the prefix from left to right, so that
    it comes out reversed: `generate(model, prefix=p)` is Flair's `generate_text(prefix=p[::-1])`.)

    At word level, items are separated by spaces.

    Args:
        language_model: a model with a decoder.
        prefix: what the model has read before the first generated item.
        length: how many items to generate, at least 1.
        temperature: 0 always takes the most probable item; higher values take improbable ones more often.
        samples: how many texts.
        stop: a sample is complete as soon as its generated part ends with this (of a backward model: begins
            with it); None for always `length` items. It stays in the text.
        seed: the same seed gives the same texts on the same machine; None for PyTorch's global generator.

    Returns:
        a text and its mean negative log-probability for each sample.

    Raises:
        UserError: an argument is out of range, the model has no decoder, or the prefix has a character that is
            not in a dictionary without `<unk>`.
    """
    _check(language_model, length, temperature, samples)
    device = language_model.model.encoder.weight.device
    generator = None if seed is None else torch.Generator(device).manual_seed(seed)
    prefix = prefix or "\n"
    read = _ids_in_reading_order(language_model, prefix).to(device)
    written = [_Sample(language_model, stop) for _ in range(samples)]
    with torch.inference_mode():
        runner = Stepper(language_model.model, samples)
        runner.set_hidden(_state_after(language_model, read[:-1]))
        ids = read[-1:].expand(samples)
        chosen, losses = [], []
        for _ in range(length):
            logits = _logits(language_model, runner.step(ids))
            ids = _choose(logits, temperature, generator)
            chosen.append(ids)
            losses.append(F.cross_entropy(logits, ids, reduction="none"))
            if stop and all([sample.ends_with(index) for sample, index in zip(written, ids.tolist(), strict=True)]):
                break
        chosen, losses = torch.stack(chosen, dim=1).tolist(), torch.stack(losses, dim=1).double().cpu()
    return [
        (sample.text(prefix, items), float(nats[: sample.length(len(items))].mean()))
        for sample, items, nats in zip(written, chosen, losses, strict=True)
    ]


def _check(language_model: LanguageModel, length: int, temperature: float, samples: int) -> None:
    problems = []
    if language_model.model.decoder is None:
        problems.append("The model has no decoder: it can embed, but not generate.")
    if length < 1:
        problems.append(f"length is {length}; it must be at least 1.")
    if samples < 1:
        problems.append(f"samples is {samples}; it must be at least 1.")
    if not 0 <= temperature < math.inf:
        problems.append(f"temperature is {temperature}; it must be 0 (greedy) or a positive number.")
    raise_if_any(problems)


def _ids_in_reading_order(language_model: LanguageModel, prefix: str) -> Tensor:
    """The prefix as the model reads it, int64 `(N,)`, N ≥ 1: a prefix without a word becomes item 0."""
    dictionary = language_model.dictionary
    if language_model.level == "word":
        ids = [dictionary.ids.get(word, 0) for word in prefix.split()] or [0]
    else:
        ids = dictionary.encode(prefix)
    read = torch.as_tensor(ids, dtype=torch.int64)
    return read if language_model.is_forward_lm else read.flip(0)


def _state_after(language_model: LanguageModel, ids: Tensor) -> Hidden:
    """The state `(L, 1, H)` after reading int64 ids `(N,)`, in pieces that bound memory."""
    hidden = language_model.model.zero_hidden(1)
    for piece in ids.split(1024):
        if len(piece):
            _, hidden = language_model.model(piece[:, None], hidden)
    return hidden


def _logits(language_model: LanguageModel, output: Tensor) -> Tensor:
    """The recurrent output `(B, H)` → float32 scores of the next item `(B, V)`."""
    model = language_model.model
    return model.decoder(output if model.proj is None else model.proj(output))


def _choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """Samples int64 ids `(B,)` from softmax(logits / temperature) without dividing by the temperature.

    The largest of logits + temperature * g, where g is Gumbel noise, is such a sample (Gumbel, 1954), and is
    the most probable item if the temperature is 0.
    """
    exponential = torch.empty_like(logits).exponential_(generator=generator)
    noise = exponential.clamp_min_(torch.finfo(logits.dtype).tiny).log_()  # -g; without the clamp 0 * inf is possible
    return torch.sub(logits, noise, alpha=min(temperature, 1e30)).argmax(dim=1)


@dataclass
class _Sample:
    """One text on its way: where it ended, if it did."""

    language_model: LanguageModel
    stop: str | None
    _items: list[str] = field(default_factory=list)
    _end: int | None = None

    @property
    def _separator(self) -> str:
        return " " if self.language_model.level == "word" else ""

    def ends_with(self, index: int) -> bool:
        """Adds an item, unless the sample has ended. Returns whether it has."""
        if self._end is None:
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
