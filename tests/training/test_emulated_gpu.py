"""Training on an emulated GPU: asserts what emulated_runs.py, which trains there in one process, has noted."""

import json
import subprocess
import sys

import emulated_cuda
import pytest
import torch
from corpora import write_corpus
from emulated_runs import BASE, CASES, STOPS
from processes import ROOT
from running import read_metrics
from script_calls import call

pytestmark = [
    pytest.mark.skipif(not emulated_cuda.is_possible(), reason=emulated_cuda.REASON),
    pytest.mark.timeout(900),  # the first test waits for the device to be compiled and for all runs
]

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


@pytest.fixture(scope="module")
def used(report):
    def result(name: str) -> dict:
        assert "error" not in report[name], report[name]["error"]
        return report[name]

    return result


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


def test_steps_that_scaled_gradients_skip_are_no_divergence(used):
    skipped = used("skipped_steps")
    assert skipped["skipped"] > 1
    assert skipped["steps"] == 39
    assert skipped["loss"] < 3


def test_a_run_that_diverges_goes_back(used):
    assert used("rollback")["rates"] == [0.125, 0.5]
    assert used("rollback")["steps"] == 39
    assert used("rollback")["loss"] < 3


@pytest.mark.parametrize("where", ["on an older GPU", "on a newer GPU", "on the CPU"])
def test_a_run_goes_on_where_auto_is_another_precision(where, used):
    assert used("another_precision")[where] == 39


def test_fine_tuning_has_the_losses_of_the_cpu(used):
    tuned = used("fine_tuning")
    assert tuned["gpu"] == pytest.approx(tuned["cpu"], rel=1e-5)
    assert tuned["gpu"] < tuned["before"]


def test_scores_texts_and_vectors_are_those_of_the_cpu(used):
    gpu, cpu = used("scripts")["cuda"], used("scripts")["cpu"]
    assert gpu["statuses"] == cpu["statuses"] == [0, 0, 0, 0]
    assert len(gpu["scores"]) == 3  # two files and their total
    assert gpu["scores"] == pytest.approx(cpu["scores"], rel=1e-6)
    assert len(gpu["texts"]) == 4
    assert gpu["texts"][0]["text"] == cpu["texts"][0]["text"]  # the most probable one
    assert gpu["vectors"] == pytest.approx(cpu["vectors"], rel=1e-5)


def test_generating_scoring_and_embedding_need_no_float64_on_the_device(used):  # Apple's GPUs have none
    assert used("scripts")["in float64"] == []


def test_training_on_the_cpu_beside_a_gpu_leaves_it_alone(used):
    assert used("cpu_beside_a_gpu") == {"pinned": 0, "seen": []}


def test_without_bfloat16_in_cudnn_recurrent_layers_are_computed_in_float32(used):
    older = used("older_cudnn")
    assert older["halves"] == 0
    assert older["hidden"] == ["torch.float32"] * 2
    assert "no LSTM in bfloat16 here: it is computed in float32" in older["log"]
    assert older["loss"] < 3


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_small_gradients_are_not_lost_in_mixed_precision(kind, used):
    assert used("small_gradients")[kind]["cosine"] > 0.99
    assert used("small_gradients")[kind]["ratio"] == pytest.approx(1, abs=0.05)


def test_the_cost_is_measured_in_the_precision_and_on_the_device_of_training(used):
    cost = used("cost")
    assert cost["trainer.precision=auto"] == ["Emulated GPU", "bf16-mixed", False, True]
    assert cost["trainer.precision=32-true"] == ["Emulated GPU", "32-true", False, True]
    assert cost["trainer.precision=16-mixed"] == ["Emulated GPU", "16-mixed", True, True]
    device, _, in_float16, on_gpu = cost["trainer.accelerator=cpu"]
    assert device.startswith("CPU, ")
    assert not in_float16
    assert not on_gpu


def test_two_gpus_have_the_losses_of_one(report, tmp_path):
    write_corpus(tmp_path / "corpus")
    places = (f"data.path={tmp_path}/corpus", f"data.cache_dir={tmp_path}/cache", f"runs_dir={tmp_path}", "name=run")
    name = "LSTM, 32-true"
    options = (*BASE, *CASES[name], *places, "trainer=ddp", "trainer.devices=2")
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *options],
        env=emulated_cuda.environment(devices=2),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    assert "2 × CUDA" in done.stderr
    assert "4 lanes on 2 GPUs" in done.stderr
    assert read_metrics(tmp_path / "run", "val/loss") == pytest.approx(report[name]["val"], rel=1e-5)


def test_a_gpu_is_checked_with_one_command():
    small = ("--hidden-size=16", "--length=10", "--lanes=4", "--steps=2")
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/check_gpu.py", *small],
        env=emulated_cuda.environment(bfloat16_rnn=False),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "LSTM, bf16-mixed                  computed in float32 (torch's own under autocast to bfloat16: float16)"
        in (done.stdout)
    )
    assert done.stdout.count("\nright ") == 12
    assert done.stdout.count("characters/s") == 4
    assert "Verdict: all is right." in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_check_without_a_gpu_is_refused(capsys):
    assert call("check_gpu") == 2
    assert "torch finds no NVIDIA GPU here" in capsys.readouterr().err
