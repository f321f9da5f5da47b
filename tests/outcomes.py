"""Compares what two runs have left, bit for bit."""

import csv

import torch


def outcome(folder):
    """The files and figures of a run that do not depend on the clock."""
    checkpoint = torch.load(folder / "run/checkpoints/last.ckpt", weights_only=True)
    del checkpoint["lmtrain"]["seconds"]
    with (folder / "run/metrics.csv").open(newline="") as file:
        rows = [
            {name: value for name, value in row.items() if name != "chars_per_second"} for row in csv.DictReader(file)
        ]
    best = (folder / "run/best-lm.pt").read_bytes()
    return checkpoint, rows, best


def assert_same(one, other) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert one == other


def assert_same_outcome(one, other) -> None:
    checkpoint, rows, best = one
    checkpoint_2, rows_2, best_2 = other
    assert rows == rows_2
    for part in ("state_dict", "optimizer_states", "callbacks", "lmtrain", "WindowDataModule", "global_step", "epoch"):
        assert_same(checkpoint[part], checkpoint_2[part])
    assert best == best_2
