"""Training on GPUs, seen on an emulated one: emulated_runs.py trains there, in one process; here is what must be so."""

import json
import subprocess
import sys

import emulated_cuda
import pytest
from emulated_runs import CASES, STOPS
from processes import ROOT

pytestmark = pytest.mark.skipif(not emulated_cuda.is_possible(), reason=emulated_cuda.REASON)

IN_FLOAT16 = [name for name in CASES if "16-mixed" in name and "bf16" not in name]
ON_THE_CPU_TOO = [
    name for name, options in CASES.items() if {"trainer.precision=32-true", "model.dropout=0"} <= {*options}
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("emulated")
    command = [sys.executable, ROOT / "tests/emulated_runs.py", folder]
    done = subprocess.run(command, env=emulated_cuda.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_it_trains_validates_samples_and_saves(name, report):
    assert "error" not in report[name], report[name]["error"]
    assert len(report[name]["val"]) == 2
    assert all(0 < loss < 5 for loss in report[name]["val"])


@pytest.mark.parametrize("name", ON_THE_CPU_TOO)
def test_the_losses_are_those_of_the_cpu(name, report):
    assert report[name]["val"] == pytest.approx(report[name]["cpu"], rel=1e-6)


@pytest.mark.parametrize("where", STOPS)
@pytest.mark.parametrize("name", CASES)
def test_a_run_that_a_signal_stopped_goes_on_bit_for_bit(name, where, report):
    assert report[name]["differences"][where] == []


@pytest.mark.parametrize("name", CASES)
def test_the_host_waits_for_nothing_in_a_step(name, report):
    in_a_step = 1 if name in IN_FLOAT16 else 0  # whether the scaled gradients are finite
    entries = {kind: report[name][kind] for kind in ("steps", "reports", "moves", "validations")}
    histograms = [seen for seen in entries["steps"] + entries["reports"] if seen[0] > 100]  # before a validation
    assert len(histograms) == (2 if "callbacks=histograms" in CASES[name] else 0)
    for kind, reads in (("steps", in_a_step), ("reports", in_a_step + 3), ("moves", 0)):
        seen = [entry for entry in entries[kind] if entry not in histograms]
        assert seen, kind
        assert {entry[0] for entry in seen} == {reads}, (kind, seen)
        assert {entry[1] for entry in seen} == {0}, (kind, seen)
    # with the saving, which fetches every tensor of weights and optimizer
    assert all(reads <= 100 and writes <= 20 for reads, writes, _ in entries["validations"])


@pytest.mark.parametrize("name", CASES)
def test_float16_is_used_only_where_it_is_asked_for(name, report):
    assert bool(report[name]["halves"]) == (name in IN_FLOAT16), report[name]["halves"][:5]
