"""Contextual string embeddings of words (Akbik et al., 2018): the vectors of Flair's `FlairEmbeddings`, without Flair.

1. A sentence becomes the string that the model reads: delimiter, text (reversed for a backward model), a space.
2. Every token gets a position in the string: after the token and the next space for a forward model, after the token
   and the space before it for a backward model.
3. The strings are laid out in lanes, one after the other, so that lanes need hardly any padding.
4. The model runs over the lanes; the state is zeroed where a string begins, and the recurrent output is taken at the
   position of each token.
"""

import heapq
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmtrain.errors import UserError, raise_if_any
from lmtrain.inference.embedding_strings import ModelInput, joined, read
from lmtrain.inference.stepper import Stepper, product_dtype
from lmtrain.model.language_model import LanguageModel, RecurrentLM

_LONG = 1024  # characters: longer strings are read by the network's own layers, in windows
_MIN_WINDOW, _MAX_WINDOW = 64, 4096  # steps of a window; between these, as many as have
_WINDOW_ELEMENTS = 1 << 19  # numbers in the output, so that the gates, four times as many, stay in the cache
_MAX_LANES = {"cpu": 128, "cuda": 1024}  # with more, a step takes longer and a character no less time
_PROGRESS_STEPS = 64  # of a `Stepper` between two calls of `progress`

Progress = Callable[[float], object]


class StringEmbeddings:
    """Embeds tokenized sentences with one or more character models, stacked in their order.

    The vectors are those of Flair's `StackedEmbeddings` of a `FlairEmbeddings` for each model. Threads may share an
    instance, and take turns; it may be pickled, copied and forked. The options are Flair's:

    Args:
        language_models: usually a forward and a backward one. Their weights are used as they are at the first call.
        with_whitespace: take the state after the space that follows a token (forward; backward: precedes it);
            otherwise after its last (first) character.
        tokenized_lm: the models were trained on tokenized text: tokens are joined by one space each. Otherwise by
            `whitespace_after`.
        is_lower: the models were trained on text in lower case. (Like Flair, positions are counted in the original
            text, and shift after a character such as `İ` that is longer in lower case.)
        chars_per_chunk: Flair's limit on memory, accepted so that calls need not change. It has no effect here,
            because only the outputs at tokens are kept.
        precision: "32", or "bf16" for matrix products in bfloat16 where they are faster than in float32: on GPUs,
            Intel's processors with AMX and AMD's with AVX512-BF16. Elsewhere "bf16" computes in float32; `dtype`
            is the type in use.

    Raises:
        UserError: no model, a model of words, or an option that does not exist.
    """

    def __init__(
        self,
        *language_models: LanguageModel,
        with_whitespace: bool = True,
        tokenized_lm: bool = True,
        is_lower: bool = False,
        chars_per_chunk: int = 512,
        precision: str = "32",
    ) -> None:
        problems = []
        if not language_models:
            problems.append("There is no model to embed with. Give at least one.")
        if any(language_model.level != "character" for language_model in language_models):
            problems.append("Words can only be embedded by a model of characters; this is a model of words.")
        if chars_per_chunk < 1:
            problems.append(f"chars_per_chunk is {chars_per_chunk}; it must be at least 1.")
        raise_if_any(problems)
        self.language_models = language_models
        self.with_whitespace = with_whitespace
        self.tokenized_lm = tokenized_lm
        self.is_lower = is_lower
        self.dtype = product_dtype(precision, language_models[0].model, _MAX_LANES["cpu"])
        self.forget_steppers()
        _all.add(self)

    def forget_steppers(self) -> None:
        self._lock = threading.Lock()  # one thread at a time uses a stepper, which has one state
        self._steppers: list[Stepper | None] = [None] * len(self.language_models)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_steppers")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.forget_steppers()
        _all.add(self)

    @property
    def embedding_length(self) -> int:
        """The length of a vector: the sum of the models' output sizes."""
        return sum(language_model.model.sizes.output_size for language_model in self.language_models)

    @torch.no_grad()
    def embed(
        self,
        sentences: Sequence[Sequence[str]],
        whitespace_after: Sequence[Sequence[int]] | None = None,
        progress: Progress | None = None,
    ) -> list[Tensor]:
        """Embeds every token.

        Args:
            sentences: tokens of each sentence. An empty token, which Flair drops, is skipped and gets zeros.
            whitespace_after: for `tokenized_lm=False`, how many spaces follow each token, as `spaces_after` reads
                from the text; one each if None.
            progress: called with the share of the work, from 0 to 1, that was done since its last call.

        Returns:
            float32 `(tokens, embedding_length)` for every sentence, on the models' device: views of one tensor.

        Raises:
            UserError: a sentence is a string instead of a list of tokens, or `whitespace_after` does not fit.
        """
        _check(sentences, whitespace_after)
        counts = [len(tokens) for tokens in sentences]
        device = self.language_models[0].model.encoder.weight.device
        vectors = torch.zeros(sum(counts), self.embedding_length, device=device)
        if self.tokenized_lm or whitespace_after is None:
            whitespace_after = [[1] * count for count in counts]
        texts = [joined(*pair, self.tokenized_lm) for pair in zip(sentences, whitespace_after, strict=True)]
        inputs = [read(model, texts, self.with_whitespace, self.is_lower) for model in self.language_models]
        characters = sum(len(one.ids) for one in inputs)

        def have_read(count: float) -> None:
            if progress is not None:
                progress(count / characters)

        parts = vectors.split([model.model.sizes.output_size for model in self.language_models], dim=1)
        for number, (one, part) in enumerate(zip(inputs, parts, strict=True)):
            with self._lock:
                self._run(number, self._run_long(number, one, part, have_read), part, have_read)
        return list(vectors.split(counts))

    def _run_long(self, number: int, model_input: ModelInput, vectors: Tensor, progress: Progress) -> ModelInput:
        """Fills `vectors` `(tokens, D)` for the long strings, and returns the input without these.

        For many steps of few strings, the network's own layers are faster than a `Stepper`.
        """
        model = self.language_models[number].model
        weight = model.encoder.weight
        is_long = (model_input.lengths > _LONG) & (not model.training and weight.dtype == torch.float32)
        longest_first = np.argsort(-model_input.lengths, kind="stable")[: int(is_long.sum())]
        for begin in range(0, len(longest_first), _MAX_LANES["cpu"]):
            group = longest_first[begin : begin + _MAX_LANES["cpu"]]
            for output, characters, taken in _windows_of_long(model, model_input, group, self.dtype):
                rows = torch.from_numpy(model_input.rows[taken[0]]).to(weight.device)
                places = (torch.from_numpy(part).to(weight.device) for part in taken[1:])
                vectors[rows] = output[tuple(places)].float()
                progress(characters)
        return model_input.without(is_long) if is_long.any() else model_input

    def _run(self, number: int, model_input: ModelInput, vectors: Tensor, progress: Progress) -> None:
        """Fills `vectors` `(tokens, D)` with the outputs of model `number`."""
        if not len(model_input.rows):
            return
        model = self.language_models[number].model
        device = model.encoder.weight.device
        lanes = _Lanes(model_input.lengths, _MAX_LANES.get(device.type, 128))
        stepper = self._stepper(number, lanes.count)
        ids = torch.from_numpy(lanes.lay_out(model_input.ids)).to(device)
        is_read = model_input.lengths > 0
        resets = _by_step(lanes.begins[is_read], lanes.lane[is_read], lanes.steps, device)
        times = lanes.begins[model_input.sentence] + model_input.position
        order = np.argsort(times, kind="stable")
        wanted = _by_step(times[order], lanes.lane[model_input.sentence[order]], lanes.steps, device)
        taken, done = vectors.new_empty(len(order), model.sizes.hidden_size), 0
        for step, (step_ids, reset, take) in enumerate(zip(ids, resets, wanted, strict=True)):
            if len(reset):
                stepper.reset(reset)
            output = stepper.step(step_ids)
            if len(take):
                torch.index_select(output, 0, take, out=taken[done : done + len(take)])
                done += len(take)
            if step % _PROGRESS_STEPS == 0:
                progress(len(model_input.ids) * min(_PROGRESS_STEPS, lanes.steps - step) / lanes.steps)
        vectors[torch.from_numpy(model_input.rows[order]).to(device)] = (
            taken if model.proj is None else model.proj(taken)
        )

    def _stepper(self, number: int, lanes: int) -> Stepper:
        """A stepper, the former one if it has as many lanes: preparing the weights costs as much as many steps."""
        stepper = self._steppers[number]
        if stepper is None or stepper.batch_size != lanes:
            stepper = self._steppers[number] = Stepper(self.language_models[number].model, lanes, self.dtype)
        return stepper


_all: weakref.WeakSet[StringEmbeddings] = weakref.WeakSet()


def _forget_all_steppers() -> None:
    """Makes new locks in a forked process, where a thread that held one does not exist."""
    for embeddings in list(_all):
        embeddings.forget_steppers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all_steppers)


def spaces_after(tokens: Sequence[str], text: str) -> list[int]:
    """How many spaces follow each token in the text that it was cut from, as Flair's `Sentence` counts them.

    Raises:
        UserError: a token does not occur in the text after the one before it.
    """
    spaces: list[int] = []
    end = 0
    for token in tokens:
        begin = text.find(token, end)
        if begin < 0:
            raise UserError(f"The token {token!r} is not in the text {text[end:]!r}.")
        if spaces:
            spaces[-1] = begin - end
        spaces.append(0)
        end = begin + len(token)
    return spaces


def _check(sentences: Sequence[Sequence[str]], whitespace_after: Sequence[Sequence[int]] | None) -> None:
    if isinstance(sentences, str) or any(isinstance(tokens, str) for tokens in sentences):
        raise UserError("A sentence is a list of tokens, not a string: embed([text.split()]) for example.")
    if whitespace_after is not None and [len(tokens) for tokens in sentences] != [len(row) for row in whitespace_after]:
        raise UserError("whitespace_after must have one number for every token of every sentence.")


def _windows_of_long(
    model: RecurrentLM, model_input: ModelInput, group: np.ndarray, dtype: torch.dtype
) -> Iterator[tuple[Tensor, int, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Runs the network over some strings, the longest first, in windows.

    Yields:
        the outputs `(T, B, D)` of a window; how many characters were read; and the tokens to take from it, with
        their step and column, int64 `(N,)` each.
    """
    device, lengths = model.encoder.weight.device, model_input.lengths[group]
    starts = (np.cumsum(model_input.lengths) - model_input.lengths)[group]
    column_of = np.full(len(model_input.lengths), -1)
    column_of[group] = np.arange(len(group))
    tokens = np.flatnonzero(column_of[model_input.sentence] >= 0)
    tokens = tokens[np.argsort(model_input.position[tokens], kind="stable")]
    positions, hidden = model_input.position[tokens], model.zero_hidden(len(group))
    begin = 0
    while begin < lengths[0]:
        active = int((lengths > begin).sum())
        end = begin + min(_MAX_WINDOW, max(_MIN_WINDOW, _WINDOW_ELEMENTS // (active * model.sizes.hidden_size)))
        steps = np.arange(begin, min(end, int(lengths[0])))[:, None]
        places = np.minimum(steps, lengths[:active] - 1) + starts[:active]  # no output is taken beyond a string's end
        ids = torch.from_numpy(model_input.ids[places]).to(device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            output, hidden = model(ids, tuple(part[:, :active].contiguous() for part in hidden))
        first, last = np.searchsorted(positions, (begin, end))
        taken = tokens[first:last]
        characters = int(np.minimum(lengths[:active] - begin, end - begin).sum())
        yield output, characters, (taken, positions[first:last] - begin, column_of[model_input.sentence[taken]])
        begin = end


class _Lanes:
    """Strings in lanes, one after the other, so that all lanes are about equally long.

    Args:
        lengths: int64 `(strings,)`, not all zero.
        max_lanes: an upper limit; there are fewer if a lane would be shorter than the longest string.

    Attributes:
        count: how many lanes, B.
        steps: the length of the longest lane, T.
        lane, begins: int64 `(strings,)`, the lane and the step in which each string begins.
    """

    def __init__(self, lengths: np.ndarray, max_lanes: int) -> None:
        self._lengths = lengths
        self.count = int(min(max_lanes, -(-lengths.sum() // lengths.max())))
        self.lane, self.begins = np.zeros_like(lengths), np.zeros_like(lengths)
        shortest = [(0, lane) for lane in range(self.count)]
        for index in np.argsort(-lengths, kind="stable").tolist():  # the longest first, into the shortest lane
            end, lane = shortest[0]
            self.lane[index], self.begins[index] = lane, end
            heapq.heapreplace(shortest, (end + int(lengths[index]), lane))
        self.steps = max(end for end, _ in shortest)

    def lay_out(self, ids: np.ndarray) -> np.ndarray:
        """The ids of all strings, one after the other → int64 `(T, B)`."""
        table = np.zeros((self.steps, self.count), np.int64)
        ends = np.cumsum(self._lengths)
        steps = np.arange(len(ids)) + np.repeat(self.begins - (ends - self._lengths), self._lengths)
        table[steps, np.repeat(self.lane, self._lengths)] = ids
        return table


def _by_step(times: np.ndarray, lanes: np.ndarray, steps: int, device: torch.device) -> tuple[Tensor, ...]:
    """Groups lanes `(N,)` by their steps, `times` `(N,)`: for every step its lanes, int64."""
    order = np.argsort(times, kind="stable")
    counts = np.bincount(times, minlength=steps)
    by_step: tuple[Tensor, ...] = torch.from_numpy(lanes[order]).to(device).split(counts.tolist())
    return by_step
