"""The character language model, and a trained one with its dictionary."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lmtrain.data.dictionary import Dictionary
from lmtrain.model.cpu.dropout import Dropout
from lmtrain.model.cpu.lstm import LSTM
from lmtrain.model.cuda import GRU
from lmtrain.model.loss import decoder_loss

RECURRENT_TYPES = {"LSTM": LSTM, "GRU": GRU}

Hidden = tuple[Tensor, ...]
"""The recurrent state: (h, c) of an LSTM, (h,) of a GRU, each `(L, B, H)`."""


class CharLM(nn.Module):
    """A recurrent language model with Flair's architecture, parameter names and initialisation.

    Shapes: T characters in time, B sequences, V items, E = `embedding_size`, H = `hidden_size`,
    D = `nout` if it is set, else H, L = `nlayers`.

    Args:
        vocabulary_size: V.
        hidden_size: H.
        nlayers: L.
        embedding_size: E.
        nout: D, the size of a linear projection of the recurrent output; None for no projection.
        dropout: probability on the embeddings, between layers and on the output.
        recurrent_type: "LSTM" or "GRU", in any case.
        has_decoder: False for a model that can only embed.
    """

    def __init__(
        self,
        vocabulary_size: int,
        hidden_size: int,
        nlayers: int = 1,
        embedding_size: int = 100,
        nout: int | None = None,
        dropout: float = 0.1,
        recurrent_type: str = "LSTM",
        has_decoder: bool = True,
    ) -> None:
        super().__init__()
        self.vocabulary_size = vocabulary_size
        self.hidden_size = hidden_size
        self.nlayers = nlayers
        self.embedding_size = embedding_size
        self.nout = nout
        self.dropout = dropout
        self.recurrent_type = recurrent_type

        self.drop = Dropout(dropout)
        self.encoder = nn.Embedding(vocabulary_size, embedding_size)
        recurrent = RECURRENT_TYPES[recurrent_type.upper()]
        self.rnn = recurrent(embedding_size, hidden_size, nlayers, dropout=dropout if nlayers > 1 else 0.0)
        self.proj = nn.Linear(hidden_size, nout) if nout is not None else None
        self.decoder = nn.Linear(nout or hidden_size, vocabulary_size) if has_decoder else None
        self._initialize()

    def _initialize(self) -> None:
        """Flair's: torch's own for `rnn`, uniform for the rest."""
        with torch.no_grad():
            self.encoder.weight.uniform_(-0.1, 0.1)
            if self.proj is not None:
                bound = math.sqrt(3.0 / (self.hidden_size + self.proj.out_features))
                self.proj.weight.uniform_(-bound, bound)
            if self.decoder is not None:
                self.decoder.weight.uniform_(-0.1, 0.1)
                self.decoder.bias.zero_()

    @property
    def output_size(self) -> int:
        """D, the length of an embedding."""
        return self.nout or self.hidden_size

    def forward(self, ids: Tensor, hidden: Hidden | None = None) -> tuple[Tensor, Hidden]:
        """Runs the recurrence.

        Args:
            ids: int64 `(T, B)`.
            hidden: the state to begin with; zeros if None.

        Returns:
            the output after every item `(T, B, D)`, and the state after the last one.
        """
        embedded = self.drop(self.encoder(ids))
        if isinstance(self.rnn, nn.GRU):
            output, last = self.rnn(embedded, None if hidden is None else hidden[0])
            hidden = (last,)
        else:
            output, hidden = self.rnn(embedded, hidden)
        if self.proj is not None:
            output = self.proj(output)
        return self.drop(output), hidden

    def loss(self, ids: Tensor, targets: Tensor, hidden: Hidden | None = None) -> tuple[Tensor, Hidden]:
        """The mean negative log-likelihood of the targets.

        Args:
            ids: int64 `(T, B)`.
            targets: int64 `(T, B)`, the item that follows each of `ids`.
            hidden: the state to begin with; zeros if None.

        Returns:
            a float32 scalar (float64 of a float64 model) in nats per item, and the state after the last item.
        """
        output, hidden = self(ids, hidden)
        return decoder_loss(self.decoder, output.flatten(0, 1), targets.flatten()), hidden

    def zero_hidden(self, batch_size: int) -> Hidden:
        """The state at the beginning of a text: zeros `(L, B, H)`."""
        zeros = self.encoder.weight.new_zeros(self.nlayers, batch_size, self.hidden_size)
        return (zeros,) if isinstance(self.rnn, nn.GRU) else (zeros, zeros.clone())


def detach(hidden: Iterable[Tensor]) -> Hidden:
    """The same state without its history: where backpropagation through time is truncated."""
    return tuple(part.detach() for part in hidden)


@dataclass(frozen=True)
class LanguageModel:
    """A trained model with what is needed to use it.

    Args:
        model: the network, in eval mode.
        dictionary: its items.
        is_forward_lm: False if it reads text from its end to its beginning.
        document_delimiter: what ended documents in training.
        level: "character" or "word".
    """

    model: CharLM
    dictionary: Dictionary
    is_forward_lm: bool = True
    document_delimiter: str = "\n"
    level: str = "character"

    @property
    def direction(self) -> str:
        return "forward" if self.is_forward_lm else "backward"
