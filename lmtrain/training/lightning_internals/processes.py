"""Replaces Lightning's handling of signals and of the processes of other ranks by lmtrain's own."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from subprocess import Popen
from unittest.mock import patch

from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import subprocess_script


def leave_signals_alone(trainer: Trainer) -> None:
    """Keeps Lightning from handling SIGTERM and SIGUSR1: lmtrain does (`program/signals.py`), on all ranks together.

    Lightning would end a test without a word, and there is no argument of the Trainer against it.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None


def observing_with(observe: Callable[[list[Popen]], None]) -> AbstractContextManager:
    """Within the block `observe` is called with the processes that Lightning starts, instead of its own observer.

    Lightning's own takes a rank that was ended by a signal for one that failed, and kills all other ranks.
    """
    return patch.object(subprocess_script, "_launch_process_observer", observe)
