"""Ends a run that a signal stopped: prints how to go on, queues a SLURM job again, and chooses the exit status."""

import os
import signal
import subprocess
import sys

from lmtrain.program.signals import Interrupted, print_interruption, submitits_signal
from lmtrain.training.ranks import is_first_process


def stop(interruption: Interrupted, requeue_signal: str | None) -> int:
    """Prints how to go on, and queues the SLURM job again if the signal asks for that.

    A job of a sweep on SLURM is queued again by submitit, whose handler the signal had before; it ends the process.

    Args:
        requeue_signal: the name of the signal that asks for it, `checkpoint.requeue_signal`.

    Returns:
        128 + the signal's number, as in shells. 0 on ranks other than 0 if all ranks stopped together: any other status
        would make Lightning kill rank 0, which is still at work.
    """
    if not is_first_process():
        return 128 + interruption.signum if interruption.is_alone else 0
    print_interruption(interruption)
    if interruption.signum == submitits_signal() and callable(handler := signal.getsignal(interruption.signum)):
        handler(interruption.signum, None)
    if signal.Signals(interruption.signum).name == requeue_signal and "SLURM_JOB_ID" in os.environ:
        return _requeue()
    return 128 + interruption.signum


def _requeue() -> int:
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        status = subprocess.run(["scontrol", "requeue", job], check=False).returncode
    except OSError as error:
        print(f"Job {job} is not queued again: scontrol cannot be run ({error.strerror}).", file=sys.stderr)
        return 1
    failure = f"Job {job} is not queued again: scontrol requeue {job} failed with status {status}."
    print(failure if status else f"Job {job} is queued again.", file=sys.stderr)
    return status
