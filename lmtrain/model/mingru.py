"""minGRU: a GRU whose gate and candidate do not look at the state (Feng et al., 2024, "Were RNNs All We Needed?").

    z_t = σ(W_z·x_t + b_z)        h̃_t = W_h·x_t + b_h        h_t = (1 - z_t)·h_{t-1} + z_t·h̃_t

So the matrix products of all steps of a window are one product, and what is left for each step in turn is an addition
and a multiplication of each element. One layer knows of the past only what such averages keep: take two or three.

Unlike the paper's code this does not compute in log space, for which candidates must be positive. The sums here are as
stable, since no factor is above 1, and on CPUs 40 times as fast (T100·B32·H256 and T250·B100·H1024, float32, one
thread), because logarithms and exponential functions take longer than all the rest.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lmtrain.model.cpu.dropout import Dropout


class MinGRU(nn.Module):
    """Layers of minGRU, which `lmtrain.model.cells` has as MINGRU.

    The rows of `weight_ih_lk` `(2H, E or H)` and `bias_ih_lk` `(2H,)` are those of z, then those of the candidate.
    They begin as the weights of torch's recurrent layers do, uniformly between -1/√H and 1/√H.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.drop = Dropout(dropout)
        for number in range(num_layers):
            inputs = hidden_size if number else input_size
            self.register_parameter(f"weight_ih_l{number}", nn.Parameter(torch.empty(2 * hidden_size, inputs)))
            self.register_parameter(f"bias_ih_l{number}", nn.Parameter(torch.empty(2 * hidden_size)))
        bound = 1 / math.sqrt(hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    @torch.compiler.disable
    def forward(self, input: Tensor, hidden: tuple[Tensor]) -> tuple[Tensor, tuple[Tensor]]:
        """Runs the layers over a window.

        Args:
            input: `(T, B, E)`.
            hidden: h `(L, B, H)`.

        Returns:
            the output `(T, B, H)`, of autocast's type where that is on, and h after the last step, of the type that h
            had. The recurrence is computed in float32 at least.
        """
        output, ends = input, []
        for number, begin in enumerate(hidden[0]):
            if number > 0:
                output = self.drop(output)
            gates = F.linear(output, getattr(self, f"weight_ih_l{number}"), getattr(self, f"bias_ih_l{number}"))
            states = _Recurrence.apply(gates, begin)
            output = states.to(gates.dtype)
            ends.append(states[-1].to(begin.dtype))
        return output, (torch.stack(ends),)


class _Recurrence(torch.autograd.Function):
    """Gates before the sigmoid `(T, B, 2H)` and h_0 `(B, H)` → h_1 to h_T `(T, B, H)`, in float32 at least.

    Backward is the recurrence from the last step to the first one: with d_t for the gradient of h_t from elsewhere, the
    whole gradient is g_t = d_t + (1 - z_{t+1})·g_{t+1}.
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
    """Adds a layer to an `onnx_graph.Graph`, see there."""
    weights = getattr(rnn, f"weight_ih_l{number}").chunk(2), getattr(rnn, f"bias_ih_l{number}").chunk(2)
    gate, candidates = (
        graph.linear(f"{name}_{number}", *part, value)
        for name, part in zip(("gate", "candidate"), zip(*weights, strict=True), strict=True)
    )
    output, end = graph.recurrence(graph.add("Sigmoid", [gate]), candidates, states[0])
    return output, [end]
