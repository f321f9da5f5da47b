"""Recurrent layers that read one item at a time, for `lmtrain.inference.stepper.Stepper`.

nn.LSTM and nn.GRU rearrange their weights at every call, which costs more than a step. The layers here prepare their
weights once, and compute a step in place.

On CPUs torch's sigmoid takes a tenth of the time of its tanh, which is 1 - 2σ(-2x). So the rows of the weights that
lead to a tanh are multiplied by -2, which is exact, and all gates share one sigmoid.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lmtrain.kernels.capabilities import is_amd
from lmtrain.kernels.packed_product import packed_product

FEW_SEQUENCES = 4  # reading the weight takes longer than computing with it
_MAX_TABLE_ELEMENTS = 1 << 26  # 256 MiB of float32; larger vocabularies (of words) are projected at every step


class StepLayer(ABC):
    """One recurrent layer over B sequences; `set_state` must be called before the first step.

    Args:
        rnn: the module whose weights are copied.
        number: the number of the layer, from 0.
        batch_size: B.
        dtype: of the matrix products, float32 or bfloat16. State and outputs are float32.
        extra_weight: `(V, H)`, by which outputs are multiplied to give `scores`.
    """

    state: tuple[Tensor, ...]
    """float32 `(B, H)` each."""
    scores: Tensor
    """The latest output times `extra_weight`, float32 `(B, V)`; the next step may overwrite it."""

    @abstractmethod
    def __init__(self, rnn: nn.Module, number: int, batch_size: int, dtype: torch.dtype, extra_weight: Tensor) -> None:
        """Copies the weights."""

    @abstractmethod
    def set_state(self, state: tuple[Tensor, ...]) -> None:
        """Continues from copies of states `(B, H)`, or `(1, H)` for all sequences."""

    def reset(self, sequences: Tensor) -> None:
        """Zeroes the state of the sequences with these numbers, int64 `(N,)`."""
        for part in self.state:
            part.index_fill_(0, sequences, 0.0)

    def projection_of_items(self, embeddings: Tensor) -> Callable[[Tensor], Tensor]:
        """A function from ids `(B,)` to `project` of their embeddings, which are rows of `(V, E)`."""
        return lambda ids: self.project(embeddings.index_select(0, ids))

    def project(self, inputs: Tensor) -> Tensor:
        """Inputs `(B, E or H)` → the argument of `step`."""
        return inputs

    @abstractmethod
    def step(self, projected: Tensor) -> Tensor:
        """Reads an item of every sequence; returns the output, float32 `(B, H)`, which the next step may overwrite."""


class ModuleStep(StepLayer):
    """A layer of any cell, which its own module runs over windows of one item: right, but slow."""

    def __init__(self, rnn: nn.Module, number: int, batch_size: int, dtype: torch.dtype, extra_weight: Tensor) -> None:
        ending = f"_l{number}"
        weights = {
            name.removesuffix(ending) + "_l0": weight.detach().float()
            for name, weight in rnn.state_dict().items()
            if name.endswith(ending)
        }
        with torch.device("meta"):  # draws no random numbers
            self._module = type(rnn)(rnn.hidden_size if number else rnn.input_size, rnn.hidden_size, 1)
        self._module.load_state_dict(weights, assign=True)
        self._module.eval().requires_grad_(False)
        self._batch_size, self._dtype = batch_size, dtype
        self._score = product_of(extra_weight, batch_size, dtype)

    def set_state(self, state: tuple[Tensor, ...]) -> None:
        self.state = tuple(part.float().expand(self._batch_size, -1).clone() for part in state)

    def step(self, projected: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(projected.device.type, self._dtype, self._dtype != torch.float32):
            output, state = self._module(projected[None], tuple(part[None] for part in self.state))
        self.state = tuple(part[0].float() for part in state)
        output = output[0].float()
        self.scores = self._score(output).float()
        return output


class GatedStep(StepLayer):
    """A layer whose gates `(B, G)` add a projection of the input and one of the state; G = 4H (LSTM) or 3H (GRU).

    One product multiplies the new state by the recurrent weights, for the next step, and by the extra weight, for the
    scores. The first layer needs no product for its input: the projections of all items of a dictionary are a table.
    """

    order: tuple[int, ...]
    """The order of PyTorch's gates in this class; the last one, a tanh, is multiplied by -2."""

    def __init__(self, rnn: nn.RNNBase, number: int, batch_size: int, dtype: torch.dtype, extra_weight: Tensor) -> None:
        def weight(name: str, *more: Tensor) -> Tensor:
            gates = getattr(rnn, f"{name}_l{number}").detach().float().chunk(len(self.order))
            *sigmoids, tanh = (gates[gate] for gate in self.order)
            return torch.cat([*sigmoids, -2 * tanh, *more])

        self.input_weight, self.input_bias = weight("weight_ih"), weight("bias_ih")
        self.hidden_bias = weight("bias_hh")
        self.size = len(self.hidden_bias)
        self._product = product_of(weight("weight_hh", extra_weight), batch_size, dtype)
        self._project = None if number == 0 else product_of(self.input_weight, batch_size, dtype)
        self.h = self.input_weight.new_zeros(batch_size, rnn.hidden_size)
        self.gates = self.h.new_empty(batch_size, self.size)
        self.products = self.h.new_empty(0)

    def set_state(self, state: tuple[Tensor, ...]) -> None:
        for part, value in zip(self.state, state, strict=True):
            part.copy_(value)
        self.multiply()

    def reset(self, sequences: Tensor) -> None:
        super().reset(sequences)
        self.products.index_fill_(0, sequences, 0.0)

    def multiply(self) -> None:
        products = self._product(self.h)
        if products is not self.products:  # else the same tensor was written again
            self.products = products
            self.recurrent, scores = products[:, : self.size], products[:, self.size :]
            self.scores = scores.float()  # float32 is not copied

    def projection_of_items(self, embeddings: Tensor) -> Callable[[Tensor], Tensor]:
        if len(embeddings) * self.size > _MAX_TABLE_ELEMENTS:
            return super().projection_of_items(embeddings)
        table = torch.addmm(self.input_bias, embeddings, self.input_weight.t())
        return lambda ids: table.index_select(0, ids)

    def project(self, inputs: Tensor) -> Tensor:
        """Inputs `(B, E or H)` → their contribution to the gates `(B, G)`."""
        if self._project is None:
            return torch.addmm(self.input_bias, inputs, self.input_weight.t())
        return self._project(inputs) + self.input_bias


class LSTMStep(GatedStep):
    order = (0, 1, 3, 2)  # i, f, g, o → i, f, o, g

    def __init__(self, rnn: nn.RNNBase, number: int, batch_size: int, dtype: torch.dtype, extra_weight: Tensor) -> None:
        super().__init__(rnn, number, batch_size, dtype, extra_weight)
        self.input_bias = self.input_bias + self.hidden_bias
        self.c = self.h.clone()
        self.state = self.h, self.c
        self.i, self.f, self.o, self.g = self.gates.chunk(4, dim=1)

    def step(self, projected: Tensor) -> Tensor:
        torch.add(self.recurrent, projected, out=self.gates).sigmoid_()
        self.c.mul_(self.f).add_(self.i).addcmul_(self.i, self.g, value=-2)
        torch.mul(self.c, -2, out=self.h).sigmoid_()
        torch.addcmul(self.o, self.o, self.h, value=-2, out=self.h)
        self.multiply()
        return self.h


class GRUStep(GatedStep):
    order = (0, 1, 2)  # r, z, n

    def __init__(self, rnn: nn.RNNBase, number: int, batch_size: int, dtype: torch.dtype, extra_weight: Tensor) -> None:
        super().__init__(rnn, number, batch_size, dtype, extra_weight)
        self.state = (self.h,)
        self.r, self.z, self.n = self.gates.chunk(3, dim=1)
        self.sigmoids = self.gates[:, : 2 * self.h.shape[1]]  # r and z

    def step(self, projected: Tensor) -> Tensor:
        torch.add(self.recurrent, self.hidden_bias, out=self.gates)
        split = self.sigmoids.shape[1]
        self.sigmoids.add_(projected[:, :split]).sigmoid_()
        self.n.mul_(self.r).add_(projected[:, split:]).sigmoid_().mul_(-2).add_(1)
        self.h.sub_(self.n).mul_(self.z).add_(self.n)
        self.multiply()
        return self.h


def product_of(weight: Tensor, batch_size: int, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """A function from float32 `(B, in)` to `(B, out)` of the dtype, the product with a weight `(out, in)`.

    The next call may overwrite what it returned.
    """
    few = dtype == torch.float32 and batch_size <= FEW_SEQUENCES and not is_amd()
    weight = weight.to(dtype)
    if weight.device.type == "cpu" and not few:
        try:
            product = packed_product(weight, batch_size)
        except (AttributeError, RuntimeError):
            pass  # this platform's PyTorch lacks it
        else:
            return lambda x: product(x.to(dtype))
    if dtype == torch.float32:
        products = weight.new_empty(batch_size, len(weight))
        # for one sequence, a sum of scaled rows is faster than a dot product for each row
        columns = weight.t().contiguous() if batch_size == 1 else weight.t()
        return lambda x: torch.mm(x, columns, out=products)
    return lambda x: torch.mm(x.to(dtype), weight.t())
