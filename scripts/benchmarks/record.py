"""Keeps results of the benchmark as JSON: a file for each machine, with the latest result of each task and size."""

import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs/benchmarks"
SOURCE = "scripts/benchmark.py"
# processor flags that decide how, and in which precision, matrix products are computed
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")


def machine() -> dict[str, Any]:
    """The GPU if there is one, the processor with its flags, the threads, and torch's version."""
    import torch

    about: dict[str, str] = {}
    if Path("/proc/cpuinfo").exists():
        lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
        for name, _, value in lines:
            about.setdefault(name.strip(), value.strip())
    flags = about.get("flags", about.get("Features", "")).split()
    name = about.get("model name") or platform.processor() or platform.machine()
    number = f"family {about['cpu family']} model {about['model']}" if "cpu family" in about else None
    return {
        "processor": " ".join(filter(None, [name, number and f"({number})"])),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__.partition("+")[0],
        "flair": _version("flair"),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def file_of(about: dict[str, Any], folder: Path = FOLDER) -> Path:
    """The file that keeps the results of a machine."""
    words = [about["gpu"] or about["processor"], f"{about['threads']} threads", f"torch {about['torch']}"]
    return folder / f"{re.sub(r'[^a-z0-9.]+', '-', ' '.join(words).lower()).strip('-')}.json"


def described(result: dict[str, Any]) -> dict[str, Any]:
    """The result of a benchmark as it is kept: medians and ranges over the rounds, the date and the commit."""
    figures = result.get("rates") or result["values"]
    return {
        "task": result["task"],
        "size": result["size"],
        "unit": result["unit"],
        "more_is_better": "rates" in result,
        "reference": result["reference"],
        "ours": result.get("ours"),
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
        "rounds": max(map(len, figures.values())),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "figures": {
            name: {"median": _short(statistics.median(values)), "low": _short(min(values)), "high": _short(max(values))}
            for name, values in figures.items()
        },
        "notes": {
            name: _short(value) if isinstance(value, float) else value for name, value in result["notes"].items()
        },
    }


def _short(value: float) -> float:
    """Rounded to four significant digits; measurements differ by more than that."""
    return float(f"{value:.4g}")


def _commit() -> str | None:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def keep(results: list[dict[str, Any]], about: dict[str, Any], path: Path) -> None:
    """Writes results into the file of a machine; those of the same task and size that it has are replaced."""
    before = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else []
    kept = {(result["task"], result["size"]): result for result in [*before, *results]}
    content = {"machine": about, "source": SOURCE, "results": list(kept.values())}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
