"""The recurrence of a trained model, one item at a time, for generating and embedding.

nn.LSTM and nn.GRU rearrange their weights at every call, which costs more than a step does: called once a
character they spend most of their time on it. A `Stepper` prepares the weights once. The projection of the
input needs no matrix product at all: a dictionary has few items, so that of every item is looked up.

On CPUs torch's sigmoid takes a tenth of the time of its tanh, which is 1 - 2σ(-2x): the rows of the weights that lead
to a tanh are multiplied by -2, which loses no digits, and all gates go through one sigmoid.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lmtrain.errors import UserError
from lmtrain.model.cpu.capabilities import gains_by_bfloat16, is_amd
from lmtrain.model.cpu.packed_product import packed_product
from lmtrain.model.language_model import CharLM

_FEW_SEQUENCES = 4  # reading the weight takes longer than computing with it
_MAX_TABLE_ELEMENTS = 1 << 26  # 256 MiB of float32; larger vocabularies (of words) are projected at every step


class Stepper:
    """Runs the recurrent layers of a `CharLM` (without dropout) over B sequences, one item of each at a time.

    It holds a copy of the weights as they are now, and the state, which is zero at first.

    Args:
        model: the network.
        batch_size: B.
        dtype: of the matrix products, float32 or bfloat16. State and outputs are float32.
        decode: also compute `scores`, for which the model must have a decoder.
    """

    def __init__(
        self, model: CharLM, batch_size: int, dtype: torch.dtype = torch.float32, decode: bool = False
    ) -> None:
        self.batch_size = batch_size
        layer_type = _GRULayer if isinstance(model.rnn, nn.GRU) else _LSTMLayer
        embeddings = model.encoder.weight.detach().float()
        nothing = embeddings.new_empty(0, model.hidden_size), embeddings.new_empty(0)
        decoder_weight, self.decoder_bias = _decoder(model) if decode else nothing
        extra_weights = [nothing[0]] * (model.nlayers - 1) + [decoder_weight]
        self._layers = [
            layer_type(model.rnn, number, batch_size, dtype, extra) for number, extra in enumerate(extra_weights)
        ]
        self._project = _projection_of_items(embeddings, self._layers[0])

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
        """How likely each item is next, float32 `(B, V)`: the logits less `decoder_bias` `(V,)`.

        The next step may overwrite it.
        """
        return self._layers[-1].scores

    @property
    def hidden(self) -> tuple[Tensor, ...]:
        """A copy of the state as `CharLM` has it: (h, c) or (h,), each float32 `(L, B, H)`."""
        return tuple(torch.stack(parts) for parts in zip(*(layer.state for layer in self._layers), strict=True))

    def set_hidden(self, hidden: tuple[Tensor, ...]) -> None:
        """Continues from a state as `CharLM` gives it: (h, c) or (h,), each `(L, B, H)`, or `(L, 1, H)` for all."""
        for number, layer in enumerate(self._layers):
            for part, value in zip(layer.state, hidden, strict=True):
                part.copy_(value[number])
            layer.multiply()

    def reset(self, sequences: Tensor) -> None:
        """Sets the state of the sequences with these int64 numbers `(N,)` to zero."""
        for layer in self._layers:
            for part in (*layer.state, layer.products):
                part.index_fill_(0, sequences, 0.0)


def _decoder(model: CharLM) -> tuple[Tensor, Tensor]:
    """The weight `(V, H)` and bias `(V,)` that lead from the recurrent output to the logits, through `proj`."""
    weight, bias = model.decoder.weight.detach().float(), model.decoder.bias.detach().float()
    if model.proj is None:
        return weight, bias
    # in float64 on the CPU: Apple's GPUs have none
    parts = (weight, bias, model.proj.weight.detach(), model.proj.bias.detach())
    exact, exact_bias, projection, shift = (part.cpu().double() for part in parts)
    return (exact @ projection).float().to(weight.device), (exact @ shift + exact_bias).float().to(weight.device)


def _projection_of_items(embeddings: Tensor, layer: "_Layer") -> Callable[[Tensor], Tensor]:
    """ids `(B,)` → what the first layer's input contributes to its gates `(B, G)`."""
    if len(embeddings) * layer.size > _MAX_TABLE_ELEMENTS:
        return lambda ids: layer.project(embeddings.index_select(0, ids))
    table = torch.addmm(layer.input_bias, embeddings, layer.input_weight.t())
    return lambda ids: table.index_select(0, ids)


class _Layer:
    """One recurrent layer: G = 4H (LSTM) or 3H (GRU) gate values a sequence.

    As soon as it has its new state it multiplies it with the recurrent weights, for the next step, and with the
    decoder's, for the scores: one product for both.

    Args:
        rnn: the module whose weights are taken.
        number: which of its layers.
        extra_weight: a weight `(V, H)` to multiply the state with.
    """

    order: tuple[int, ...]
    """The order in which this class wants PyTorch's gates; the last one's is a tanh, and comes out multiplied by -2."""

    def __init__(self, rnn: nn.RNNBase, number: int, batch_size: int, dtype: torch.dtype, extra_weight: Tensor) -> None:
        def weight(name: str, *more: Tensor) -> Tensor:
            gates = getattr(rnn, f"{name}_l{number}").detach().float().chunk(len(self.order))
            *sigmoids, tanh = (gates[gate] for gate in self.order)
            return torch.cat([*sigmoids, -2 * tanh, *more])

        self.input_weight, self.input_bias = weight("weight_ih"), weight("bias_ih")
        self.hidden_bias = weight("bias_hh")
        self.size = len(self.hidden_bias)
        self._product = _product(weight("weight_hh", extra_weight), batch_size, dtype)
        self._project = None if number == 0 else _product(self.input_weight, batch_size, dtype)
        self.h = self.input_weight.new_zeros(batch_size, rnn.hidden_size)
        self.gates = self.h.new_empty(batch_size, self.size)
        self.products = self.h.new_empty(0)
        self.multiply()

    def multiply(self) -> None:
        products = self._product(self.h)
        if products is not self.products:  # else they were written into the same place
            self.products = products
            self.recurrent, scores = products[:, : self.size], products[:, self.size :]
            self.scores = scores.float()  # float32 is not copied

    def project(self, inputs: Tensor) -> Tensor:
        """Inputs `(B, E or H)` → what they contribute to the gates `(B, G)`."""
        if self._project is None:
            return torch.addmm(self.input_bias, inputs, self.input_weight.t())
        return self._project(inputs) + self.input_bias


class _LSTMLayer(_Layer):
    order = (0, 1, 3, 2)  # i, f, g, o → i, f, o, g

    def __init__(self, rnn: nn.LSTM, number: int, batch_size: int, dtype: torch.dtype, extra_weight: Tensor) -> None:
        super().__init__(rnn, number, batch_size, dtype, extra_weight)
        self.input_bias = self.input_bias + self.hidden_bias
        self.c = self.h.clone()
        self.i, self.f, self.o, self.g = self.gates.chunk(4, dim=1)

    @property
    def state(self) -> tuple[Tensor, ...]:
        return self.h, self.c

    def step(self, projected: Tensor) -> Tensor:
        torch.add(self.recurrent, projected, out=self.gates).sigmoid_()
        self.c.mul_(self.f).add_(self.i).addcmul_(self.i, self.g, value=-2)
        torch.mul(self.c, -2, out=self.h).sigmoid_()
        torch.addcmul(self.o, self.o, self.h, value=-2, out=self.h)
        self.multiply()
        return self.h


class _GRULayer(_Layer):
    order = (0, 1, 2)  # r, z, n

    def __init__(self, rnn: nn.GRU, number: int, batch_size: int, dtype: torch.dtype, extra_weight: Tensor) -> None:
        super().__init__(rnn, number, batch_size, dtype, extra_weight)
        self.r, self.z, self.n = self.gates.chunk(3, dim=1)
        self.sigmoids = self.gates[:, : 2 * rnn.hidden_size]  # r and z

    @property
    def state(self) -> tuple[Tensor, ...]:
        return (self.h,)

    def step(self, projected: Tensor) -> Tensor:
        torch.add(self.recurrent, self.hidden_bias, out=self.gates)
        split = self.sigmoids.shape[1]
        self.sigmoids.add_(projected[:, :split]).sigmoid_()
        self.n.mul_(self.r).add_(projected[:, split:]).sigmoid_().mul_(-2).add_(1)
        self.h.sub_(self.n).mul_(self.z).add_(self.n)
        self.multiply()
        return self.h


def _product(weight: Tensor, batch_size: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """A function from float32 `(B, in)` to `(B, out)` of the dtype, the product with a weight `(out, in)`.

    The next call may overwrite what it returned.
    """
    few = dtype == torch.float32 and batch_size <= _FEW_SEQUENCES and not is_amd()
    weight = weight.to(dtype)
    if weight.device.type == "cpu" and not few:
        try:
            product = packed_product(weight, batch_size)
        except (AttributeError, RuntimeError):
            pass  # this platform's PyTorch does not have it
        else:
            return lambda x: product(x.to(dtype))
    if dtype == torch.float32:
        products = weight.new_empty(batch_size, len(weight))
        # of one sequence: rows of the weight times numbers, added up, are faster than products of rows with the state
        columns = weight.t().contiguous() if batch_size == 1 else weight.t()
        return lambda x: torch.mm(x, columns, out=products)
    return lambda x: torch.mm(x.to(dtype), weight.t())


def product_dtype(precision: str, model: CharLM, batch_size: int) -> torch.dtype:
    """The dtype to give a `Stepper`: float32 for "32"; for "bf16" bfloat16, if that is faster for this batch size.

    That is on the GPUs and processors that `gains_by_bfloat16` knows. Another processor gains with few sequences, where
    reading the weights takes all the time, but loses with many.

    Raises:
        UserError: precision is something else.
    """
    if str(precision) not in ("32", "bf16"):
        raise UserError(f'precision is {precision!r}; it must be "32" or "bf16".')
    device_type = model.encoder.weight.device.type
    is_faster = gains_by_bfloat16(device_type) or (device_type == "cpu" and batch_size <= _FEW_SEQUENCES)
    return torch.bfloat16 if str(precision) == "bf16" and is_faster else torch.float32
