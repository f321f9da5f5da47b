"""Has all ranks agree, about once a second, on what to do before a window: save, stop or go on."""

import math
import time

import torch
from lightning.pytorch import Trainer

from lmtrain.program.signals import Asked, Request


class RankAgreement:
    """All ranks follow the most urgent request of any of them.

    They exchange requests only before some windows, since each exchange makes the host wait for the device. With each
    exchange rank 0 also announces, from its speed, after how many windows the next one follows: ranks cannot go by
    their own clocks, which differ.
    """

    def __init__(self) -> None:
        self._windows = 0  # of training and validation, before which this rank could exchange requests
        self._next = 0  # the number of the window before which it does
        self._exchanged_at = time.monotonic()
        self._exchanged_window = 0

    def restart_clock(self) -> None:
        """Called when training begins, from which the speed is counted."""
        self._exchanged_at = time.monotonic()

    def agree(self, trainer: Trainer, asked: Asked, at_once: bool = False) -> Asked:
        """The request that all ranks follow now; called on all of them before the same window.

        Args:
            asked: the request of this rank, which it must repeat at the next call if none is returned.
            at_once: exchange requests now, whenever the next exchange would be.
        """
        if trainer.world_size == 1:
            return asked
        window, self._windows = self._windows, self._windows + 1
        if window < self._next and not at_once:
            return Asked()
        seconds = max(time.monotonic() - self._exchanged_at, 1e-6)
        pace = max(1, math.floor((window - self._exchanged_window) / seconds)) if trainer.is_global_zero else 0
        most = torch.tensor([asked.request, asked.signum, min(pace, 1000)], device=trainer.strategy.root_device)
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX)
        request, signum, pace = most.tolist()
        self._exchanged_at, self._exchanged_window, self._next = time.monotonic(), window, window + pace
        return Asked(Request(request), signum)
