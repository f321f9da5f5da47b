"""Real processes, real signals, real kills: nothing of a run is lost, and nothing is done twice."""

import os
import random
import resource
import signal
import socket

import pytest
import torch
from processes import command, halt_at, make_halt, met, run, signal_at, start
from running import read_metrics
from test_resume import assert_same_outcome, outcome

STEPS = 240


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    letters = random.Random(5)

    def text(characters: int) -> str:
        return "".join(letters.choices("abcdefgh ABCDEFGH\n", k=characters))

    (folder / "train").mkdir()
    for name in "ab":
        (folder / "train" / f"{name}.txt").write_text(text(2400))
    (folder / "valid.txt").write_text(text(400))
    (folder / "test.txt").write_text(text(400))
    return folder


@pytest.fixture(scope="module")
def uninterrupted(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    status, errors = run(command(corpus, folder))
    assert status == 0, errors
    return outcome(folder)


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 23))])
def test_a_run_killed_at_a_random_moment_ends_as_if_it_had_not_been(seed, corpus, tmp_path, uninterrupted):
    moments = random.Random(seed)
    for first, last in ((5, 100), (110, 200)):
        windows, seconds = moments.randrange(first, last), moments.uniform(0.0001, 0.01)
        end = f"+callbacks.end={{_target_: stopping.EndAt, windows: {windows}, seconds: {seconds}}}"
        status, errors = run(command(corpus, tmp_path, end))
        assert status == -signal.SIGPROF, errors
    status, errors = run(command(corpus, tmp_path))
    assert status == 0, errors
    assert "Going on from" in errors
    assert_same_outcome(outcome(tmp_path), uninterrupted)


def test_the_next_run_removes_what_a_run_killed_while_encoding_left(corpus, tmp_path):
    python, script, *arguments = command(corpus, tmp_path, "trainer.max_steps=1", f"data.cache_dir={tmp_path}/cache")
    killed_when_ids_are_written = (
        "import os, signal, lmtrain.data.cache.pieces as pieces; from lmtrain.cli.train import main; "
        "pieces._checksum = lambda path: os.kill(os.getpid(), signal.SIGKILL); main()"
    )
    status, errors = run([python, "-c", killed_when_ids_are_written, *arguments])
    assert status == -signal.SIGKILL, errors
    assert len(list(tmp_path.rglob(".*.tmp/ids.bin"))) == 1
    status, errors = run([python, script, *arguments])
    assert status == 0, errors
    assert not list(tmp_path.rglob(".*.tmp"))


@pytest.mark.parametrize(("name", "expected"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(name, expected, corpus, tmp_path, uninterrupted):
    status, errors = run(command(corpus, tmp_path, signal_at(30, name), "checkpoint.every_steps=null"))
    assert status == expected
    assert errors.splitlines()[-1] == f"{name} at step 30: saved. The same command goes on from there."
    assert "Traceback" not in errors
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 30
    assert max(read_metrics(tmp_path / "run", "step")) == 30
    assert run(command(corpus, tmp_path))[0] == 0
    assert_same_outcome(outcome(tmp_path), uninterrupted)


def test_a_second_sigint_ends_at_once_and_says_so(corpus, tmp_path, uninterrupted):
    twice = ("+callbacks.first={_target_: stopping.SignalAt, windows: 30, name: SIGINT}", signal_at(30, "SIGINT"))
    status, errors = run(command(corpus, tmp_path, *twice))
    assert status == 130
    said = "SIGINT twice: ended at once. What was saved before is kept. The same command goes on from there."
    assert errors.splitlines()[-1] == said
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] < 30
    assert run(command(corpus, tmp_path))[0] == 0
    assert_same_outcome(outcome(tmp_path), uninterrupted)


def test_sigusr1_saves_and_goes_on(corpus, tmp_path):
    more = ("checkpoint.every_steps=null", "data.validations_per_epoch=1", signal_at(10, "SIGUSR1"))
    status, errors = run(command(corpus, tmp_path, *more, signal_at(40, "SIGKILL")))
    assert status == -signal.SIGKILL, errors
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 10
    assert max(read_metrics(tmp_path / "run", "step")) == 40


def test_the_requeue_signal_queues_the_slurm_job_again(corpus, tmp_path):
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "77", "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    more = ("checkpoint.requeue_signal=SIGUSR2", signal_at(10, "SIGUSR2"))
    status, errors = run(command(corpus, tmp_path, *more), environment=slurm)
    assert status == 0, errors
    assert (tmp_path / "asked").read_text() == "requeue 77\n"
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 10


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_lives(corpus, tmp_path):
    make_halt(tmp_path / "run")
    first = start(command(corpus, tmp_path, halt_at(3)))
    with met(tmp_path / "run", first):
        status, errors = run(command(corpus, tmp_path))
        assert status == 2
        assert f"Another process is training in {tmp_path}/run: process {first.pid} on {socket.gethostname()}" in errors
        assert first.poll() is None
        first.kill()
        first.communicate()
    assert run(command(corpus, tmp_path))[0] == 0  # a dead one's lock is no obstacle


def test_a_terminal_that_goes_away_is_no_end(corpus, tmp_path, uninterrupted):
    """As when a window is closed after `disown`: SIGHUP is ignored, and whatever is written fails."""
    ours, its = os.openpty()
    make_halt(tmp_path / "run")
    arguments = command(corpus, tmp_path, halt_at(30))
    first = start(arguments, stdout=its, stderr=its, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    os.close(its)
    with met(tmp_path / "run", first):
        os.close(ours)
    assert first.wait(timeout=200) == 0
    assert "Test of the best model" in (tmp_path / "run/train.log").read_text()
    assert_same_outcome(outcome(tmp_path), uninterrupted)


def limit_file_size(size: int):
    """In a new process: writing beyond this size fails, as on a full disk; for root, too."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_a_full_disk_leaves_the_last_good_files_and_the_run_goes_on(corpus, tmp_path, uninterrupted):
    assert run(command(corpus, tmp_path, signal_at(60, "SIGKILL")))[0] == -signal.SIGKILL
    files = [tmp_path / "run/checkpoints/last.ckpt", tmp_path / "run/checkpoints/previous.ckpt"]
    before = [file.read_bytes() for file in files]

    size = 30_000  # more than metrics.csv and the log need, less than a checkpoint does
    status, errors = run(command(corpus, tmp_path), preexec_fn=limit_file_size(size))

    assert status == 2
    assert "could not be saved" in errors
    assert "training goes on" in errors
    assert f"step {STEPS}" in errors.replace(",", "")  # it went on to the end
    assert "Make room" in errors.splitlines()[-1]
    assert [file.read_bytes() for file in files] == before
    assert run(command(corpus, tmp_path))[0] == 0
    assert_same_outcome(outcome(tmp_path), uninterrupted)
