"""Dropout that does not wait for its random numbers on CPUs."""

import numpy as np
import torch
from torch import Tensor, nn

_MANY = 1 << 14  # elements; for fewer, calls take longer than numbers
_STEPS = 1 << 16


class Dropout(nn.Dropout):
    """torch's dropout, for large tensors on CPUs with 16 random bits an element.

    torch's own draws a Bernoulli variable for each element there, which took a tenth of a training step. The state of
    torch's generator decides, as it does everywhere. The probability is rounded to a multiple of 1/65536.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return input
        if input.device.type != "cpu" or self.p == 1 or torch.compiler.is_compiling():
            return super().forward(input)
        if input.numel() < _MANY:
            kept = torch.rand(input.shape, dtype=torch.float32).ge_(self.p)
            return input * kept.mul_(1 / (1 - self.p)).to(input.dtype)
        dropped = min(round(self.p * _STEPS), _STEPS - 1)
        seed = int(torch.empty((), dtype=torch.int64).random_())
        words = np.random.SFC64(seed).random_raw(-(-input.numel() // 4))
        bits = torch.from_numpy(words.view(np.int16))[: input.numel()].view(input.shape)
        kept = (bits >= dropped - _STEPS // 2).to(input.dtype)
        return input * kept.mul_(_STEPS / (_STEPS - dropped))
