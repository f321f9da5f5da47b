"""Runs a trained model one item at a time, for generating and embedding."""

from typing import NoReturn

import torch
from torch import Tensor

from lmtrain.errors import UserError
from lmtrain.kernels.capabilities import gains_by_bfloat16
from lmtrain.kernels.step_layers import FEW_SEQUENCES
from lmtrain.model.language_model import RecurrentLM


class Stepper:
    """Runs the recurrent layers of a model (without dropout) over B sequences, one item of each at a time.

    It holds a copy of the model's weights, and the state, which is zero at first.

    Args:
        model: the network.
        batch_size: B.
        dtype: of the matrix products, float32 or bfloat16. State and outputs are float32.
        decode: also compute `scores`, for which the model must have a decoder.
    """

    def __init__(
        self, model: RecurrentLM, batch_size: int, dtype: torch.dtype = torch.float32, decode: bool = False
    ) -> None:
        self.batch_size = batch_size
        embeddings = model.encoder.weight.detach().float()
        nothing = embeddings.new_empty(0, model.sizes.hidden_size), embeddings.new_empty(0)
        decoder_weight, self.decoder_bias = _decoder(model) if decode else nothing
        extra_weights = [nothing[0]] * (model.sizes.nlayers - 1) + [decoder_weight]
        layer = model.sizes.cell.step_layer
        self._layers = [
            layer(model.rnn, number, batch_size, dtype, weight) for number, weight in enumerate(extra_weights)
        ]
        self._project = self._layers[0].projection_of_items(embeddings)
        self.set_hidden(model.zero_hidden(1))

    def __getstate__(self) -> NoReturn:
        """Raises `TypeError`: a copy would share its buffers with this one, and both would compute wrong outputs."""
        raise TypeError(
            "A Stepper cannot be copied or pickled, because it holds one state. Make another one from the model, and "
            "set its state: set_hidden(stepper.hidden)."
        )

    def step(self, ids: Tensor) -> Tensor:
        """Reads one item of every sequence.

        Args:
            ids: int64 `(B,)`.

        Returns:
            the output of the last layer, float32 `(B, H)`. The next step overwrites it.
        """
        first, *others = self._layers
        output = first.step(self._project(ids))
        for layer in others:
            output = layer.step(layer.project(output))
        return output

    @property
    def scores(self) -> Tensor:
        """The logits of the next item less `decoder_bias` `(V,)`, float32 `(B, V)`.

        The next step may overwrite it.
        """
        return self._layers[-1].scores

    @property
    def hidden(self) -> tuple[Tensor, ...]:
        """A copy of the state as `RecurrentLM` has it, each part float32 `(L, B, H)`."""
        return tuple(torch.stack(parts) for parts in zip(*(layer.state for layer in self._layers), strict=True))

    def set_hidden(self, hidden: tuple[Tensor, ...]) -> None:
        """Continues from a state of `RecurrentLM`, each part `(L, B, H)`, or `(L, 1, H)` for all sequences."""
        for number, layer in enumerate(self._layers):
            layer.set_state(tuple(part[number] for part in hidden))

    def reset(self, sequences: Tensor) -> None:
        """Zeroes the state of the sequences with these numbers, int64 `(N,)`."""
        for layer in self._layers:
            layer.reset(sequences)


def _decoder(model: RecurrentLM) -> tuple[Tensor, Tensor]:
    """The weight `(V, H)` and bias `(V,)` from the recurrent output to the logits, `proj` included."""
    assert model.decoder is not None  # whoever steps computes logits
    weight, bias = model.decoder.weight.detach().float(), model.decoder.bias.detach().float()
    if model.proj is None:
        return weight, bias
    # in float64 on the CPU: Apple's GPUs have none
    parts = (weight, bias, model.proj.weight.detach(), model.proj.bias.detach())
    exact, exact_bias, projection, shift = (part.cpu().double() for part in parts)
    return (exact @ projection).float().to(weight.device), (exact @ shift + exact_bias).float().to(weight.device)


def product_dtype(precision: str, model: RecurrentLM, batch_size: int) -> torch.dtype:
    """The dtype to give a `Stepper`: float32 for "32"; for "bf16" bfloat16, if that is faster for this batch size.

    It is on the GPUs and processors that `gains_by_bfloat16` knows. Other processors gain with few sequences only,
    where reading the weights takes most of the time.

    Raises:
        UserError: precision is something else.
    """
    if str(precision) not in ("32", "bf16"):
        raise UserError(f'precision is {precision!r}; it must be "32" or "bf16".')
    device_type = model.encoder.weight.device.type
    is_faster = gains_by_bfloat16(device_type) or (device_type == "cpu" and batch_size <= FEW_SEQUENCES)
    return torch.bfloat16 if str(precision) == "bf16" and is_faster else torch.float32
