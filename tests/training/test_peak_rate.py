"""`optimizer.lr=auto`: the highest rate of a run with Muon is max(0.04, min(0.12, 32 / steps))."""

from types import SimpleNamespace

import pytest
import torch
from running import compose, read_metrics, train
from stopping import PoisonAt

from lmtrain.config.compose import compose_config
from lmtrain.config.peak_rate import choose_peak_rate
from lmtrain.errors import UserError
from lmtrain.runs.compare import differing_keys, read_runs, records
from lmtrain.training.callbacks.run_length import planned_steps


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "train").mkdir()
    for name, lines in (("train/a.txt", 80), ("valid.txt", 2), ("test.txt", 2)):
        (folder / name).write_text("to be or not to be\n" * lines)
    return folder


def settings(corpus, folder, *more):
    return compose(
        *("data=folder", f"data.path={corpus}", f"data.cache_dir={corpus}/cache", "name=run", f"runs_dir={folder}"),
        *("data.batch_size=5", "data.sequence_length=4", "model.hidden_size=6", "model.embedding_size=3"),
        *("logger=csv", "test=false", "trainer.accelerator=cpu", "trainer.log_every_n_steps=1", "experiment=fast"),
        *more,
    )


def test_the_fewer_steps_the_higher_the_rate_within_limits():
    rates = {1: 0.12, 266: 0.12, 320: 0.1, 411: 0.0779, 799: 0.0401, 800: 0.04, 100_000: 0.04}
    for config in (compose_config("experiment=fast"), compose_config("optimizer=muon", "anneal=cosine")):
        assert {steps: choose_peak_rate(config, lambda: steps).value for steps in rates} == rates  # noqa: B023


def test_steps_are_counted_not_windows():
    trainer = SimpleNamespace(max_steps=-1, max_epochs=3, accumulate_grad_batches=4)
    data = SimpleNamespace(growing_epochs=lambda: 0, windows_in_epoch=lambda _: 9)
    assert planned_steps(trainer, data) == 9
    assert planned_steps(SimpleNamespace(max_steps=7, max_epochs=3, accumulate_grad_batches=1), data) == 7


@pytest.mark.parametrize(
    ("typed", "rate", "reason"),
    [
        (("optimizer.lr=0.07",), 0.07, None),
        (("init_from=base.pt",), 0.04, "from scratch only"),
        (("anneal=plateau",), 0.04, "how long a run with anneal.schedule=plateau will be is not known"),
    ],
)
def test_what_was_typed_counts_and_the_rule_is_for_runs_from_scratch_of_a_known_length(typed, rate, reason):
    found = choose_peak_rate(compose_config("optimizer=muon", *typed), lambda: 100)
    assert found.value == rate
    assert found.reason is reason or reason in found.reason


def highest_rates(run):
    """Of the recurrent matrices, and of the rest."""
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    return [group["initial_lr"] for group in checkpoint["optimizer_states"][0]["param_groups"]]


def linear(first, last, steps, highest, warmup=0.02):
    """The rates of steps first + 1 to last of a run of so many."""
    done = [(step + 0.5) / steps for step in range(first, last)]
    return [highest * (part / warmup if part < warmup else (1 - part) / (1 - warmup)) for part in done]


def test_a_longer_run_goes_on_with_the_rate_of_its_length_also_after_a_divergence(corpus, tmp_path):
    more = ("data.sequence_length=8", "checkpoint.every=null", "data.validations_per_epoch=2")
    epoch = 38  # 80 · 19 characters in 5 lanes, windows of 8
    values = settings(corpus, tmp_path, *more, "trainer.max_epochs=8")
    PoisonAt.left.clear()
    values["callbacks"] = {"poison": {"_target_": "stopping.PoisonAt", "step": 7 * epoch + 25, "times": 1}}
    results = train(values)
    assert (results["steps"], results["lr"]) == (8 * epoch, 0.1053)  # 32 / 304
    half = 7 * epoch + epoch // 2
    plan = linear(0, 8 * epoch, 8 * epoch, 0.1053)
    plan[half:] = [rate / 4 for rate in plan[half:]]
    assert read_metrics(tmp_path / "run", "lr") == pytest.approx(plan, rel=1e-5)
    assert highest_rates(tmp_path / "run") == pytest.approx([0.1053 / 4, 0.02 / 4])

    results = train(settings(corpus, tmp_path, *more, "trainer.max_epochs=10"))
    assert (results["steps"], results["lr"]) == (10 * epoch, 0.0842)  # 32 / 380
    plan += [rate / 4 for rate in linear(8 * epoch, 10 * epoch, 10 * epoch, 0.0842)]
    assert read_metrics(tmp_path / "run", "lr") == pytest.approx(plan, rel=1e-5)
    assert highest_rates(tmp_path / "run") == pytest.approx([0.0842 / 4, 0.02 / 4])


def test_a_run_keeps_the_rate_that_was_typed_and_comparing_tells_the_number(corpus, tmp_path):
    for name, rate in (("by-rule", ()), ("run", ("optimizer.lr=0.08",))):
        train(settings(corpus, tmp_path, "trainer.max_steps=1", f"name={name}", *rate))
    runs = read_runs(sorted(tmp_path.iterdir()))
    assert differing_keys(runs) == ["optimizer.lr"]
    assert {record["run"]: record["optimizer.lr"] for record in records(runs)} == {"by-rule": 0.12, "run": 0.08}
    with pytest.raises(UserError, match=r"optimizer\.lr='auto' \(it was 0\.08\)"):
        train(settings(corpus, tmp_path, "trainer.max_steps=2"))


def test_a_run_that_began_with_the_former_default_keeps_it_unless_auto_is_typed(corpus, tmp_path):
    train(settings(corpus, tmp_path, "trainer.max_steps=1", "optimizer.lr=0.04"))
    with pytest.raises(UserError, match=r"optimizer\.lr='auto' \(it was 0\.04\)"):
        train(settings(corpus, tmp_path, "trainer.max_steps=2"), {"optimizer.lr"})
    assert train(settings(corpus, tmp_path, "trainer.max_steps=2"))["lr"] == 0.04
