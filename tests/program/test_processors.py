"""As many processes are started as a container's quota has processors."""

import os

import pytest

from lmtrain.program import processors as module
from lmtrain.program.processors import processors

TWO = "0::/job/step\n"
ONE = "5:memory:/job\n4:cpu,cpuacct:/job/step\n1:name=systemd:/\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (TWO, {}, 8),
        (TWO, {"job/step/cpu.max": "max 100000"}, 8),
        (TWO, {"job/step/cpu.max": "250000 100000"}, 3),
        (TWO, {"job/step/cpu.max": "max 100000", "job/cpu.max": "400000 100000", "cpu.max": "1600000 100000"}, 4),
        (TWO, {"cpu.max": "10000 100000"}, 1),  # a container that sees its own cgroup as the root
        (TWO, {"job/step/cpu.max": "6400000 100000"}, 8),
        (ONE, {"cpu/job/step/cpu.cfs_quota_us": "-1", "cpu/job/step/cpu.cfs_period_us": "100000"}, 8),
        (ONE, {"cpu/job/cpu.cfs_quota_us": "200000\n", "cpu/job/cpu.cfs_period_us": "100000\n"}, 2),
        (None, {}, 8),
    ],
)
def test_the_smallest_quota_counts(own, files, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(module, "_CGROUPS", tmp_path / "cgroups")
    monkeypatch.setattr(module, "_OWN", tmp_path / "own")
    if own is not None:
        (tmp_path / "own").write_text(own)
    for name, content in files.items():
        path = tmp_path / "cgroups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert processors() == expected
