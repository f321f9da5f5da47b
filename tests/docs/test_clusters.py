"""docs/clusters.md: its commands work for any number of devices, its computed table follows from the stated model."""

import re
from pathlib import Path

import pytest
from running import compose

from lmtrain.config.schema import check_config
from lmtrain.data.stream import Augmentation
from lmtrain.training.datamodule import WindowDataModule

TEXT = (Path(__file__).parents[2] / "docs/clusters.md").read_text(encoding="utf-8")
PEAKS = {"H100": (989e12, 3.35e12, 450e9), "A100": (312e12, 2.039e12, 300e9)}  # operations, bytes, bytes between GPUs
LATENCY, T, E = 5e-6, 250, 100


def documented_overrides() -> list[list[str]]:
    blocks = "\n".join(re.findall(r"```\n(.*?)```", TEXT, re.DOTALL)).replace("\\\n", " ")
    return [line.partition("train.py")[2].split() for line in blocks.splitlines() if "train.py" in line]


def test_every_documented_command_is_a_configuration(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "8")
    monkeypatch.setenv("SLURM_NNODES", "2")
    commands = documented_overrides()
    assert len(commands) >= 5
    for overrides in commands:
        if "-m" in overrides:
            continue  # of a sweep, which needs hydra-submitit-launcher
        config = check_config(compose(*overrides)).trainer
        assert (config.strategy, config.num_nodes > 1) == (
            "ddp",
            "trainer.num_nodes=2" in overrides or "trainer=slurm" in overrides,
        )
        assert config.devices in (2, 8)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_any_number_of_devices_shares_the_default_lanes(devices):
    lanes = compose("data=folder")["data"]["batch_size"]
    module = WindowDataModule([], None, None, lanes, 250, Augmentation(1, True, None))
    shares = [module.lanes_of_rank(rank, devices) for rank in range(devices)]
    assert [lane for share in shares for lane in share] == list(range(100))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def step_seconds(gpu: str, hidden_size: int, lanes: int, devices: int) -> float:
    operations, memory, link = PEAKS[gpu]
    weights = 4 * hidden_size**2
    a_character = max(2 * weights / memory, 2 * -(-lanes // devices) * weights / operations, LATENCY)
    gradients = 4 * (weights + 4 * hidden_size * E)
    return 3 * T * a_character + 2 * (devices - 1) / devices * gradients / link


def test_the_table_of_what_more_gpus_buy_is_computed_right():
    rows = re.findall(
        r"^\| (H100|A100), (\d+) \| ([\d,]+) \| ([\d.]+)× \| ([\d.]+)× \| ([\d.]+)× \|$", TEXT, re.MULTILINE
    )
    assert len(rows) == 6
    for gpu, hidden_size, lanes, *ratios in rows:
        operations, memory, _ = PEAKS[gpu]
        weights = 4 * int(hidden_size) ** 2
        for_nothing = max(2 * weights / memory, LATENCY) * operations / (2 * weights)
        assert int(lanes.replace(",", "")) == round(for_nothing)
        for all_lanes, ratio in zip((100, 800, 2400), ratios, strict=True):
            computed = step_seconds(gpu, int(hidden_size), all_lanes, 1) / step_seconds(
                gpu, int(hidden_size), all_lanes, 8
            )
            assert float(ratio) == pytest.approx(computed, abs=0.0051)
