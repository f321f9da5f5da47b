"""Builds the ONNX graph of a `RecurrentLM`, operator by operator.

PyTorch's exporters depend on which versions of torch, onnxscript and onnx fit together. The network has only four kinds
of layers, for which ONNX has operators or `CELLS` a function.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from lmtrain.errors import UserError
from lmtrain.model.cells import OnnxOperator
from lmtrain.model.language_model import RecurrentLM

_OPSET = 17


def build(model: RecurrentLM, settings: str) -> onnx.ModelProto:
    """The checked model, with its weights and with `settings` in the metadata entry `lmtrain`.

    Inputs and outputs are described in `lmtrain.model_files.export.save_onnx`.

    Raises:
        UserError: ONNX has no such recurrent cell.
    """
    sizes, graph = model.sizes, Graph()
    states = list(sizes.cell.states)
    add_layer = _layer_function(sizes.recurrent_type, sizes.cell.onnx)
    value = graph.add("Gather", [graph.constant("encoder", model.encoder.weight), "ids"])
    ends = []
    for number in range(sizes.nlayers):
        layer = graph.constant(f"layer_{number}", np.array([number], np.int64))
        begin = [graph.add("Gather", [state, layer], axis=0) for state in states]
        value, end = add_layer(graph, model.rnn, number, value, begin)
        ends.append(end)
    for state, of_layers in zip(states, zip(*ends, strict=True), strict=True):
        graph.add("Concat", list(of_layers), f"{state}_last", axis=0)
    if model.proj is not None:
        value = graph.linear("proj", model.proj.weight, model.proj.bias, value)
    graph.add("Identity", [value], "output")
    if model.decoder is not None:
        graph.linear("decoder", model.decoder.weight, model.decoder.bias, value, "logits")
    state_shape: list[str | int] = [sizes.nlayers, "batch", sizes.hidden_size]
    inputs = [_value("ids", ["time", "batch"], TensorProto.INT64), *(_value(state, state_shape) for state in states)]
    outputs = [_value("output", ["time", "batch", sizes.output_size])]
    if model.decoder is not None:
        outputs.append(_value("logits", ["time", "batch", sizes.vocabulary_size]))
    outputs += [_value(f"{state}_last", state_shape) for state in states]
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "RecurrentLM", inputs, outputs, graph.constants),
        producer_name="lmtrain",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=8,
    )
    helper.set_model_props(proto, {"lmtrain": settings})
    onnx.checker.check_model(proto, full_check=True)
    return proto


class Graph:
    """Collects the nodes and constants of a graph, and names the values between them."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: Tensor | np.ndarray) -> str:
        if isinstance(values, Tensor):
            values = values.detach().cpu().float().numpy()
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str | None = None, **attributes) -> str:
        """Adds a node with one output, and returns the output's name."""
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def linear(self, name: str, weight: Tensor, bias: Tensor, value: str, output: str | None = None) -> str:
        """Adds `torch.nn.functional.linear`; the names of its constants begin with `name`."""
        product = self.add("MatMul", [value, self.constant(f"{name}_weight", weight.t())])
        return self.add("Add", [product, self.constant(f"{name}_bias", bias)], output)

    def recurrence(self, share: str, candidates: str, state: str) -> tuple[str, str]:
        """Adds h_t = h_{t-1} + share_t·(candidate_t - h_{t-1}), step by step.

        Args:
            share, candidates: names of values `(T, B, H)`.
            state: the name of h_0, `(1, B, H)`.

        Returns:
            the names of all h `(T, B, H)` and of the last one `(1, B, H)`.
        """
        names = ("h", "share_t", "candidate_t", "difference", "moved", "h_t", "h_of_step")
        h, share_t, candidate_t, difference, moved, h_t, output = (f"{name}_{len(self.nodes)}" for name in names)
        nodes = [
            helper.make_node("Sub", [candidate_t, h], [difference]),
            helper.make_node("Mul", [share_t, difference], [moved]),
            helper.make_node("Add", [h, moved], [h_t]),
            helper.make_node("Identity", [h_t], [output]),
        ]
        inputs = [_value(h, [1, "batch", "units"]), *(_value(x, ["batch", "units"]) for x in (share_t, candidate_t))]
        outputs = [_value(x, [1, "batch", "units"]) for x in (h_t, output)]
        step = helper.make_graph(nodes, "step", inputs, outputs)
        end, all_states = f"end_{len(self.nodes)}", f"states_{len(self.nodes)}"
        scanned = [state, share, candidates]
        self.nodes.append(helper.make_node("Scan", scanned, [end, all_states], body=step, num_scan_inputs=2))
        directions = self.constant(f"directions_{len(self.nodes)}", np.array([1], np.int64))
        return self.add("Squeeze", [all_states, directions]), end


def _value(name: str, shape: list[str | int], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


AddLayer = Callable[[Graph, nn.Module, int, str, list[str]], tuple[str, list[str]]]
"""Adds a layer to a graph.

Called with (graph, module, number of the layer, name of its input `(T, B, E or H)`, names of its states `(1, B, H)`),
it returns the names of the output `(T, B, H)` and of the states after the last step.
"""


def _layer_function(recurrent_type: str, onnx_form: OnnxOperator | AddLayer | None) -> AddLayer:
    if onnx_form is None:
        raise UserError(
            f"Models with model.recurrent_type={recurrent_type} cannot be exported to ONNX, which has no such cell. "
            "Export to safetensors: --format safetensors"
        )
    return partial(_add_operator, onnx_form) if isinstance(onnx_form, OnnxOperator) else onnx_form


def _add_operator(
    operator: OnnxOperator, graph: Graph, rnn: nn.RNNBase, number: int, value: str, states: list[str]
) -> tuple[str, list[str]]:
    """Adds one of torch's layers as ONNX's operator for it."""

    def constant(name: str, *parts: str) -> str:
        blocks = [getattr(rnn, f"{part}_l{number}").chunk(len(operator.order)) for part in parts]
        rows = torch.cat([gates[gate] for gates in blocks for gate in operator.order])
        return graph.constant(f"{name}_{number}", rows[None])  # the first dimension is that of directions

    weights = [constant("weight_ih", "weight_ih"), constant("weight_hh", "weight_hh")]
    biases, all_lengths = constant("bias", "bias_ih", "bias_hh"), ""
    outputs = [f"all_{number}", *(f"end_{number}_{state}" for state in range(len(states)))]
    attributes: dict[str, Any] = {"hidden_size": rnn.hidden_size, **operator.attributes}
    inputs = [value, *weights, biases, all_lengths, *states]
    graph.nodes.append(helper.make_node(operator.name, inputs, outputs, **attributes))
    directions = graph.constant(f"directions_{number}", np.array([1], np.int64))
    return graph.add("Squeeze", [outputs[0], directions]), outputs[1:]
