"""The number of processors that this process may use: its affinity, and the quotas of its containers."""

import math
import os
from pathlib import Path

_CGROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def processors() -> int:
    """The processors of the affinity (taskset, SLURM), or fewer if a container's quota gives less time.

    `os.process_cpu_count` ignores quotas, and joblib's `cpu_count` knows only that of the outermost cgroup.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _quota(_CGROUPS, _OWN))))


def _quota(cgroups: Path, own: Path) -> float:
    """The smallest quota, in processors, of this process's cgroups and their parents; infinity without one."""
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
    """The folders of a cgroup and its parents; in a container that sees only its own cgroup, the root."""
    folder = root / name.lstrip("/")
    return [folder, *(around for around in folder.parents if around.is_relative_to(root))]


def _of(*files: Path) -> float:
    """Quota divided by period, from one file or two; infinity if there is no quota."""
    try:
        quota, period = " ".join(file.read_text(encoding="ascii") for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # "max" instead of a number
        return math.inf
