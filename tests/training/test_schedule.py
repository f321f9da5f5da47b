"""The learning rate over the length of a run."""

import math

import pytest
from running import compose, explicit, read_metrics, train
from stopping import Killed, PoisonAt

from lmtrain.config.compose import check_choice, compose_config
from lmtrain.errors import UserError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "train").mkdir()
    for name, lines in (("train/a.txt", 20), ("train/b.txt", 30), ("valid.txt", 9), ("test.txt", 9)):
        (folder / name).write_text("to be or not to be\n" * lines)
    return folder


def settings(corpus, folder, *more):
    return compose(
        *("data=folder", f"data.path={corpus}", f"data.cache_dir={corpus}/cache", "name=run", f"runs_dir={folder}"),
        *("data.batch_size=5", "data.sequence_length=8", "model.hidden_size=6", "model.embedding_size=3"),
        *("logger=csv", "test=false", "trainer.accelerator=cpu", "trainer.log_every_n_steps=1", *more),
    )


def linear(steps, warmup, highest):
    rates = []
    for step in range(steps):
        done = (step + 0.5) / steps
        if done < warmup:
            rates.append(highest * done / warmup)
        else:
            rates.append(highest * (1 - done) / (1 - warmup))
    return rates


@pytest.mark.parametrize(
    ("warmup", "more"),
    [
        (0.25, ("trainer.max_epochs=2",)),
        (0, ("trainer.max_epochs=3", "trainer.max_steps=17")),
        (0.1, ("trainer.max_epochs=2", "optimizer=muon")),
        (0, ("trainer.max_epochs=2", "data.grow_to_sequence_length=12")),
    ],
)
def test_the_rate_rises_and_falls_as_asked_for_over_the_steps_of_the_run(warmup, more, corpus, tmp_path):
    asked = ("anneal.schedule=linear", f"anneal.warmup={warmup}", "optimizer.lr=10")
    results = train(settings(corpus, tmp_path, *more, *asked))
    rates = read_metrics(tmp_path / "run", "lr")
    assert rates == pytest.approx(linear(results["steps"], warmup, 10), rel=1e-5)


def cosine(steps, warmup, highest, lowest):
    """The same as `linear`, but for the shape."""
    done = [(step + 0.5) / steps for step in range(steps)]
    heights = [
        part / warmup if part < warmup else (1 + math.cos(math.pi * (part - warmup) / (1 - warmup))) / 2
        for part in done
    ]
    return [lowest + (highest - lowest) * height for height in heights]


@pytest.mark.parametrize("warmup", [0, 0.25])
def test_a_cosine_ends_at_min_lr_and_goes_on_when_the_run_gets_longer(warmup, corpus, tmp_path):
    typed = ("anneal=cosine", f"anneal.warmup={warmup}", "anneal.min_lr=2", "optimizer.lr=10", "checkpoint.every=null")
    first = train(settings(corpus, tmp_path, *typed, "trainer.max_epochs=1"), explicit(*typed))["steps"]
    assert read_metrics(tmp_path / "run", "lr") == pytest.approx(cosine(first, warmup, 10, 2), rel=1e-6)
    with pytest.raises(UserError, match=r"anneal\.min_lr=1\.0 \(it was 2\.0\)"):
        train(settings(corpus, tmp_path, *typed, "trainer.max_epochs=2", "anneal.min_lr=1"))
    second = train(settings(corpus, tmp_path, *typed, "trainer.max_epochs=2"))["steps"]
    rates = cosine(first, warmup, 10, 2) + cosine(second, warmup, 10, 2)[first:]
    assert read_metrics(tmp_path / "run", "lr") == pytest.approx(rates, rel=1e-6)
    said = "then falls in half a cosine to 2" if warmup else "the rate falls in half a cosine to 2"
    assert f"{said} at the run's end (2 epochs)" in (tmp_path / "run/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_killed_run_goes_on_with_the_rates_of_one_that_was_not(schedule, corpus, tmp_path):
    more = (f"anneal={schedule}", "optimizer=muon", "trainer.max_epochs=3", "checkpoint.every_steps=1")
    more += ("trainer.precision=32-true",)
    train(settings(corpus, tmp_path / "whole", *more))
    values = settings(corpus, tmp_path / "parts", *more)
    values["callbacks"] = {"kill": {"_target_": "stopping.KillAt", "windows": 11}}
    with pytest.raises(Killed):
        train(values)
    train(settings(corpus, tmp_path / "parts", *more))
    for name in ("lr", "train/loss", "val/loss"):
        whole, parts = (read_metrics(tmp_path / part / "run", name) for part in ("whole", "parts"))
        assert whole == parts
    best = [(tmp_path / part / "run/best-lm.pt").read_bytes() for part in ("whole", "parts")]
    assert best[0] == best[1]


@pytest.mark.parametrize(
    ("schedule", "poisoned", "kept"),
    [("linear", 3, 0), ("linear", 14, 13), ("cosine", 14, 13)],  # back to the beginning, to a checkpoint
)
def test_after_a_divergence_the_rate_is_a_quarter_of_the_schedules(schedule, poisoned, kept, corpus, tmp_path):
    more = (
        f"anneal={schedule}",
        "anneal.warmup=0.2",
        "anneal.min_lr=4",
        "trainer.max_epochs=2",
        "data.validations_per_epoch=4",
    )
    values = settings(corpus, tmp_path, *more)
    PoisonAt.left.clear()
    values["callbacks"] = {"poison": {"_target_": "stopping.PoisonAt", "step": poisoned, "times": 1}}
    results = train(values)
    plan = cosine(results["steps"], 0.2, 20, 4) if schedule == "cosine" else linear(results["steps"], 0.2, 20)
    plan[kept:] = [rate / 4 for rate in plan[kept:]]  # anneal.factor
    assert read_metrics(tmp_path / "run", "lr") == pytest.approx(plan, rel=1e-5)


def test_a_schedule_needs_an_end(corpus, tmp_path):
    for schedule in ("linear", "cosine"):
        with pytest.raises(UserError, match=rf"trainer: anneal\.schedule={schedule} needs the run's length"):
            train(settings(corpus, tmp_path, f"anneal={schedule}", "trainer.max_epochs=-1"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("accumulate_grad_batches", 2, "has changed trainer.accumulate_grad_batches=1 to 2 during the run"),
        ("gradient_clip_val", 9, "has changed trainer.gradient_clip_val=0.25 to 9 during the run"),
        ("batch_size", 3, "has changed data.batch_size=5 to 3 during the run"),
        ("sequence_length", 4, "has changed data.sequence_length=8 to 4 during the run"),
        ("lr", 7, "has changed the learning rate to 7 at step"),
    ],
)
def test_a_callback_that_changes_what_the_schedule_rests_on_ends_the_run(name, value, said, corpus, tmp_path):
    callback = f"+callbacks.meddle={{_target_: stopping.Meddle, name: {name}, value: {value}}}"
    with pytest.raises(UserError, match=said):
        train(settings(corpus, tmp_path, "anneal.schedule=linear", "trainer.max_epochs=2", callback))


def test_a_callback_may_set_the_rate_where_the_schedule_goes_by_losses(corpus, tmp_path):
    callback = "+callbacks.meddle={_target_: stopping.Meddle, name: lr, value: 7}"
    train(settings(corpus, tmp_path, "trainer.max_epochs=2", callback))
    assert read_metrics(tmp_path / "run", "lr")[-1] == 7


def test_a_schedule_is_chosen_by_its_group_or_by_its_key():
    assert compose("anneal.schedule=linear") == compose("anneal=linear")
    assert compose("optimizer=muon", "anneal=plateau")["anneal"]["schedule"] == "plateau"
    assert compose("experiment=fast")["anneal"]["schedule"] == "linear"
    assert compose("experiment=fast", "anneal.schedule=plateau")["anneal"]["schedule"] == "plateau"


def test_a_schedule_that_was_chosen_is_followed_or_refused():
    with pytest.raises(UserError, match=r"anneal takes one option\. Choose one of linear, cosine"):
        compose("anneal=[linear,cosine]")
    by_recipe = compose_config("anneal.schedule=linear")  # as a recipe's file may say after the group
    check_choice(by_recipe, ["seed=2", "anneal=linear"])
    with pytest.raises(UserError, match=r"anneal=cosine: another file sets anneal\.schedule=linear after it"):
        check_choice(by_recipe, ["seed=2", "anneal=cosine"])


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("anneal=linear", "anneal.patience=3"), "anneal.patience=3 has no effect with the schedule linear, which"),
        (("optimizer=muon", "anneal.min_lr=0.001"), "anneal.min_lr=0.001 has no effect with the schedule linear"),
        (("anneal.warmup=0.1",), "anneal.warmup=0.1 has no effect with the schedule plateau, which takes anneal.pat"),
        (
            ("anneal=cosine", "anneal.min_lr=21"),
            "anneal: min_lr=21 is above optimizer.lr=20, from which",
        ),
        (("optimizer=muon", "anneal=cosine", "anneal.min_lr=0.05"), "is above optimizer.lr=auto, which may be 0.04"),
        (("optimizer.lr=auto",), "optimizer: lr=auto is for optimizer=muon; torch.optim.SGD takes a number. Leave it"),
        (
            ("optimizer=muon", "optimizer.lr=aut"),
            "optimizer.lr=aut: it must be a valid number, unable to parse ",
        ),
        (("optimizer=muon", "optimizer.lr=-1"), "optimizer.lr=-1: it must be greater than 0, or auto with optimizer=m"),
        (("anneal=linear", "anneal.schedule=plateau"), "anneal=SCHEDULE and anneal.schedule=SCHEDULE say the same"),
        (("anneal={schedule: linear, patience: 3}",), "anneal.patience=3 has no effect with the schedule linear"),
        (("anneal.schedule=cubic",), "anneal.schedule=cubic: it must be plateau, linear"),
        (("anneal.schedule=schedules.None",), "it must be plateau, linear"),
        (("anneal.schedule=os.getcwd",), "it must be plateau, linear"),
        (("anneal=linear", "+anneal.last=0.1"), "anneal: schedule=linear takes warmup, not last."),
        (
            ("anneal.schedule=schedules.Steps",),
            "anneal: schedule=schedules.Steps cannot be made: Steps",
        ),
        (("anneal.schedule=schedules.Unfinished",), "schedules.Unfinished cannot be made: NotImplementedError"),
        (("anneal.schedule=lmtrain.config.schedules.OverRun",), "cannot be made: 'OverRun' object has no attribute"),
        (
            ("anneal.schedule=schedules.Power", "+anneal.exponent=-1"),
            "schedules.Power cannot be made: 0.0 cannot be raised to a negative power",
        ),
        (
            ("anneal.schedule=schedules.Power", "+anneal.shift=0.5"),
            "cannot be made: -0.01 of the highest rate after 51 % of the run, which is no rate",
        ),
    ],
)
def test_a_key_without_effect_is_refused(typed, said, corpus, tmp_path):
    with pytest.raises(UserError) as error:
        train(settings(corpus, tmp_path, *typed), explicit(*typed))
    assert said in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_run_that_began_with_a_key_without_effect_goes_on_without_it(corpus, tmp_path):
    more = ("anneal.schedule=linear", "trainer.max_epochs=1")
    train(settings(corpus, tmp_path, *more, "anneal.patience=3"))
    assert train(settings(corpus, tmp_path, *more, "trainer.max_epochs=2"))["epochs"] == 2
    with pytest.raises(UserError, match="another configuration"):
        train(settings(corpus, tmp_path, *more, "anneal.warmup=0.5"))


def test_a_schedule_of_ones_own_brings_its_own_keys(corpus, tmp_path):
    typed = ("anneal.schedule=schedules.Steps", "+anneal.last=0.25", "anneal.warmup=0.5", "optimizer.lr=8")
    results = train(settings(corpus, tmp_path, *typed, "trainer.max_steps=16"), explicit(*typed))
    plan = [8 * (step + 0.5) / 8 for step in range(8)] + 6 * [8] + 2 * [4]
    assert results["steps"] == 16
    assert read_metrics(tmp_path / "run", "lr") == plan
    said = "the rate rises over the first 0.5 of the run, then falls to 0.5 of it for the last 0.25 at the run's end"
    assert said in (tmp_path / "run/README.md").read_text(encoding="utf-8")
    assert said in (tmp_path / "run/train.log").read_text(encoding="utf-8")
