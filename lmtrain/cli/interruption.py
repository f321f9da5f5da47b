"""The end of a run that a signal stopped: what is said, whether the job is queued again, and the exit status."""

import os
import signal
import subprocess
import sys

from lmtrain.program.signals import Interrupted, print_interruption, submitits_signal
from lmtrain.training.ranks import is_first_process


def stop(interruption: Interrupted, requeue_signal: str | None) -> int:
    """Says how to go on, and requeues the SLURM job if that is what the signal asked for.

    Args:
        requeue_signal: the name of the signal that asks for it, `checkpoint.requeue_signal`.

    A job of a sweep on SLURM is queued again by submitit, whose handler the signal had before; it ends the process.

    Returns:
        128 + the signal's number, as shells have it; 0 in other processes than the first one if all have agreed, for
        they would otherwise be taken for failed while the first one still works.
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
        print(f"scontrol cannot be run: {error.strerror}", file=sys.stderr)
        return 1
    print(f"Job {job} is queued again." if status == 0 else f"scontrol requeue {job} failed.", file=sys.stderr)
    return status
