"""A signal in a sweep whose jobs run in processes of their own."""

import os
import signal

import pytest
from corpora import write_corpus
from processes import command, halt_at, make_halt, met, run, start


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "send"), [(signal.SIGINT, os.killpg), (signal.SIGINT, os.kill)])
def test_a_signal_saves_every_job_and_the_same_command_goes_on(signum, send, tmp_path):
    """Ctrl-C reaches all processes; who sends a signal may know the first one only."""
    python, script, *overrides = command(write_corpus(tmp_path / "corpus"), tmp_path)
    sweep = [python, script, "-m", *overrides, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=1,2,3"]
    jobs = [tmp_path / f"run-seed-{seed}" for seed in (1, 2)]
    for job in jobs:
        make_halt(job)
    process = start([*sweep, halt_at(10), "checkpoint.every_steps=null"], start_new_session=True)
    with met(jobs[0], process), met(jobs[1], process):
        send(process.pid, signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert "Traceback" not in errors
    assert errors.count("saved. The same command goes on from there.") == 2
    assert not (tmp_path / "run-seed-3").exists()
    status, errors = run(sweep, cwd=tmp_path)  # not forked, as joblib starts processes itself
    assert status == 0
    assert errors.count("Going on from") == 2
    assert len(list(tmp_path.glob("run-seed-*/results.json"))) == 3


def test_a_signal_to_the_sweep_alone_is_handed_on_to_the_process_of_its_job(tmp_path):
    python, script, *overrides = command(write_corpus(tmp_path / "corpus"), tmp_path)
    apart = "trainer.devices='1'"  # not the number one, so in a process that could start others
    job = tmp_path / "run-seed-1"
    make_halt(job)
    sweep = [python, script, "-m", *overrides, apart, "seed=1,2", halt_at(10), "checkpoint.every_steps=null"]
    process = start(sweep)
    with met(job, process):
        os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.count("saved. The same command goes on from there.") == 1  # at step 10, or one made meanwhile
    assert "Traceback" not in errors
    assert not (tmp_path / "run-seed-2").exists()
