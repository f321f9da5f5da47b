"""Dropout that draws its random numbers faster on CPUs."""

import numpy as np
import torch
from torch import Tensor, nn

_MANY = 1 << 14  # elements; below this, making NumPy's generator costs more than drawing torch's slower numbers
_STEPS = 1 << 16


class Dropout(nn.Dropout):
    """torch's dropout, on CPUs with 16 random bits per element.

    There, torch's own draws a Bernoulli variable for each element, which took a tenth of a training step. The numbers
    depend on torch's generator only. The probability is rounded to a multiple of 1/65536.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return input
        if input.device.type != "cpu" or self.p == 1 or torch.compiler.is_compiling():
            return super().forward(input)
        dropped = min(round(self.p * _STEPS), _STEPS - 1)
        elements = input.numel()
        bits = _random_words(-(-elements // 4)).view(torch.int16)
        if len(bits) > elements:
            bits = bits[:elements]
        kept = bits.view(input.shape).ge_(dropped - _STEPS // 2).to(input.dtype)
        return input * kept.mul_(_STEPS / (_STEPS - dropped))


def _random_words(count: int) -> Tensor:
    """Random int64 numbers `(count,)`, uniform over all 64 bits."""
    if 4 * count < _MANY:
        return torch.empty(count, dtype=torch.int64).random_(-(2**63), None)
    seed = int(torch.empty((), dtype=torch.int64).random_())
    return torch.from_numpy(np.random.SFC64(seed).random_raw(count).view(np.int64))
