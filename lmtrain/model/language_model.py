"""The network (`RecurrentLM`), its sizes, and a trained network with its dictionary (`LanguageModel`)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from lmtrain.data.dictionary import Dictionary
from lmtrain.kernels.dropout import Dropout
from lmtrain.model.cells import CELLS, Cell
from lmtrain.model.loss import decoder_loss

Hidden = tuple[Tensor, ...]
"""The recurrent state: (h, c) of an LSTM, (h,) of a GRU, each `(L, B, H)`."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model, by Flair's names.

    Args:
        vocabulary_size: V, how many items the dictionary has.
        hidden_size: H, how many hidden units a layer has.
        nlayers: L, how many recurrent layers.
        embedding_size: E, the length of an item's embedding.
        nout: the size of a linear projection of the recurrent output; None for no projection.
        dropout: probability on the embeddings, between layers and on the output.
        recurrent_type: a name in `CELLS`, in any case.
    """

    vocabulary_size: int
    hidden_size: int
    nlayers: int = 1
    embedding_size: int = 100
    nout: int | None = None
    dropout: float = 0.1
    recurrent_type: str = "LSTM"

    @property
    def cell(self) -> Cell:
        return CELLS[self.recurrent_type.upper()]

    @property
    def output_size(self) -> int:
        """D, the length of the model's output, which is what it embeds with: `nout` if it is set, else H."""
        return self.nout or self.hidden_size


class RecurrentLM(nn.Module):
    """A recurrent language model with Flair's architecture, parameter names and initialisation.

    Shapes: T items in time, B sequences, and V, E, H, L, D as in `Sizes`.

    Args:
        sizes: the sizes of the model.
        has_decoder: False for a model that can only embed.
    """

    def __init__(self, sizes: Sizes, has_decoder: bool = True) -> None:
        super().__init__()
        self.sizes = sizes
        self.drop = Dropout(sizes.dropout)
        self.encoder = nn.Embedding(sizes.vocabulary_size, sizes.embedding_size)
        between_layers = sizes.dropout if sizes.nlayers > 1 else 0.0
        self.rnn = sizes.cell.module(sizes.embedding_size, sizes.hidden_size, sizes.nlayers, dropout=between_layers)
        self.proj = nn.Linear(sizes.hidden_size, sizes.nout) if sizes.nout is not None else None
        self.decoder = nn.Linear(sizes.output_size, sizes.vocabulary_size) if has_decoder else None
        self._initialize()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Also reads pickles of earlier versions, in which the sizes were attributes."""
        if "sizes" not in state:
            state = {**state, "sizes": Sizes(**{field.name: state[field.name] for field in fields(Sizes)})}
        super().__setstate__(state)

    def _initialize(self) -> None:
        """Initialises as Flair does: `rnn` as its module does, the rest uniformly."""
        with torch.no_grad():
            self.encoder.weight.uniform_(-0.1, 0.1)
            if self.proj is not None:
                bound = math.sqrt(3.0 / (self.proj.in_features + self.proj.out_features))
                self.proj.weight.uniform_(-bound, bound)
            if self.decoder is not None:
                self.decoder.weight.uniform_(-0.1, 0.1)
                self.decoder.bias.zero_()

    def forward(self, ids: Tensor, hidden: Hidden | None = None) -> tuple[Tensor, Hidden]:
        """Runs the recurrence.

        Args:
            ids: int64 `(T, B)`.
            hidden: the initial state; zeros if None.

        Returns:
            the output after every item `(T, B, D)`, and the state after the last one.
        """
        if hidden is None:
            hidden = self.zero_hidden(ids.shape[1])
        output, hidden = self.rnn(self.drop(self.encoder(ids)), hidden)
        if self.proj is not None:
            output = self.proj(output)
        return self.drop(output), hidden

    def loss(self, ids: Tensor, targets: Tensor, hidden: Hidden | None = None) -> tuple[Tensor, Hidden]:
        """The mean negative log-likelihood of the targets.

        Args:
            ids: int64 `(T, B)`.
            targets: int64 `(T, B)`, the item that follows each of `ids`.
            hidden: the initial state; zeros if None.

        Returns:
            a float32 scalar (float64 of a float64 model) in nats per item, and the state after the last item.
        """
        assert self.decoder is not None  # a model that can only embed is never trained
        output, hidden = self(ids, hidden)
        return decoder_loss(self.decoder, output.flatten(0, 1), targets.flatten()), hidden

    def zero_hidden(self, batch_size: int) -> Hidden:
        """The state at the beginning of a text: zeros `(L, B, H)` for each state that the cell has."""
        shape = self.sizes.nlayers, batch_size, self.sizes.hidden_size
        return tuple(self.encoder.weight.new_zeros(shape) for _ in self.sizes.cell.states)


def parameter_shapes(sizes: Sizes, has_decoder: bool = True) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter by its name, found without allocating them.

    Raises:
        OverflowError: a parameter would be larger than any memory.
    """
    few = _few_layers(sizes, has_decoder)
    shapes = {name: tuple(parameter.shape) for name, parameter in few.named_parameters()}
    repeated = [name.removesuffix("1") for name in shapes if name.startswith("rnn.") and name.endswith("_l1")]
    for layer in range(2, sizes.nlayers):
        shapes |= {f"{name}{layer}": shapes[f"{name}1"] for name in repeated}
    return shapes


def parameter_count(sizes: Sizes) -> int:
    """The number of trained parameters of a model, found without allocating them.

    Raises:
        OverflowError: a parameter would be larger than any memory.
    """
    few = _few_layers(sizes, has_decoder=True)
    counts = {name: parameter.numel() for name, parameter in few.named_parameters()}
    further = sum(count for name, count in counts.items() if name.startswith("rnn.") and name.endswith("_l1"))
    return sum(counts.values()) + further * max(0, sizes.nlayers - 2)


def _few_layers(sizes: Sizes, has_decoder: bool) -> RecurrentLM:
    """The model with at most two layers, on the meta device; further layers have the shapes of the second."""
    try:
        with torch.device("meta"):
            return RecurrentLM(replace(sizes, nlayers=min(sizes.nlayers, 2)), has_decoder)
    except (RuntimeError, TypeError) as error:  # of 64-bit numbers
        raise OverflowError(f"{sizes} are too large: {error}") from None


def detach(hidden: Iterable[Tensor]) -> Hidden:
    """The same state without its history, which truncates backpropagation through time there."""
    return tuple(part.detach() for part in hidden)


@dataclass(frozen=True)
class LanguageModel:
    """A trained model with everything that is needed to use it.

    Args:
        model: the network, in eval mode.
        dictionary: its items.
        is_forward_lm: False if it reads text from the end to the beginning.
        document_delimiter: the text that ended documents in training.
        level: "character" or "word".
    """

    model: RecurrentLM
    dictionary: Dictionary
    is_forward_lm: bool = True
    document_delimiter: str = "\n"
    level: str = "character"

    @property
    def direction(self) -> str:
        return "forward" if self.is_forward_lm else "backward"
