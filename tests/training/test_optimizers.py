"""Any torch optimizer trains and goes on bit for bit, or is refused before anything is written."""

from pathlib import Path

import pytest
import torch
from corpora import write_corpus
from measured import assert_saved_is_measured
from outcomes import assert_same_outcome, outcome
from running import SMALL, compose, read_metrics, train
from stopping import Killed

from lmtrain.errors import UserError

RATES = {
    **{"ASGD": 1, "Adadelta": 1, "Adafactor": 0.05, "Adagrad": 0.05, "Adam": 0.01, "AdamW": 0.01, "Adamax": 0.02},
    **{"LBFGS": 0.2, "NAdam": 0.01, "RAdam": 0.05, "RMSprop": 0.005, "Rprop": 0.001, "SGD": 2},
}
REFUSED = {"Muon": "Muon only supports 2D parameters", "SparseAdam": "does not support dense gradients"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_corpus(Path("corpus"), train={"1.txt": "abc abd.\n" * 40}, valid="ab ad.\n" * 9, test="abd.\n" * 9)


def values(target, rate, *more, **callbacks):
    result = compose(
        *SMALL,
        "logger=csv",
        "data.batch_size=1",
        "trainer.precision=32-true",
        "trainer.max_steps=36",
        f"optimizer._target_={target}",
    )
    result["optimizer"]["lr"] = rate
    if target.endswith("LBFGS"):  # more than twice, it fits the window at the cost of the others
        result["optimizer"] |= {"max_iter": 2, "history_size": 1}
    result["callbacks"] = callbacks
    return result | dict(more)


def test_each_of_torch_is_known():
    there = {name for name, kind in vars(torch.optim).items() if isinstance(kind, type)} - {"Optimizer"}
    assert there == RATES.keys() | REFUSED.keys()


@pytest.mark.parametrize("name", RATES)
def test_one_of_torch_trains_and_goes_on_bit_for_bit(name, place):
    target = f"torch.optim.{name}"
    train(values(target, RATES[name], ("name", "run"), ("runs_dir", "whole")))
    assert_saved_is_measured(Path("whole/run"), place)
    losses = read_metrics(Path("whole/run"), "val/loss")
    stopped = values(target, RATES[name], ("name", "run"), kill={"_target_": "stopping.KillAt", "windows": 17})
    stopped["checkpoint"]["every_steps"] = 5
    with pytest.raises(Killed):
        train(stopped)
    train(values(target, RATES[name], ("name", "run")))
    assert_same_outcome(outcome(Path("runs")), outcome(Path("whole")))
    assert losses[-1] < 2.0  # of 2.2, which the untrained model has


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("name", REFUSED)
def test_one_that_cannot_train_this_is_refused(name):
    with pytest.raises(UserError, match=REFUSED[name]):
        train(values(f"torch.optim.{name}", 0.01))
    assert not Path("runs").exists()


@pytest.mark.usefixtures("place")
def test_one_that_looks_twice_sees_the_same_loss_for_the_same_weights():
    """Also with dropout, and every item counts once."""
    from hooks import Twice

    Twice.losses.clear()
    twice = values("hooks.Twice", 0.5)
    twice["model"]["dropout"] = 0.5
    results = train(twice)
    assert Twice.losses
    assert all(first == second for first, second in Twice.losses)
    once = values("torch.optim.SGD", 0.5, ("name", "once"))
    once["model"]["dropout"] = 0.5
    assert train(once)["chars"] == results["chars"]
    # whoever looks twice before a step that is SGD's trains as SGD does
    runs = [torch.load(f"runs/{name}/checkpoints/last.ckpt", weights_only=True) for name in (twice["name"], "once")]
    for one, other in zip(*(run["state_dict"].values() for run in runs), strict=True):
        assert torch.allclose(one, other, atol=1e-7)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("hooks.Forgetful", r"state_dict\(\) does not hold all that its next step depends on"),
        ("hooks.Unreadable", r"could not be read again from a checkpoint: .*Color"),
        ("hooks.Idle", "never calls closure"),
    ],
)
def test_one_that_could_not_go_on_is_refused(target, message):
    with pytest.raises(UserError, match=message):
        train(values(target, 0.1))
    assert not Path("runs").exists()
