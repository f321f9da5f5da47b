"""What is saved was measured, and a stop anywhere changes nothing, whatever callbacks do to the weights."""

import random

import pytest
from measured import assert_saved_is_measured
from outcomes import assert_same_outcome, outcome
from running import compose, train

from lmtrain.errors import UserError
from lmtrain.program.signals import Interrupted

EMA = {"_target_": "lightning.pytorch.callbacks.EMAWeightAveraging", "decay": 0.9}
WINDOWS = 26  # of two epochs of two splits of 6 and 7 windows; a validation has 4


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    letters = random.Random(5)
    (folder / "train").mkdir()
    for name, count in (("train/a.txt", 8), ("train/b.txt", 10), ("valid.txt", 5), ("test.txt", 5)):
        text = "".join(f"{''.join(letters.choices('abc de', k=11))}f\n" for _ in range(count))
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def run(corpus, tmp_path):
    """`run("name", "a.key=value", callbacks=...)` trains two epochs in `tmp_path/name/run`, or goes on there."""

    def go(name, *more, **callbacks):
        values = compose(
            *("data=folder", f"data.path={corpus}", f"data.cache_dir={corpus}/cache", "data.batch_size=1"),
            *("data.sequence_length=20", "model.hidden_size=8", "model.embedding_size=4", "model.dropout=0.2"),
            *("name=run", f"runs_dir={tmp_path / name}", "logger=csv", "trainer.accelerator=cpu"),
            *("trainer.precision=32-true", "trainer.max_epochs=2", "trainer.log_every_n_steps=1", "optimizer.lr=2"),
            *("anneal.patience=0", *more),
        )
        values["callbacks"] = callbacks
        return train(values, explicit=("name",))

    return go


def stop(**where):
    return {"_target_": "stopping.SignalAt", **where}


def exchange(put, back):
    return {"_target_": "exchanging.Exchange", "put": put, "back": back}


# the first window of the second validation, the last of the third, which ends no epoch, and the first of the last one
IN_VALIDATIONS = [{"validation_window": 5}, {"validation_window": 12}, {"validation_window": 13}]


@pytest.mark.parametrize(
    ("average", "stops"),
    [
        (EMA, [*IN_VALIDATIONS, {"windows": 8}, {"windows": 13}]),
        (exchange("on_validation_start", "on_validation_end"), IN_VALIDATIONS[1:]),
        (exchange("on_validation_epoch_start", "on_validation_epoch_end"), IN_VALIDATIONS[:1]),
    ],
)
def test_weights_that_a_callback_exchanges_for_validations(average, stops, run, corpus, tmp_path):
    run("whole", average=average)
    whole = outcome(tmp_path / "whole")
    assert assert_saved_is_measured(tmp_path / "whole/run", corpus)["steps"] == WINDOWS
    for number, where in enumerate(stops):
        with pytest.raises(Interrupted):
            run(f"parts{number}", average=average, stop=stop(**where))
        run(f"parts{number}", average=average)
        assert_same_outcome(outcome(tmp_path / f"parts{number}"), whole)
        assert_saved_is_measured(tmp_path / f"parts{number}/run", corpus)


def test_averaged_weights_survive_a_divergence(run, corpus, tmp_path):
    from stopping import PoisonAt

    PoisonAt.left.clear()
    poison = {"_target_": "stopping.PoisonAt", "step": 17, "times": 1}
    run("run", "checkpoint.every_steps=3", ema=EMA, poison=poison)
    assert "back to" in (tmp_path / "run/run/train.log").read_text()
    assert_saved_is_measured(tmp_path / "run/run", corpus)


def test_averaged_weights_in_fine_tuning(run, corpus, tmp_path):
    base = run("base", "trainer.max_epochs=1")["val/loss"]
    model = tmp_path / "base/run/best-lm.pt"
    # a rate that makes everything worse: the best is the model from before training
    results = run("worse", f"init_from={model}", "optimizer.lr=1000", "trainer.gradient_clip_val=null", ema=EMA)
    assert results["best_step"] == 0
    assert results["val/loss"] == pytest.approx(base, abs=1e-6)
    assert_saved_is_measured(tmp_path / "worse/run", corpus)


@pytest.mark.parametrize(
    "average",
    [
        {"_target_": "exchanging.AverageAtTheEnd"},
        {"_target_": "lightning.pytorch.callbacks.EMAWeightAveraging", "decay": 0.5, "update_every_n_steps": 0}
        | {"update_starting_at_epoch": 0},
    ],
)
def test_weights_that_a_callback_makes_at_the_end_are_measured_too(average, run, corpus, tmp_path):
    run("run", "optimizer.lr=20", average=average)
    assert_saved_is_measured(tmp_path / "run/run", corpus)
    assert "The weights at the end" in (tmp_path / "run/run/train.log").read_text()
    # and the run goes on from the weights that were trained
    run("run", "optimizer.lr=20", "trainer.max_epochs=3", average=average)
    assert_saved_is_measured(tmp_path / "run/run", corpus)


def test_weights_that_a_callback_changes_after_every_step(run, corpus, tmp_path):
    shrink = {"_target_": "exchanging.Shrink"}
    run("whole", shrink=shrink)
    with pytest.raises(Interrupted):
        run("parts", shrink=shrink, stop=stop(windows=15))
    run("parts", shrink=shrink)
    assert_same_outcome(outcome(tmp_path / "parts"), outcome(tmp_path / "whole"))
    assert_saved_is_measured(tmp_path / "parts/run", corpus)


@pytest.mark.parametrize("hook", ["on_test_start", "on_test_epoch_start"])
def test_the_test_is_of_the_saved_model(hook, run, corpus, tmp_path):
    run("run", average=exchange(hook, hook.replace("start", "end")))
    assert_saved_is_measured(tmp_path / "run/run", corpus)


def test_weights_that_change_within_a_validation_are_refused(run):
    with pytest.raises(UserError, match=r"changed the weights within a validation.*on_validation_epoch_start"):
        run("run", average=exchange("on_validation_batch_start", "on_validation_batch_end"))


@pytest.mark.parametrize("dim", [0, 1])
def test_the_same_weights_in_another_order_are_others(dim, run):
    with pytest.raises(UserError, match=r"changed the weights within a validation"):
        run("run", reorder={"_target_": "exchanging.Reorder", "dim": dim})


def test_a_callback_that_renames_parameters_is_refused(run):
    with pytest.raises(UserError, match=r"renamed parameters .*weight_orig"):
        run("run", prune={"_target_": "exchanging.Prune"})


def test_a_checkpoint_with_averaged_weights_needs_its_callback(run):
    with pytest.raises(Interrupted):
        run("run", ema=EMA, stop=stop(windows=8))
    with pytest.raises(UserError, match=r"averages of .*EMAWeightAveraging.*callbacks"):
        run("run")
