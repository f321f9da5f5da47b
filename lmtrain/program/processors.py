"""How many processors this process may use."""

import math
import os
from pathlib import Path

_CGROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def processors() -> int:
    """Those that its affinity names (taskset, SLURM), or fewer if a container's quota gives less time than they have.

    Python's own `os.process_cpu_count` does not know quotas, joblib's `cpu_count` only that of the outermost cgroup.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _quota(_CGROUPS, _OWN))))


def _quota(cgroups: Path, own: Path) -> float:
    """How many processors' time the cgroups give that this process is in, and those around them; infinity for any."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf  # not on Linux
    quotas = [math.inf]
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if not controllers:  # version 2: one tree for all controllers
            quotas += [_of(folder / "cpu.max") for folder in _up(cgroups, name)]
        elif "cpu" in controllers.split(","):
            root = cgroups / "cpu"
            quotas += [_of(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us") for folder in _up(root, name)]
    return min(quotas)


def _up(root: Path, name: str) -> list[Path]:
    """The folder of a cgroup and those around it; in a container that sees only its own it is the root."""
    folder = root / name.lstrip("/")
    return [folder, *(around for around in folder.parents if around.is_relative_to(root))]


def _of(*files: Path) -> float:
    """The quota divided by the period, which stand in one file or in two; infinity if there is none."""
    try:
        quota, period = " ".join(file.read_text(encoding="ascii") for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # "max" instead of a number
        return math.inf
