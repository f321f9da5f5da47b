"""The table of recurrent cells, with everything that the rest of lmtrain needs to know of each.

A new cell is a class and an entry here (CONTRIBUTING.md shows one). The class is an `nn.Module` of several layers;
`lmtrain.model.layers.Layers` does all of it but the formula:

- It is made with `(input_size, hidden_size, num_layers, dropout=0.0)`, has the first three as attributes, and applies
  dropout only between its layers.
- Its `forward(input, hidden)` runs a window: `(T, B, E)` and a tuple of states `(L, B, H)` → the output `(T, B, H)`
  and the states after the last step. A text begins with states of zeros. Consecutive windows that pass on the states
  must give the same as one long window.
- The parameters of layer k are named `NAME_lk`, and have the same shapes in all layers from the second on. Matrices
  are `weight_ih_lk` (input) and `weight_hh_lk` (state), with H rows for each gate; `Muon` updates each gate by itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from lmtrain.kernels.cuda import GRU
from lmtrain.kernels.lstm import LSTM
from lmtrain.kernels.step_layers import GRUStep, LSTMStep, ModuleStep, StepLayer
from lmtrain.model.mingru import MinGRU, add_to_onnx


@dataclass(frozen=True)
class OnnxOperator:
    """One of ONNX's own recurrent operators.

    Args:
        name: the operator's name.
        order: for each of its gates, the number of torch's gate.
        attributes: its attributes besides the hidden size.
    """

    name: str
    order: tuple[int, ...]
    attributes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """A kind of recurrent layers.

    Args:
        module: makes the layers, see above.
        gates: how many blocks of H rows the matrices have.
        states: the names of the states; h is the hidden state.
        step_layer: the class with which a `Stepper` computes a layer; the default runs the module itself, which is
            slower.
        onnx: the operator of a layer in ONNX, or a function that adds nodes to a graph (see `onnx_graph.Graph`); None
            if the cell cannot be exported.
        is_in_flair: whether Flair has the cell, with the same names, shapes and results.
        learns_by_sgd: whether plain SGD, the default, trains the cell well; a run with it warns if not.
    """

    module: Callable[..., nn.Module]
    gates: int
    states: tuple[str, ...] = ("h",)
    step_layer: type[StepLayer] = ModuleStep
    onnx: OnnxOperator | Callable | None = None
    is_in_flair: bool = False
    learns_by_sgd: bool = True


CELLS: dict[str, Cell] = {
    "LSTM": Cell(
        LSTM,
        gates=4,
        states=("h", "c"),
        step_layer=LSTMStep,
        onnx=OnnxOperator("LSTM", (0, 3, 1, 2)),  # torch's i, f, g, o as i, o, f, g
        is_in_flair=True,
    ),
    "GRU": Cell(
        GRU,
        gates=3,
        step_layer=GRUStep,
        onnx=OnnxOperator("GRU", (1, 0, 2), {"linear_before_reset": 1}),  # torch's r, z, n as z, r, n
        is_in_flair=True,
    ),
    "MINGRU": Cell(MinGRU, gates=2, onnx=add_to_onnx, learns_by_sgd=False),
}
"""The cells by their names in `model.recurrent_type`."""


def why_not_in_flair(recurrent_type: str) -> str | None:
    """Why Flair cannot read a model with a cell, and what to do; None if it can."""
    if CELLS[recurrent_type.upper()].is_in_flair:
        return None
    known = " and ".join(name for name, cell in CELLS.items() if cell.is_in_flair)
    return (
        f"Flair cannot read a model with model.recurrent_type={recurrent_type}: it has {known} only. lmtrain embeds, "
        "scores, generates and exports (--format safetensors) with it; for Flair, train with model.recurrent_type=LSTM."
    )
