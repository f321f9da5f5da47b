"""Names the devices and the precision of a run, for results.json and the model card."""

import os
import platform
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer


def hardware_in_use(trainer: Trainer) -> dict[str, Any]:
    """The precision that was chosen, the numbers of devices and of hosts, and the name of the GPU or processor."""
    device = trainer.strategy.root_device
    return {
        "precision": str(trainer.precision),
        "devices": trainer.world_size,
        "hosts": trainer.num_nodes,
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(device.type),
    }


def _processor(device_type: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name} ({os.cpu_count()} cores)" + (f", {device_type}" if device_type != "cpu" else "")
