"""A `CharLM` as an ONNX graph, written operator by operator.

PyTorch's exporters trace the module, and depend on how torch, onnxscript and onnx fit together; the network has
four kinds of layers, all of which ONNX has too.
"""

from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from lmtrain.model.language_model import CharLM

_OPSET = 17
_GATES = {"LSTM": "iofc", "GRU": "zrn"}  # ONNX's order of the gates; PyTorch's is ifgo (c is g) and rzn
_TORCH_GATES = {"LSTM": "ifco", "GRU": "rzn"}


def build(model: CharLM, settings: str) -> onnx.ModelProto:
    """The checked model, with its weights and with `settings` in the metadata entry `lmtrain`.

    Inputs and outputs are described in `lmtrain.model_files.export.save_onnx`.
    """
    graph = _Graph()
    states = ["h"] if isinstance(model.rnn, nn.GRU) else ["h", "c"]
    value = graph.add("Gather", [graph.constant("encoder", model.encoder.weight), "ids"])
    last = {state: [] for state in states}
    for number in range(model.nlayers):
        value = _recurrent_layer(graph, model.rnn, number, value, last)
    for state in states:
        graph.add("Concat", last[state], f"{state}_last", axis=0)
    if model.proj is not None:
        value = _linear(graph, "proj", model.proj, value)
    graph.add("Identity", [value], "output")
    if model.decoder is not None:
        _linear(graph, "decoder", model.decoder, value, "logits")
    state_shape: list[str | int] = [model.nlayers, "batch", model.hidden_size]
    inputs = [_value("ids", ["time", "batch"], TensorProto.INT64), *(_value(state, state_shape) for state in states)]
    outputs = [_value("output", ["time", "batch", model.output_size])]
    if model.decoder is not None:
        outputs.append(_value("logits", ["time", "batch", model.vocabulary_size]))
    outputs += [_value(f"{state}_last", state_shape) for state in states]
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "CharLM", inputs, outputs, graph.constants),
        producer_name="lmtrain",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=8,
    )
    helper.set_model_props(proto, {"lmtrain": settings})
    onnx.checker.check_model(proto, full_check=True)
    return proto


class _Graph:
    """Nodes and constants as they are added, with names for what is between them."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: torch.Tensor | np.ndarray) -> str:
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu().float().numpy()
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str | None = None, **attributes) -> str:
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output


def _value(name: str, shape: list[str | int], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _linear(graph: _Graph, name: str, layer: nn.Linear, value: str, output: str | None = None) -> str:
    product = graph.add("MatMul", [value, graph.constant(f"{name}_weight", layer.weight.t())])
    return graph.add("Add", [product, graph.constant(f"{name}_bias", layer.bias)], output)


def _recurrent_layer(graph: _Graph, rnn: nn.RNNBase, number: int, value: str, last: dict[str, list[str]]) -> str:
    """Adds one layer from `value` `(T, B, E or H)` to its output `(T, B, H)`; its last states go to `last`."""
    kind = "GRU" if isinstance(rnn, nn.GRU) else "LSTM"

    def reordered(name: str) -> torch.Tensor:
        gates = dict(zip(_TORCH_GATES[kind], getattr(rnn, f"{name}_l{number}").chunk(len(_GATES[kind])), strict=True))
        return torch.cat([gates[gate] for gate in _GATES[kind]])[None]  # ONNX has one dimension more, of directions

    biases = torch.cat([reordered("bias_ih"), reordered("bias_hh")], dim=1)
    layer = graph.constant(f"layer_{number}", np.array([number], np.int64))
    states = [graph.add("Gather", [state, layer], axis=0) for state in last]
    weights = [
        graph.constant(f"weight_ih_{number}", reordered("weight_ih")),
        graph.constant(f"weight_hh_{number}", reordered("weight_hh")),
        graph.constant(f"bias_{number}", biases),
    ]
    outputs = [f"all_{number}", *(f"{state}_{number}" for state in last)]
    attributes: dict[str, Any] = {"hidden_size": rnn.hidden_size}
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    graph.nodes.append(helper.make_node(kind, [value, *weights, "", *states], outputs, **attributes))
    for state, output in zip(last, outputs[1:], strict=True):
        last[state].append(output)
    directions = graph.constant(f"directions_{number}", np.array([1], np.int64))
    return graph.add("Squeeze", [outputs[0], directions])
