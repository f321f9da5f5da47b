"""minGRU: a GRU whose gate and candidate do not look at the state (Feng et al., 2024, "Were RNNs All We Needed?").

    z_t = σ(W_z·x_t + b_z)        h̃_t = W_h·x_t + b_h        h_t = (1 - z_t)·h_{t-1} + z_t·h̃_t

The matrix products of all steps of a window are therefore one product, and each step only adds and multiplies element
by element. One layer sees the past only as such averages, so use two or three layers.

Unlike the paper's code this does not compute in log space, which requires positive candidates. The sums here are as
stable, since no factor is above 1, and on CPUs 40 times as fast (T100·B32·H256 and T250·B100·H1024, float32, one
thread), because logarithms and exponential functions take longer than everything else.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lmtrain.model.layers import Layers, State


class MinGRU(Layers):
    """Layers of minGRU (`model.recurrent_type=MINGRU`).

    The first H rows of `weight_ih` and `bias_ih` are those of z, the others those of the candidate. Under autocast the
    output has autocast's dtype; the recurrence is computed in float32 or more.
    """

    @staticmethod
    def shapes(inputs: int, units: int) -> dict[str, tuple[int, ...]]:
        return {"weight_ih": (2 * units, inputs), "bias_ih": (2 * units,)}

    def layer(  # type: ignore[override]
        self, input: Tensor, begin: State, weight_ih: Tensor, bias_ih: Tensor
    ) -> tuple[Tensor, State]:
        (h,) = begin
        gates = F.linear(input, weight_ih, bias_ih)
        states = _Recurrence.apply(gates, h)
        return states.to(gates.dtype), (states[-1].to(h.dtype),)


class _Recurrence(torch.autograd.Function):
    """Gates before the sigmoid `(T, B, 2H)` and h_0 `(B, H)` → h_1 to h_T `(T, B, H)`, in float32 or more.

    Backward runs the recurrence from the last step to the first: with d_t the gradient of the output h_t, the whole
    gradient is g_t = d_t + (1 - z_{t+1})·g_{t+1}.
    """

    @staticmethod
    def forward(ctx, gates: Tensor, begin: Tensor) -> Tensor:
        gate, candidates = gates.to(torch.promote_types(gates.dtype, torch.float32)).chunk(2, dim=2)
        z = gate.sigmoid()
        states, h = torch.empty_like(z), begin.to(z.dtype)
        for candidate, share, out in zip(candidates.unbind(), z.unbind(), states.unbind(), strict=True):
            h = torch.lerp(h, candidate, share, out=out)
        ctx.save_for_backward(z, candidates, states, begin)
        ctx.dtype = gates.dtype
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx, d_states: Tensor) -> tuple[Tensor, Tensor]:
        z, candidates, states, begin = ctx.saved_tensors
        kept, g, last = 1 - z, torch.empty_like(z), len(z) - 1
        g[last] = d_states[last]
        for t in reversed(range(last)):
            torch.addcmul(d_states[t], kept[t + 1], g[t + 1], out=g[t])
        d_gates = z.new_empty(*z.shape[:2], 2 * z.shape[2], dtype=ctx.dtype)
        d_gate, d_candidates = d_gates.chunk(2, dim=2)
        d_candidates.copy_(g * z)
        d_begin = (g[0] * kept[0]).to(begin.dtype)
        moved = candidates - torch.cat([begin[None].to(z.dtype), states[:-1]])
        d_gate.copy_(moved.mul_(g).mul_(z).mul_(kept))
        return d_gates, d_begin


def add_to_onnx(graph: Any, rnn: nn.Module, number: int, value: str, states: list[str]) -> tuple[str, list[str]]:
    """Adds a layer to an `onnx_graph.Graph`; arguments and result are those of `onnx_graph.AddLayer`."""
    weights = getattr(rnn, f"weight_ih_l{number}").chunk(2), getattr(rnn, f"bias_ih_l{number}").chunk(2)
    gate, candidates = (
        graph.linear(f"{name}_{number}", *part, value)
        for name, part in zip(("gate", "candidate"), zip(*weights, strict=True), strict=True)
    )
    output, end = graph.recurrence(graph.add("Sigmoid", [gate]), candidates, states[0])
    return output, [end]
