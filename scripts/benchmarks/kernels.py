"""Measures single layers and products of lmtrain beside those of torch, for docs/kernels.md."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.texts import write_corpus
from benchmarks.training import Size, measure

_MILLI, _MICRO = 1e3, 1e6
_EMBEDDING = 100  # E
_OPERATIONS = 40_000_000_000  # of the recurrent products of all steps, about, so that small steps are many
_REPEATS = 200  # of a product, which takes microseconds
LSTMS = (
    (256, 100, 32),
    (512, 100, 50),
    (1024, 100, 32),
    (1024, 100, 50),
    (1024, 250, 16),
    (2048, 50, 16),
    (2048, 50, 100),
)
MINGRUS = ((128, 10, 10), (256, 100, 32))
ROWS = (1, 8, 32, 64)
PRECISIONS = ((64, 10, 10), (128, 10, 10), (128, 50, 32), (256, 50, 10), (256, 100, 8), (512, 50, 10), (1024, 50, 4))


def benchmark_kernels(rounds: int) -> Iterator[dict[str, Any]]:
    """Everything, one result after the other."""
    yield from (benchmark_lstm(size, rounds) for size in LSTMS)
    yield from (benchmark_mingru(size, rounds) for size in MINGRUS)
    yield from (benchmark_product(rows, rounds) for rows in ROWS)
    yield from (benchmark_precision(size, rounds) for size in PRECISIONS)


def benchmark_lstm(size: tuple[int, int, int], rounds: int) -> dict[str, Any]:
    """Forward and backward of a window: nn.LSTM in float32 and under autocast, and lmtrain's own in bfloat16."""
    from lmtrain.kernels.lstm import LSTM

    hidden, length, lanes = size
    ours = LSTM(_EMBEDDING, hidden)
    window, state = torch.randn(length, lanes, _EMBEDDING), (torch.zeros(1, lanes, hidden),) * 2
    ways = {
        "nn.LSTM, bf16": lambda: _in_bfloat16(lambda: nn.LSTM.forward(ours, window, state)),
        "lstm.py, bf16": lambda: _in_bfloat16(lambda: ours._run(window, state, torch.bfloat16)),
        "nn.LSTM, 32": lambda: nn.LSTM.forward(ours, window, state),
    }
    return _result("an LSTM's forward and backward", _name(size), "ms", _timed(ways, rounds, _forward_and_backward))


def benchmark_mingru(size: tuple[int, int, int], rounds: int) -> dict[str, Any]:
    """Forward and backward of a window through two layers: nn.GRU and minGRU."""
    from lmtrain.model.mingru import MinGRU

    hidden, length, lanes = size
    theirs, ours = nn.GRU(_EMBEDDING, hidden, 2), MinGRU(_EMBEDDING, hidden, 2)
    window, state = torch.randn(length, lanes, _EMBEDDING), torch.zeros(2, lanes, hidden)
    ways = {
        "nn.GRU, 32": lambda: theirs(window, state),
        "minGRU, 32": lambda: ours(window, (state,)),
        "nn.GRU, bf16": lambda: _in_bfloat16(lambda: theirs(window, state)),
        "minGRU, bf16": lambda: _in_bfloat16(lambda: ours(window, (state,))),
    }
    return _result("two layers of minGRU and GRU", _name(size), "ms", _timed(ways, rounds, _forward_and_backward))


def benchmark_product(rows: int, rounds: int) -> dict[str, Any]:
    """`(rows, H) x (H, 4H)` in float32, H = 1024, with torch's usual product and with a rearranged weight."""
    weight, states = torch.randn(4096, 1024), torch.randn(rows, 1024)
    columns = weight.t().contiguous()
    by_mkl = torch.ops.mkl._mkl_reorder_linear_weight(weight, rows)
    by_onednn = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    ways = {
        "torch.mm, (out, in)": lambda: torch.mm(states, weight.t()),
        "torch.mm, (in, out)": lambda: torch.mm(states, columns),
        "MKL, rearranged": lambda: torch.ops.mkl._mkl_linear(states, by_mkl, weight, None, rows),
        "oneDNN, rearranged": lambda: torch.ops.mkldnn._linear_pointwise(states, by_onednn, None, "none", [], ""),
    }
    return _result("a product with 4H·H weights", f"H1024, {rows} rows", "µs", _timed(ways, rounds, _many_times))


def benchmark_precision(size: tuple[int, int, int], rounds: int) -> dict[str, Any]:
    """A whole step of lmtrain in float32 and in bfloat16."""
    hidden, length, lanes = size
    of = Size(hidden, length, lanes, max(10, _OPERATIONS // (length * lanes * hidden * hidden)))
    values: dict[str, list[float]] = {"32-true": [], "bf16-mixed": []}
    with tempfile.TemporaryDirectory() as folder:
        characters = max(200_000, length * lanes * (of.all_steps + 4))
        corpus = write_corpus(Path(folder) / "corpus", characters, 2_100 * 10)
        for _ in range(rounds):
            for precision, milliseconds in values.items():
                milliseconds.append(_MILLI * measure("lmtrain", precision, corpus, of)["seconds"])
    return _result("a step by precision", _name(size), "ms", values)


def _in_bfloat16(forward: Callable[[], Any]) -> Any:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return forward()


def _forward_and_backward(forward: Callable[[], Any]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    output, _ = forward()
    output.float().sum().backward()
    return _MILLI * (time.perf_counter() - began)


def _many_times(product: Callable[[], Any]) -> float:
    """Microseconds of a product, the shortest of many."""
    times = []
    with torch.no_grad():
        for _ in range(_REPEATS):
            began = time.perf_counter()
            product()
            times.append(time.perf_counter() - began)
    return _MICRO * min(times)


def _timed(ways: dict[str, Any], rounds: int, clock: Callable[[Any], float]) -> dict[str, list[float]]:
    """The figures of each round, in which all run in turn; a first round to warm up is left out."""
    times = [{name: clock(way) for name, way in ways.items()} for _ in range(rounds + 1)]
    return {name: [one[name] for one in times[1:]] for name in ways}


def _name(size: tuple[int, int, int]) -> str:
    return "H{}·T{}·B{}".format(*size)


def _result(task: str, size: str, unit: str, values: dict[str, list[float]]) -> dict[str, Any]:
    return {"task": task, "size": size, "unit": unit, "values": values, "reference": next(iter(values)), "notes": {}}
