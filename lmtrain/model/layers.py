"""The base class of recurrent cells that torch lacks: names the parameters of several layers and runs them in turn."""

import math

import torch
from torch import Tensor, nn

from lmtrain.kernels.dropout import Dropout

State = tuple[Tensor, ...]


class Layers(nn.Module):
    """Several layers of one cell, as `lmtrain.model.cells` requires them.

    A subclass states in `shapes` which parameters a layer has, and runs one layer in `layer`. Parameters are
    initialised as in torch's recurrent layers, uniformly between -1/√H and 1/√H.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.drop = Dropout(dropout)
        bound = 1 / math.sqrt(hidden_size)
        for number in range(num_layers):
            for name, shape in self.shapes(hidden_size if number else input_size, hidden_size).items():
                parameter = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
                self.register_parameter(f"{name}_l{number}", parameter)

    @staticmethod
    def shapes(inputs: int, units: int) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter of a layer, by the name of the argument of `layer`."""
        raise NotImplementedError

    def layer(self, input: Tensor, begin: State, **parameters: Tensor) -> tuple[Tensor, State]:
        """Runs a layer over a window.

        Args:
            input: `(T, B, E or H)`.
            begin: the states before the window, `(B, H)` each.
            parameters: those of `shapes`.

        Returns:
            the output `(T, B, H)`, and the states after the last step, in the types of `begin`.
        """
        raise NotImplementedError

    @torch.compiler.disable
    def forward(self, input: Tensor, hidden: State) -> tuple[Tensor, State]:
        """Runs all layers: `(T, B, E)` and states `(L, B, H)` → the output `(T, B, H)` and the states at the end."""
        output, ends = input, []
        names = self.shapes(self.input_size, self.hidden_size)
        for number, begin in enumerate(zip(*hidden, strict=True)):
            if number > 0:
                output = self.drop(output)
            output, end = self.layer(output, begin, **{name: getattr(self, f"{name}_l{number}") for name in names})
            ends.append(end)
        return output, tuple(torch.stack(parts) for parts in zip(*ends, strict=True))
