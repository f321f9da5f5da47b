"""Several ranks over gloo train as one process does, and a run may change their number."""

import csv
import random
import shutil
import signal

import pytest
import torch
from processes import command, run, signal_at, start
from running import read_metrics

COLUMNS = ("train/loss", "val/loss", "grad_norm", "lr", "chars")
# double precision: what is left of a difference is a mistake, not rounding that training magnifies
EXACT = ("model.dropout=0", "trainer.precision=64-true")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    letters = random.Random(6)

    def text(characters: int) -> str:
        return "".join(letters.choices("abcdefgh ABCDEFGH\n", k=characters))

    (folder / "train").mkdir()
    for name in "ab":
        (folder / "train" / f"{name}.txt").write_text(text(2400))
    (folder / "valid.txt").write_text(text(400))
    (folder / "test.txt").write_text(text(400))
    return folder


def ranks(count: int) -> tuple[str, ...]:
    return ("trainer=ddp_cpu", f"trainer.devices={count}", "trainer.accelerator=cpu") if count > 1 else ()


@pytest.fixture(scope="module")
def one_process(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    status, errors = run(command(corpus, folder, *EXACT))
    assert status == 0, errors
    return folder / "run"


@pytest.fixture(scope="module")
def killed_on_two(corpus, tmp_path_factory):
    """A run on two ranks, one of which was killed in its middle."""
    folder = tmp_path_factory.mktemp("two")
    status, _ = run([*command(corpus, folder, *EXACT), *ranks(2), signal_at(50, "SIGKILL", rank=1)])
    assert status != 0
    return folder


def assert_same_figures(one, other) -> None:
    for column in COLUMNS:
        assert read_metrics(one, column) == pytest.approx(read_metrics(other, column), rel=1e-6), column


def test_two_ranks_have_the_losses_of_one_process_also_in_slurms_shell(corpus, tmp_path, one_process):
    shell = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "bash", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
    status, errors = run([*command(corpus, tmp_path, *EXACT), *ranks(2)], environment=shell)
    assert status == 0, errors
    assert_same_figures(tmp_path / "run", one_process)
    assert errors.count("Test of the best model") == 1  # only one rank speaks


# four lanes on three ranks are 1, 1 and 2
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_run_on_two_ranks_goes_on_on_another_number_of_ranks(count, corpus, tmp_path, killed_on_two, one_process):
    shutil.copytree(killed_on_two / "run", tmp_path / "run")
    status, errors = run([*command(corpus, tmp_path, *EXACT), *ranks(count)])
    assert status == 0, errors
    assert "Going on from" in errors
    assert_same_figures(tmp_path / "run", one_process)


def test_no_rank_stays_when_the_first_one_fails(corpus, tmp_path):
    process = start([*command(corpus, tmp_path), *ranks(2), "+callbacks.fail={_target_: stopping.FirstRankFails}"])
    _, errors = process.communicate(timeout=250)  # until nobody has the pipe any more: the other rank sleeps for longer
    assert process.returncode == 1
    assert "the first rank fails" in errors


def test_sigterm_to_the_first_rank_saves_and_ends_all(corpus, tmp_path, one_process):
    more = ("checkpoint.every_steps=null", signal_at(30, "SIGTERM"))
    status, errors = run([*command(corpus, tmp_path, *EXACT, *more), *ranks(2)])
    assert status == 143, errors
    assert "saved. The same command goes on from there." in errors
    status, errors = run([*command(corpus, tmp_path, *EXACT), *ranks(2)])
    assert status == 0, errors
    assert_same_figures(tmp_path / "run", one_process)


def test_a_signal_to_another_rank_between_the_loops_ends_all_with_a_sentence(corpus, tmp_path):
    name = "SIGINT"
    sending = f"+callbacks.sending={{_target_: stopping.SignalBetweenLoops, hook: on_fit_start, name: {name}}}"
    status, errors = run([*command(corpus, tmp_path), *ranks(2), sending])
    assert status == 128 + signal.Signals[name], errors
    assert "Traceback" not in errors, errors
    assert errors.splitlines()[-1].startswith(f"{name} before a step was made: what was saved before is kept")
    assert errors.count("The same command") == 1
    assert "Traceback" not in errors


def test_sigterm_within_a_validation_is_followed_within_it(corpus, tmp_path):
    # ranks talk about once a second: a validation must last longer
    slow = "+callbacks.slow={_target_: stopping.Slow, seconds: 0.2, validation_seconds: 0.4}"
    sigterm = "+callbacks.sigterm={_target_: stopping.SignalAt, validation_window: 1}"
    arguments = [*command(corpus, tmp_path, "data.validations_per_epoch=40", "test=false"), *ranks(2)]
    status, errors = run([*arguments, "checkpoint.every_steps=null", slow, sigterm])
    assert status == 143, errors
    assert read_metrics(tmp_path / "run", "val/loss") == []
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    status, errors = run([*arguments, f"trainer.max_steps={checkpoint['global_step'] + 1}"])
    assert status == 0, errors
    with (tmp_path / "run/metrics.csv").open(newline="") as file:
        validated = [int(row["step"]) for row in csv.DictReader(file) if row["val/loss"]]
    assert validated[0] == checkpoint["global_step"]
