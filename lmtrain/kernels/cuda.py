"""Runs recurrent layers on CUDA under autocast and with dropout between layers, for which torch is not suited.

torch's autocast casts everything that enters cuDNN's recurrent layers to float16, whatever its own dtype
(ATen/cudnn/AutocastRNN.cpp): under bf16-mixed the gradients, means over tens of thousands of items, would be computed
in float16 without a scale, for which most of them are too small. cuDNN's dropout between layers has a separate random
state, which torch makes anew, waiting for the GPU, after every seeding; here that is every step.

So autocast is switched off around the layers, whose input, state and weights are cast here; the weights once per call
into one buffer, as cuDNN wants them. Layers with dropout between them run one by one, with torch's dropout.
"""

import functools
import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.backends.cudnn.rnn import get_cudnn_mode
from torch.nn import functional as F

log = logging.getLogger(__name__)

Hidden = tuple[Tensor, ...]


class GRU(nn.GRU):
    """torch's GRU, unidirectional, with biases, time first; its state is a tuple, as that of an LSTM."""

    def forward(self, input: Tensor, hx: Hidden) -> tuple[Tensor, Hidden]:  # type: ignore[override]
        """Runs the layers, `(T, B, E)` and one state `(L, B, H)` → `(T, B, H)` and the state after the last step."""
        if is_needed(self, input):
            return run(self, input, hx)
        output, h = super().forward(input, *hx)
        return output, (h,)


def is_needed(rnn: nn.RNNBase, input: Tensor) -> bool:
    """Whether `run` should be called instead of torch's own forward."""
    return input.device.type == "cuda" and (torch.is_autocast_enabled("cuda") or _drops_between_layers(rnn))


def _drops_between_layers(rnn: nn.RNNBase) -> bool:
    return rnn.training and rnn.dropout > 0 and rnn.num_layers > 1


@torch.compiler.disable
def run(rnn: nn.RNNBase, input: Tensor, hx: Hidden) -> tuple[Tensor, Hidden]:
    """Runs the layers of an LSTM or GRU in autocast's dtype, but in float32 if cuDNN lacks bfloat16.

    Args:
        rnn: unidirectional, with biases, time first, without projections.
        input: `(T, B, E)` of any floating type.
        hx: (h, c) of an LSTM, (h,) of a GRU, each `(L, B, H)` of any floating type.

    Returns:
        the output `(T, B, H)` and the state after the last step, `(L, B, H)` each, in the dtype of the computation. The
        gradients of the weights have the weights' dtype.
    """
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else input.dtype
    if dtype == torch.bfloat16 and not takes_bfloat16(rnn.mode, input.device):
        dtype = torch.float32
    with torch.autocast("cuda", enabled=False):
        output = input.to(dtype)
        hx = tuple(part.to(dtype).contiguous() for part in hx)
        if not _drops_between_layers(rnn):
            weights = [weight for layer in rnn.all_weights for weight in layer]
            return _layers(rnn.mode, output, hx, weights)
        ends = []
        for number, weights in enumerate(rnn.all_weights):
            if number > 0:
                output = F.dropout(output, rnn.dropout)
            output, end = _layers(rnn.mode, output, tuple(part[number : number + 1] for part in hx), weights)
            ends.append(end)
    return output, tuple(torch.cat(parts) for parts in zip(*ends, strict=True))


def _layers(mode: str, input: Tensor, hx: Hidden, weights: Sequence[Tensor]) -> tuple[Tensor, Hidden]:
    """Runs layers without dropout between them, in the dtype of `input` and `hx`."""
    cast = _OneBuffer.apply(mode, input.dtype, *weights)
    number = len(weights) // 4
    if mode == "LSTM":
        output, h, c = torch.lstm(input, hx, cast, True, number, 0.0, torch.is_grad_enabled(), False, False)
        return output, (h, c)
    output, h = torch.gru(input, hx[0], cast, True, number, 0.0, torch.is_grad_enabled(), False, False)
    return output, (h,)


class _OneBuffer(torch.autograd.Function):
    """Copies the weights to another dtype, into one buffer where cuDNN is used."""

    @staticmethod
    def forward(ctx, mode: str, dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.dtypes = [weight.dtype for weight in weights]
        copies = [weight.to(dtype, copy=True) for weight in weights]
        if torch._use_cudnn_rnn_flatten_weight():
            number, (input_size, hidden_size) = get_cudnn_mode(mode), (matrix.shape[1] for matrix in copies[:2])
            torch._cudnn_rnn_flatten_weight(
                copies, 4, input_size, number, hidden_size, 0, len(copies) // 4, False, False
            )
        return tuple(copies)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(gradient.to(dtype) for gradient, dtype in zip(gradients, ctx.dtypes, strict=True))


@functools.cache
def takes_bfloat16(mode: str, device: torch.device) -> bool:
    """Whether cuDNN has recurrent layers in bfloat16 on a device, found by running one.

    It has them from cuDNN 9.13 and torch 2.10 on, for GPUs of compute capability 8.0 or more. Otherwise torch computes
    item by item, which takes many times as long as float32, or fails.
    """
    with torch.device("meta"):  # draws no random numbers
        shapes = [weight.shape for weight in nn.RNNBase(mode, 8, 8).parameters()]
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cuda", enabled=False):
        numbers = torch.zeros(1, 1, 8, dtype=torch.bfloat16, device=device)
        weights = [torch.zeros(shape, device=device, requires_grad=True) for shape in shapes]
        try:
            output, _ = _layers(mode, numbers, (numbers, numbers), weights)
            is_taken = type(output.grad_fn).__name__.startswith(("CudnnRnn", "MiopenRnn"))
        except RuntimeError:
            is_taken = False
    if not is_taken:
        log.info("cuDNN has no %s in bfloat16 here: it is computed in float32 (TF32), all else in bfloat16", mode)
    return is_taken
