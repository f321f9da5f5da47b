"""Decides when a run is saved between validations, and when its time is over."""

import time

from lmtrain.program.signals import Request
from lmtrain.training.callbacks.run_length import TimeLimit
from lmtrain.training.checkpoint_state import Position


class SavePolicy:
    """Asks for a save after a time and after a number of optimizer steps, and for the end when the time is over.

    Args:
        every: minutes between saves; None for never.
        every_steps: optimizer steps between saves; None for never.
        time_limit: when to end the run.
    """

    def __init__(
        self, every: float | None = 10.0, every_steps: int | None = None, time_limit: TimeLimit | None = None
    ) -> None:
        self.every = every
        self.every_steps = every_steps
        self.time_limit = time_limit or TimeLimit(None)
        self.is_out_of_time = False  # the run is being ended for it
        self._saved_at = time.monotonic()
        self._saved_step = 0
        self._saved_position: Position | None = None

    def note_saved(self, step: int, position: Position) -> None:
        """Called when the run has been saved in this state, or was read in this state from a file."""
        self._saved_at, self._saved_step, self._saved_position = time.monotonic(), step, position

    def is_saved(self, position: Position) -> bool:
        """Whether the last save was made at this position."""
        return position == self._saved_position

    def asked_by_clock(self) -> Request:
        """The request by this rank's clock; that of another rank may differ."""
        if self.time_limit.is_over() and not self.is_out_of_time:
            return Request.END
        is_due = self.every is not None and time.monotonic() - self._saved_at > self.every * 60
        return Request.SAVE if is_due else Request.NONE

    def asked_by_step(self, step: int) -> Request:
        """The request by the number of optimizer steps, the same on all ranks."""
        is_due = self.every_steps is not None and step % self.every_steps == 0 and step != self._saved_step
        return Request.SAVE if is_due else Request.NONE
