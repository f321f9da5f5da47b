"""The loop over windows does what Lightning's own loop does."""

import gc
import weakref
from pathlib import Path

import pytest
import torch
from corpora import write_corpus
from hooks import Diary
from running import SMALL, compose, read_metrics, train

from lmtrain.training.module import LanguageModelModule

LIGHTNINGS_OWN = "+trainer.profiler=simple"  # whoever profiles wants to see Lightning's hooks


@pytest.mark.parametrize(
    "more",
    [
        ("optimizer=sgd",),
        ("optimizer=muon", "trainer.precision=bf16-mixed"),
        ("optimizer=adamw", "trainer.gradient_clip_val=null"),
        ("optimizer=sgd", "trainer.accumulate_grad_batches=3"),
        ("optimizer=adamw", "optimizer._target_=torch.optim.LBFGS", "~optimizer.weight_decay", "+optimizer.max_iter=3"),
    ],
)
def test_same_hooks_figures_and_weights(more, tmp_path, monkeypatch):
    write_corpus(tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)
    diaries, weights = {}, {}
    for name, own in (("ours", ()), ("lightnings", (LIGHTNINGS_OWN,))):
        monkeypatch.setattr(Diary, "pages", [])
        diary = "+callbacks={diary: {_target_: hooks.Diary}, attribute: {_target_: hooks.lambda_callback}}"
        train(
            compose(
                *SMALL, "logger=csv", *more, *own, diary, f"name={name}", "trainer.max_steps=-1", "trainer.max_epochs=2"
            )
        )
        diaries[name] = Diary.pages
        weights[name] = torch.load(f"runs/{name}/checkpoints/last.ckpt", weights_only=True)
    assert diaries["ours"] == diaries["lightnings"]
    hooks = {name for name in vars(Diary) if name.startswith("on_")} | {"lambda"}
    assert {page[0] for page in Diary.pages} == hooks
    assert weights["ours"].keys() == weights["lightnings"].keys()
    assert weights["ours"]["loops"] == weights["lightnings"]["loops"]
    for one, other in zip(*(some["state_dict"].values() for some in weights.values()), strict=True):
        assert torch.equal(one, other)
    for figure in ("train/loss", "val/loss", "grad_norm"):
        assert read_metrics(tmp_path / "runs/ours", figure) == read_metrics(tmp_path / "runs/lightnings", figure)


@pytest.mark.parametrize("asked", ["fused=false", "foreach=true", "differentiable=false"])
def test_an_implementation_of_the_optimizer_that_the_user_asks_for_is_taken(asked, tmp_path, monkeypatch):
    write_corpus(tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)
    train(compose(*SMALL, "optimizer=adamw", f"+optimizer.{asked}", "name=run"))
    (group,) = torch.load("runs/run/checkpoints/last.ckpt", weights_only=True)["optimizer_states"][0]["param_groups"]
    name, value = asked.split("=")
    assert group[name] == (value == "true")
    assert not group["fused"]


def test_hooks_that_a_callback_gives_the_optimizer_are_called(tmp_path, monkeypatch):
    write_corpus(tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Diary, "pages", [])
    hook = "+callbacks={hook: {_target_: hooks.HookOfOptimizer}}"
    train(compose(*SMALL, hook, "name=run", "trainer.max_steps=-1", "trainer.max_epochs=3"))
    ((_, steps),) = Diary.pages
    last = torch.load("runs/run/checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert len(steps) == last // 3
    assert steps == list(range(steps[0], steps[0] + len(steps)))


def test_a_window_is_freed_after_its_step_without_a_collection(tmp_path, monkeypatch):
    write_corpus(tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)
    windows, alive = [], []
    step = LanguageModelModule.training_step

    def training_step(self, batch, batch_idx):
        alive.append(sum(window() is not None for window in windows))
        windows.append(weakref.ref(batch.inputs))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(LanguageModelModule, "training_step", training_step)
    gc.disable()
    try:
        train(compose(*SMALL, "name=run", "trainer.max_steps=20"))
    finally:
        gc.enable()
    assert len(alive) == 20
    assert alive[-1] <= 3


def test_an_optimizer_that_computes_no_loss_is_told_by_its_name(train_py):
    ended = train_py(*SMALL, "+optimizer.momentum=0", "optimizer._target_=hooks.Idle", "optimizer.lr=20")
    assert ended.status == 2
    assert "hooks.Idle" in ended.message
    assert "it trains nothing: its step(closure) never calls closure()" in ended.message
    assert not Path("runs").exists()
