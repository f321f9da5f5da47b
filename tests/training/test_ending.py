"""A run is finished only if its own limits ended it; after any other end the same command goes on."""

import hashlib
import json
import logging
from pathlib import Path

import processes
import pytest
import torch
from corpora import sentences, write_corpus
from running import SMALL, read_metrics

SLOW = "+callbacks.slow={_target_: stopping.Slow, seconds: 0.02}"
STOPPING = "+callbacks.stop={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/loss, min_delta: 9"
RUN = (
    *SMALL,
    "logger=csv",
    "trainer.max_steps=-1",
    "data.train=train/1.txt",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
)


@pytest.fixture
def run(train_py, caplog):
    """Runs `train.py name=run OVERRIDES` on 52 windows an epoch; gives results.json, and what was said."""
    Path("corpus/train/1.txt").write_text(sentences(200)[:4164])
    caplog.set_level(logging.INFO, "lmtrain")

    def call(*overrides, name="run", status=0):
        logging.getLogger("lmtrain").propagate = True
        ended = train_py(*RUN, f"name={name}", *overrides)
        assert ended.status == status, ended.message
        try:
            results = json.loads(Path(f"runs/{name}/results.json").read_text())
        except FileNotFoundError:
            results = None
        return results, ended.message

    return call


def saved(name="run"):
    """The step and the weights of a run's last checkpoint."""
    checkpoint = torch.load(f"runs/{name}/checkpoints/last.ckpt", weights_only=True)
    return checkpoint["global_step"], checkpoint["state_dict"]


def same_weights(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_max_time_ends_a_part_of_the_run_and_the_same_command_goes_on(run):
    slow = (SLOW, "trainer.max_epochs=1")
    short = (*slow, "+trainer.max_time={milliseconds: 200}")
    first, message = run(*short)
    assert first["ended_by"] == "trainer.max_time"
    assert 1 <= first["steps"] <= 11  # 200 ms of at least 20 ms a step, and the one that was begun
    assert saved()[0] == first["steps"]
    assert "Trains for 0:00:00.200000 at most, this time" in message
    assert "by trainer.max_time={'milliseconds': 200}. The same command goes on" in message
    second, message = run(*short)
    assert first["steps"] < second["steps"] <= first["steps"] + 11
    assert "is finished" not in message
    third, _ = run("trainer.max_epochs=1", "+trainer.max_time=00:01:00:00")
    assert (third["ended_by"], third["steps"]) == ("trainer.max_epochs", 52)
    assert "is finished" in run("trainer.max_epochs=1", "+trainer.max_time=00:00:00:01")[1]
    assert run("trainer.max_epochs=2")[0]["steps"] == 104
    run("trainer.max_epochs=2", name="whole")
    assert same_weights(saved()[1], saved("whole")[1])


def test_a_run_that_a_callback_ended_goes_on_past_that_step(run):
    """Also in the last epoch, of which Lightning counts a part for the whole."""
    stop = ("trainer.max_epochs=2", "+callbacks.stop={_target_: hooks.StopAfter, steps: 60}", "anneal.schedule=linear")
    first, message = run(*stop)
    assert (first["ended_by"], first["steps"]) == ("callbacks", 60)
    assert "Ended at step 60 by a callback (stop)" in message
    second, message = run(*stop)
    assert (second["ended_by"], second["steps"]) == ("trainer.max_epochs", 104)
    assert "is finished" in run(*stop)[1]
    run("trainer.max_epochs=2", "anneal.schedule=linear", name="whole")
    assert same_weights(saved()[1], saved("whole")[1])
    assert read_metrics(Path("runs/run"), "lr") == read_metrics(Path("runs/whole"), "lr")


def test_a_validation_that_was_not_due_lowers_no_rate(run):
    """Lightning validates where a callback ends a run within an epoch; the run that goes on is as one never ended."""
    length = ("trainer.max_epochs=2", "anneal.patience=0", "anneal.factor=0.5", "optimizer.lr=20")
    run(*length, name="whole")
    for steps in (5, 3, 2, 40):
        run(*length, f"+callbacks.stop={{_target_: hooks.StopAfter, steps: {steps}}}")
    run(*length)
    one, other = (torch.load(f"runs/{name}/checkpoints/last.ckpt", weights_only=True) for name in ("run", "whole"))
    assert one["callbacks"]["AnnealOnPlateau"] == other["callbacks"]["AnnealOnPlateau"]
    assert same_weights(one["state_dict"], other["state_dict"])


def test_patience_that_is_spent_trains_nothing_more_and_more_patience_goes_on(run):
    more = ("data.validations_per_epoch=4", "trainer.max_epochs=1")
    first, _ = run(*more, f"{STOPPING}, patience: 1}}")
    assert (first["ended_by"], first["steps"]) == ("callbacks", 26)
    before = saved()
    again, message = run(*more, f"{STOPPING}, patience: 1}}")
    assert again == first
    assert "No step was trained" in message
    assert "stop: 1 in a row without improvement, patience=1" in message
    assert saved()[0] == before[0]
    assert run(*more, f"{STOPPING}, patience: 2}}")[0]["steps"] == 39
    finished, _ = run(*more)
    assert (finished["ended_by"], finished["steps"]) == ("trainer.max_epochs", 52)


def test_a_loss_beyond_what_is_allowed_trains_nothing_more_and_more_allowance_goes_on(run):
    stopping = STOPPING.replace("min_delta: 9", "patience: 99, divergence_threshold")
    more = ("data.validations_per_epoch=4", "trainer.max_epochs=1")
    first, _ = run(*more, f"{stopping}: 0.1}}")
    assert (first["ended_by"], first["steps"]) == ("callbacks", 13)
    again, message = run(*more, f"{stopping}: 0.1}}")
    assert again == first
    assert "beyond divergence_threshold=0.1" in message
    assert run(*more, f"{stopping}: 99}}")[0]["steps"] == 52


def test_the_loss_before_training_ends_no_run(run):
    """It is beyond what is allowed, but no EarlyStopping looks at it."""
    run("trainer.max_steps=5")
    limited = STOPPING.replace("min_delta: 9", "patience: 99, divergence_threshold: 0.1") + "}"
    more = ("init_from=runs/run/best-lm.pt", "data.validations_per_epoch=4", "trainer.max_epochs=1", limited)
    run(*more, "+callbacks.signal={_target_: stopping.SignalAt, windows: 5}", name="tuned", status=143)
    assert saved("tuned")[0] == 5
    assert run(*more, name="tuned")[0]["steps"] == 13


def test_lightnings_timer_which_counts_all_parts_ends_the_next_at_once_and_says_so(run):
    timer = "+callbacks.timer={_target_: lightning.pytorch.callbacks.Timer, duration: {milliseconds: 1}}"
    first, _ = run(timer)
    assert (first["ended_by"], first["steps"]) == ("callbacks", 1)
    again, message = run(timer)
    assert again == first
    assert "No step was trained" in message
    assert "(timer)" in message
    later = "+callbacks.timer={_target_: lightning.pytorch.callbacks.Timer, duration: {hours: 1}}"
    assert run(later, "trainer.max_steps=9")[0]["steps"] == 9


def test_a_callback_that_ends_the_run_before_its_first_step_is_a_mistake(run):
    timer = "+callbacks.timer={_target_: lightning.pytorch.callbacks.Timer, duration: {seconds: 0}}"
    results, message = run(timer, status=2)
    assert results is None
    assert "No step was trained" in message


@pytest.mark.parametrize(("least", "steps"), [("min_steps=33", 33), ("min_epochs=2", 104)])
def test_below_min_lr_the_run_goes_on_until_its_least_length(least, steps, run):
    more = ("data.validations_per_epoch=4", "trainer.max_epochs=3", "anneal.patience=0", "optimizer.lr=1e-6")
    more += ("anneal.min_lr=1e-6",)
    first, message = run(*more)
    assert (first["ended_by"], first["steps"]) == ("anneal.min_lr", 26)
    assert "training ends here" in message
    assert "is finished" in run(*more)[1]
    second, message = run(*more, f"+trainer.{least}")
    assert (second["ended_by"], second["steps"]) == ("anneal.min_lr", steps)
    assert saved()[0] == steps
    assert "training ends at trainer.min_epochs or trainer.min_steps" in message
    assert "is finished" in run(*more, f"+trainer.{least}")[1]


def files():
    """All files and a hash of each, but for the cache."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in Path().rglob("*")
        if path.parts[0] != "cache"
    }


@pytest.mark.parametrize("windows", ["true", "3"])
def test_fast_dev_run_leaves_nothing(windows, run):
    before = files()
    more = ("logger=[csv,tensorboard]", f"+trainer.fast_dev_run={windows}", "trainer.accumulate_grad_batches=2")
    _, message = run(*more)
    assert f"all works, with {'3 windows' if windows == '3' else 'a window'} of each text. Nothing was kept" in message
    assert "val loss" in message
    assert files() == before
    run("trainer.max_steps=5")
    after = files()
    run(*more, "overwrite=true")
    assert files() == after
    assert run("trainer.max_steps=7")[0]["steps"] == 7


def test_ranks_of_a_strategy_object_end_together_when_the_time_is_over(tmp_path):
    """Real processes, which agree on the clock about once a second."""
    corpus = write_corpus(tmp_path / "corpus", train={"1.txt": sentences(900)})
    strategy = "{_target_: lightning.pytorch.strategies.DDPStrategy, find_unused_parameters: true, bucket_cap_mb: 1}"
    arguments = ("trainer=ddp_cpu", f"trainer.strategy={strategy}", "+trainer.max_time={milliseconds: 1}")
    status, message = processes.run(processes.command(corpus, tmp_path, SLOW, *arguments))
    assert status == 0, message
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["ended_by"] == "trainer.max_time"
    assert "2 × CPU" in message
    assert 1 <= results["steps"] < 900
