"""A run that stops anywhere and goes on ends as if it had not stopped, bit for bit."""

import random

import pytest
import torch
from outcomes import assert_same_outcome, outcome
from running import compose, train
from stopping import Killed, PoisonAt

from lmtrain.errors import UserError

AVERAGE = {"ema": {"_target_": "lightning.pytorch.callbacks.EMAWeightAveraging", "decay": 0.9}}
WINDOWS = 26  # of the run below: two epochs of two splits of 6 and 7 windows


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    letters = random.Random(3)

    def text(characters: int) -> str:
        return "".join(letters.choices("abcde ABCDE\n", k=characters))

    (folder / "train").mkdir()
    (folder / "train" / "a.txt").write_text(text(190))
    (folder / "train" / "b.txt").write_text(text(230))
    (folder / "valid.txt").write_text(text(120))
    (folder / "test.txt").write_text(text(120))
    return folder


def settings(corpus, folder, *more, callbacks=None):
    values = compose(
        "data=folder",
        f"data.path={corpus}",
        f"data.cache_dir={corpus}/cache",
        "data.batch_size=4",
        "data.sequence_length=9",
        "model.hidden_size=8",
        "model.embedding_size=4",
        "model.dropout=0.3",
        "anneal.patience=0",
        "optimizer.lr=12",
        "data.validations_per_epoch=4",
        "name=run",
        f"runs_dir={folder}",
        "logger=csv",
        "test=false",
        "checkpoint.every_steps=1",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
        "trainer.max_epochs=2",
        "trainer.log_every_n_steps=1",
        *more,
    )
    values["callbacks"] = callbacks or {}
    return values


@pytest.fixture(scope="module")
def uninterrupted(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(settings(corpus, folder))
    result = outcome(folder)
    assert len([row for row in result[1] if row["train/loss"]]) == WINDOWS
    assert len({row["lr"] for row in result[1] if row["lr"]}) > 1  # it anneals on the way
    return result


@pytest.mark.parametrize("window", range(1, WINDOWS + 1))
def test_a_run_killed_after_any_window_ends_as_if_it_had_not_been(window, corpus, tmp_path, uninterrupted):
    with pytest.raises(Killed):
        train(settings(corpus, tmp_path, callbacks={"kill": {"_target_": "stopping.KillAt", "windows": window}}))
    train(settings(corpus, tmp_path))
    assert_same_outcome(outcome(tmp_path), uninterrupted)


@pytest.mark.parametrize("validation_window", [1, 2, 4, 7, 12])
def test_a_run_killed_within_a_validation_ends_as_if_it_had_not_been(
    validation_window, corpus, tmp_path, uninterrupted
):
    kill = {"_target_": "stopping.KillAt", "validation_window": validation_window}
    with pytest.raises(Killed):
        train(settings(corpus, tmp_path, callbacks={"kill": kill}))
    train(settings(corpus, tmp_path))
    assert_same_outcome(outcome(tmp_path), uninterrupted)


def test_a_damaged_last_checkpoint_is_replaced_by_the_one_before(corpus, tmp_path, uninterrupted):
    with pytest.raises(Killed):
        train(settings(corpus, tmp_path, callbacks={"kill": {"_target_": "stopping.KillAt", "windows": 9}}))
    last = tmp_path / "run/checkpoints/last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 0xFF
    last.write_bytes(content)
    train(settings(corpus, tmp_path))
    assert_same_outcome(outcome(tmp_path), uninterrupted)


def test_two_damaged_checkpoints_are_an_error(corpus, tmp_path):
    with pytest.raises(Killed):
        train(settings(corpus, tmp_path, callbacks={"kill": {"_target_": "stopping.KillAt", "windows": 9}}))
    for name in ("last.ckpt", "previous.ckpt"):
        path = tmp_path / "run/checkpoints" / name
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"All checkpoints in .* are damaged.*overwrite=true"):
        train(settings(corpus, tmp_path))


def test_raising_max_epochs_continues_a_finished_run(corpus, tmp_path, uninterrupted):
    train(settings(corpus, tmp_path, "trainer.max_epochs=1"))
    train(settings(corpus, tmp_path))
    assert_same_outcome(outcome(tmp_path), uninterrupted)


def test_a_finished_run_is_not_trained_again(corpus, tmp_path):
    results = train(settings(corpus, tmp_path))
    before = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "run").rglob("*.*")
        if path.suffix in (".pt", ".ckpt", ".csv")
    }
    assert len(before) == 4
    assert train(settings(corpus, tmp_path)) == results
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_changed_text_is_an_error_not_another_run(corpus, tmp_path):
    import shutil

    copy = tmp_path / "corpus"
    shutil.copytree(corpus, copy, ignore=shutil.ignore_patterns("cache"))
    with pytest.raises(Killed):
        train(settings(copy, tmp_path, callbacks={"kill": {"_target_": "stopping.KillAt", "windows": 9}}))
    file = copy / "train/b.txt"
    file.write_text(file.read_text().replace("a", "b"))
    with pytest.raises(UserError, match=r"corpus has changed .* train/b\.txt"):
        train(settings(copy, tmp_path))


@pytest.mark.parametrize("average", [{}, AVERAGE], ids=["trained", "averaged"])
def test_weights_in_double_precision_are_read_as_they_were_saved(average, corpus, tmp_path):
    def values(folder, **more):
        return settings(corpus, tmp_path / folder, "trainer.precision=64-true", callbacks=average | more)

    train(values("whole"))
    with pytest.raises(Killed):
        train(values("parts", kill={"_target_": "stopping.KillAt", "windows": 17}))
    train(values("parts"))
    assert_same_outcome(outcome(tmp_path / "parts"), outcome(tmp_path / "whole"))


def test_growing_windows_resume_too(corpus, tmp_path):
    growing = ("data.sequence_length=6", "data.grow_to_sequence_length=9")
    train(settings(corpus, tmp_path / "whole", *growing))
    kill = {"kill": {"_target_": "stopping.KillAt", "windows": 17}}
    with pytest.raises(Killed):
        train(settings(corpus, tmp_path / "parts", *growing, callbacks=kill))
    train(settings(corpus, tmp_path / "parts", *growing))
    assert_same_outcome(outcome(tmp_path / "parts"), outcome(tmp_path / "whole"))


def test_a_run_that_diverges_once_goes_back_and_on_with_a_lower_rate(corpus, tmp_path):
    PoisonAt.left.clear()
    poison = {"_target_": "stopping.PoisonAt", "step": 8, "times": 1}
    results = train(settings(corpus, tmp_path, "checkpoint.every_steps=3", callbacks={"poison": poison}))
    checkpoint, rows, _ = outcome(tmp_path)
    assert results["steps"] == WINDOWS
    assert all(torch.isfinite(weight).all() for weight in checkpoint["state_dict"].values())
    rates = {int(row["step"]): float(row["lr"]) for row in rows if row["lr"]}
    assert list(rates) == list(range(1, WINDOWS + 1))  # one curve, no step twice
    assert rates[9] == rates[5] * 0.25
    assert "learning rate" in (tmp_path / "run/train.log").read_text()


def test_a_run_that_always_diverges_ends_with_an_error(corpus, tmp_path):
    PoisonAt.left.clear()
    poison = {"_target_": "stopping.PoisonAt", "step": 8, "times": 99}
    with pytest.raises(UserError, match=r"diverged 3 times, .* Lower optimizer\.lr"):
        train(settings(corpus, tmp_path, "divergence.max_rollbacks=2", callbacks={"poison": poison}))
    assert (tmp_path / "run/train.log").read_text().count("back to") == 2  # not after the last one
