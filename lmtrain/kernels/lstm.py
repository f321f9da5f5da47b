"""An LSTM that trains faster in bfloat16 with large hidden states, where oneDNN's is slow.

It equals nn.LSTM up to rounding. Recurrent weights, input weights and bias are side by side in one matrix: each step is
one product forward and one backward, and one product per window gives the gradients of all weights. The matrix is
rearranged for these products once per window. Every gate is a sigmoid, since tanh(x) = 2·sigmoid(2x) - 1 and torch's
tanh takes ten times as long.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lmtrain.kernels import cuda as cuda_recurrence
from lmtrain.kernels.capabilities import gains_by_bfloat16, is_amd
from lmtrain.kernels.dropout import Dropout
from lmtrain.kernels.packed_product import packed_product

# (hidden units H, items of a window T·B) from which on it is faster: see docs/kernels.md
_FASTER_ON_AMD = ((1025, 1), (1024, 4000))
_FASTER_WITH_AMX = ((2048, 5000), (1024, 25_000))
# with few lanes oneDNN reads the weights too often, so on AMD it is faster there, too
_MANY_UNITS, _FEW_LANES = 768, 16
_ALIGNED = 64  # products are faster when their inner size is a multiple of this


class LSTM(nn.LSTM):
    """torch's LSTM, unidirectional, with biases, time first, with its own training path where that is faster.

    That path is for autocast to bfloat16 on AMD's processors and on Intel's with AMX. It has no second derivatives.
    """

    def forward(  # type: ignore[override]  # it takes no packed sequences
        self, input: Tensor, hx: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Runs the layers.

        Args:
            input: `(T, B, E)`.
            hx: h and c, each `(L, B, H)`.

        Returns:
            the output `(T, B, H)`, and h and c after the last step, each `(L, B, H)`. In its own path the output is
            bfloat16, and h and c are float32.
        """
        if cuda_recurrence.is_needed(self, input):
            return cuda_recurrence.run(self, input, hx)  # type: ignore[return-value]
        if torch.compiler.is_compiling():
            return super().forward(input, hx)
        if self._is_faster(input):
            return self._run(input, hx, torch.bfloat16)
        if hx is None or not input.is_cpu:
            return super().forward(input, hx)
        # what nn.LSTM calls after its checks of the arguments
        output, h, c = torch.lstm(
            input, hx, self._flat_weights, True, self.num_layers, self.dropout, self.training, False, False
        )
        return output, (h, c)

    def _is_faster(self, input: Tensor) -> bool:
        return (
            input.device.type == "cpu"
            and torch.is_grad_enabled()
            and torch.is_autocast_enabled("cpu")
            and torch.get_autocast_dtype("cpu") == torch.bfloat16
            and gains_by_bfloat16()
            and is_faster(self.hidden_size, *input.shape[:2])
            and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        )

    def _run(
        self, input: Tensor, hx: tuple[Tensor, Tensor], dtype: torch.dtype
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The own path, with matrix products in `dtype`, bfloat16 or float32; the cell state is float32."""
        drop = Dropout(self.dropout).train(self.training)
        output, last = input, []
        for number, (h, c) in enumerate(zip(*hx, strict=True)):
            if number > 0:
                output = drop(output)
            output, h, c = _Layer.apply(output, h, c, *self.all_weights[number], dtype)
            last.append((h, c))
        h, c = (torch.stack(parts) for parts in zip(*last, strict=True))
        return output, (h, c)


def is_faster(hidden_size: int, length: int, lanes: int) -> bool:
    """Whether the own path is faster for H hidden units and windows of T × B items, if bfloat16 is fast at all."""
    if is_amd() and hidden_size >= _MANY_UNITS and lanes <= _FEW_LANES:
        return True
    faster = _FASTER_ON_AMD if is_amd() else _FASTER_WITH_AMX
    return any(hidden_size >= units and length * lanes >= items for units, items in faster)


class _Layer(torch.autograd.Function):
    """One layer.

    `states` has a row `[h | x | 1 | 0 ...]` for every step and lane, h being the output of the previous step. `gates`
    has the sigmoids s of i, f, g and o in torch's order: c' = f·c + i·(2s_g - 1), h' = o·tanh(c').
    """

    @staticmethod
    def forward(ctx, inputs, h, c, weight_ih, weight_hh, bias_ih, bias_hh, dtype):  # noqa: PLR0913
        (T, B, E), H = inputs.shape, weight_hh.shape[1]
        K = -(-(H + E + 1) // _ALIGNED) * _ALIGNED
        weight = weight_hh.new_zeros(4 * H, K, dtype=dtype)
        for columns, part in ((slice(H), weight_hh), (slice(H, H + E), weight_ih), (H + E, bias_ih + bias_hh)):
            weight[:, columns] = part
        weight[2 * H : 3 * H] *= 2
        states = weight.new_zeros(T + 1, B, K)
        states[0, :, :H], states[:T, :, H : H + E], states[..., H + E] = h, inputs, 1
        cells = weight_hh.new_empty(T + 1, B, H, dtype=torch.float32)
        cells[0] = c
        gates = weight.new_empty(T, B, 4 * H)

        product = packed_product(weight, B)
        now, tanh_c = cells.new_empty(B, 4 * H), cells.new_empty(B, H)
        i, f, g, o = now.chunk(4, dim=1)
        for t in range(T):
            now.copy_(product(states[t])).sigmoid_()
            gates[t] = now
            torch.mul(f, cells[t], out=cells[t + 1]).addcmul_(i, g, value=2).sub_(i)
            torch.mul(cells[t + 1], 2, out=tanh_c).sigmoid_().mul_(2).sub_(1)
            states[t + 1, :, :H] = tanh_c.mul_(o)
        ctx.save_for_backward(weight, states, cells, gates)
        ctx.inputs_dtype, ctx.input_size = inputs.dtype, E
        return states[1:, :, :H], states[T, :, :H].float(), cells[T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, d_output, d_h, d_c):
        weight, states, cells, gates = ctx.saved_tensors
        (T, B, H), E = d_output.shape, ctx.input_size
        d_inputs = d_output.new_empty(T, B, E, dtype=ctx.inputs_dtype)
        d_h, d_c = d_h.clone(), d_c.clone()

        product = packed_product(weight.t().contiguous(), B)
        now, d_now = (cells.new_empty(B, 4 * H) for _ in range(2))
        i, f, g, o = now.chunk(4, dim=1)
        d_i, d_f, d_g, d_o = d_now.chunk(4, dim=1)
        half, more = (cells.new_empty(B, H) for _ in range(2))
        for t in reversed(range(T)):
            now.copy_(gates[t])
            d_h += d_output[t]
            torch.mul(cells[t + 1], 2, out=half).sigmoid_()  # tanh(c) = 2·half - 1
            torch.ops.aten.sigmoid_backward.grad_input(d_h, half, grad_input=more)
            d_c.addcmul_(more, o, value=4)
            torch.mul(d_h, half, out=d_o).mul_(2).sub_(d_h)
            torch.mul(d_c, g, out=d_i).mul_(2).sub_(d_c)
            torch.mul(d_c, cells[t], out=d_f)
            torch.mul(d_c, i, out=d_g).mul_(2)
            torch.ops.aten.sigmoid_backward.grad_input(d_now, now, grad_input=d_now)
            d_c *= f
            gates[t] = d_now  # the gradients take the place of the gates
            d_state = product(gates[t])
            d_h.copy_(d_state[:, :H])
            d_inputs[t] = d_state[:, H : H + E]
        d_weight = (gates.flatten(0, 1).t() @ states[:T].flatten(0, 1)).float()
        d_weight[2 * H : 3 * H] *= 2
        d_hh, d_ih, d_bias = d_weight[:, :H], d_weight[:, H : H + E], d_weight[:, H + E]
        return d_inputs, d_h, d_c, d_ih, d_hh, d_bias, d_bias, None
