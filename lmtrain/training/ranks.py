"""Tells which of several processes this is before they have met, and ends the others when the first one dies."""

import os
import threading
import time
import warnings

from lightning.fabric.plugins.environments import (
    LSFEnvironment,
    MPIEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)


def is_first_process() -> bool:
    """True in the process with global rank 0, also before the ranks have met."""
    rank = _rank_of_cluster()
    if rank is not None:
        return rank == 0
    return os.environ.get("NODE_RANK", "0") == os.environ.get("LOCAL_RANK", "0") == "0"


def _rank_of_cluster() -> int | None:
    """The global rank, decided as Lightning does; None if Lightning starts the processes itself.

    A process in an interactive SLURM shell (job name bash or interactive) has SLURM_PROCID=0, and so have all that it
    starts: there the variable says nothing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "srun is available, but not used": Lightning's Trainer says it again
        if TorchElasticEnvironment.detect():
            return int(os.environ["RANK"])
        if SLURMEnvironment.detect():
            return int(os.environ.get("SLURM_PROCID", "0"))
        for kind in (LSFEnvironment, MPIEnvironment):
            if kind.detect():
                return kind().global_rank()
    return None


def end_with_first_process(seconds: float = 1.0) -> None:
    """Ends a process that Lightning's own launcher has started soon after the first process has ended.

    Without this it would wait for the first one in a collective, with NCCL for half an hour. Processes that torchrun or
    SLURM has started are ended by these.

    Args:
        seconds: between two looks at whether the first process is alive.
    """
    if is_first_process() or _rank_of_cluster() is not None or "LOCAL_RANK" not in os.environ:
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(seconds)
        os._exit(1)

    threading.Thread(target=watch, name="end with first process", daemon=True).start()
