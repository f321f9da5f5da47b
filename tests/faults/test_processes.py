"""Real processes, real signals, real kills: nothing of a run is lost, and nothing is done twice."""

import os
import random
import resource
import shutil
import signal
import time

import pytest
import torch
from processes import SLOW, command, run, start, steps_done, wait_until
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
    for _ in range(2):
        process = start(command(corpus, tmp_path, SLOW))
        at = steps_done(tmp_path) + moments.randrange(5, 120)
        wait_until(lambda at=at: steps_done(tmp_path) >= at, process)
        time.sleep(moments.random() * 0.05)
        process.kill()
        process.communicate()
    status, errors = run(command(corpus, tmp_path))
    assert status == 0, errors
    assert "Going on from" in errors
    assert_same_outcome(outcome(tmp_path), uninterrupted)


def test_the_next_run_removes_what_a_run_killed_while_encoding_left(corpus, tmp_path):
    arguments = command(corpus, tmp_path, "trainer.max_steps=1", f"data.cache_dir={tmp_path}/cache")
    huge = tmp_path / "huge"
    shutil.copytree(corpus, huge)
    (huge / "train" / "c.txt").write_text("abcdefgh ABCDEFGH\n" * 5_000_000)
    process = start([*arguments, f"data.path={huge}"])
    wait_until(lambda: list(tmp_path.rglob(".*.tmp/ids.bin")), process)
    process.kill()
    process.communicate()
    assert list(tmp_path.rglob(".*.tmp"))
    status, errors = run(arguments)
    assert status == 0, errors
    assert not list(tmp_path.rglob(".*.tmp"))


@pytest.mark.parametrize(("signum", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(signum, expected, corpus, tmp_path, uninterrupted):
    process = start(command(corpus, tmp_path, SLOW, "checkpoint.every_steps=null"))
    wait_until(lambda: steps_done(tmp_path) >= 30, process)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == expected
    assert errors.splitlines()[-1].endswith("saved. The same command goes on from there.")
    assert "Traceback" not in errors
    done = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert done == max(read_metrics(tmp_path / "run", "step"))
    assert run(command(corpus, tmp_path))[0] == 0
    assert_same_outcome(outcome(tmp_path), uninterrupted)


def test_sigusr1_saves_and_goes_on(corpus, tmp_path):
    process = start(command(corpus, tmp_path, SLOW, "checkpoint.every_steps=null", "data.validations_per_epoch=1"))
    wait_until(lambda: steps_done(tmp_path) >= 10, process)
    process.send_signal(signal.SIGUSR1)
    last = tmp_path / "run/checkpoints/last.ckpt"
    wait_until(last.exists, process)
    saved_at = torch.load(last, weights_only=True)["global_step"]
    assert saved_at < STEPS // 2  # the first validation, which saves too, is there
    wait_until(lambda: steps_done(tmp_path) > saved_at + 5, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


def test_the_requeue_signal_queues_the_slurm_job_again(corpus, tmp_path):
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "77", "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    process = start(command(corpus, tmp_path, SLOW, "checkpoint.requeue_signal=SIGUSR2"), environment=slurm)
    wait_until(lambda: steps_done(tmp_path) >= 10, process)
    process.send_signal(signal.SIGUSR2)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "asked").read_text() == "requeue 77\n"
    assert (tmp_path / "run/checkpoints/last.ckpt").exists()


def test_a_second_run_in_the_same_folder_is_refused_while_the_first_lives(corpus, tmp_path):
    first = start(command(corpus, tmp_path, SLOW.replace("0.02", "0.5")))  # it lives for two minutes
    wait_until(lambda: steps_done(tmp_path) >= 3, first)
    status, errors = run(command(corpus, tmp_path))
    assert status == 2
    assert f"Another process is training in {tmp_path}/run" in errors
    assert first.poll() is None
    first.kill()
    first.communicate()
    assert run(command(corpus, tmp_path))[0] == 0  # a dead one's lock is no obstacle


def limit_file_size(size: int):
    """In a new process: writing beyond this size fails, as on a full disk; for root, too."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_a_full_disk_leaves_the_last_good_files_and_the_run_goes_on(corpus, tmp_path, uninterrupted):
    process = start(command(corpus, tmp_path, SLOW))
    wait_until(lambda: steps_done(tmp_path) >= 60, process)
    process.kill()
    process.communicate()
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
