"""Callbacks and a logger of a user that make files, disks, loggers or memory fail in the middle of a run."""

# ruff: noqa: ARG002 - the arguments are Lightning's

import os
import resource
import shutil
import signal
from pathlib import Path

import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger


class AtStep(Callback):
    """Does something after a step; `undo` after a later one."""

    def __init__(self, step: int, until: int | None = None) -> None:
        self.step = step
        self.until = until

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            self.do()
        if trainer.global_step == self.until:
            self.undo()

    def do(self) -> None:
        raise NotImplementedError

    def undo(self) -> None:
        pass


class Remove(AtStep):
    """Removes a file or folder."""

    def __init__(self, step: int, path: str) -> None:
        super().__init__(step)
        self.path = Path(path)

    def do(self) -> None:
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink()


class TakeOver(Remove):
    """Removes a run folder, and makes another, of another run."""

    def do(self) -> None:
        super().do()
        self.path.mkdir()
        (self.path / ".key").write_text("another")


class RemoveCacheAtEnd(Callback):
    """Removes the cache when training has ended."""

    def on_train_end(self, trainer, pl_module) -> None:
        shutil.rmtree("cache")


class RemoveBestAtEnd(Callback):
    """Removes the best model when training has ended."""

    def on_train_end(self, trainer, pl_module) -> None:
        Path("runs/run/best-lm.pt").unlink()


class FullDisk(AtStep):
    """Nothing can be written, as on a full disk, until a later step."""

    def do(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))

    def undo(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class NoDescriptors(AtStep):
    """No file can be opened any more."""

    def do(self) -> None:
        _, self.most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, self.most))


class KillHelper(AtStep):
    """Kills the process that wandb has started."""

    def do(self) -> None:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                parent = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            if int(parent) == os.getpid():
                os.kill(int(pid), signal.SIGKILL)


class FailingLogger(Logger):
    """A user's logger, of which one method, or all of them, fail."""

    def __init__(self, failing: str) -> None:
        super().__init__()
        self.failing = failing
        self.calls: list[str] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.failing in (name, "all"):
            raise ConnectionError("the service has gone")

    @property
    def name(self) -> str:
        return "failing"

    @property
    def version(self) -> str:
        return ""

    @property
    def experiment(self) -> list[str]:
        self._called("experiment")
        return self.calls

    def log_metrics(self, metrics, step=None) -> None:
        self._called("log_metrics")

    def log_hyperparams(self, params, *args, **kwargs) -> None:
        self._called("log_hyperparams")

    def save(self) -> None:
        self._called("save")

    def finalize(self, status) -> None:
        self._called("finalize")


class Exhausted(Callback):
    """The memory of a GPU is too small for the second step."""

    def on_after_backward(self, trainer, pl_module) -> None:
        if trainer.global_step == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
