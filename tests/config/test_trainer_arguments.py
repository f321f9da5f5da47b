"""Every argument of Lightning's Trainer is obeyed, or refused before anything is written."""

import inspect
import random
import re
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
from hooks import Moves, NoteSettings
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import StrategyRegistry
from processes import ROOT
from running import SMALL, compose, read_metrics

from lmtrain.config import trainer_arguments, trainer_values
from lmtrain.config.schema import check_config
from lmtrain.config.trainer_arguments import TRAINER_ARGUMENTS
from lmtrain.errors import UserError
from lmtrain.training.trainer import make_trainer

PROFILERS = "lightning.pytorch.profilers"
DDP = "lightning.pytorch.strategies.DDPStrategy"

# of every argument: values that are taken, and values that are not with what is said of them
TAKEN = {
    "accelerator": ["auto", "cpu", "gpu", "cuda", "mps"],
    "accumulate_grad_batches": [1, 4],
    "barebones": [False],
    "benchmark": [True, False, None],
    "callbacks": [],
    "check_val_every_n_epoch": [1],
    "default_root_dir": [],
    "detect_anomaly": [True, False],
    "deterministic": [True, False, "warn", None],
    "devices": [1, "2", -1, "-1", "auto", [0], [0, 1], "0,1", "0,"],
    "enable_autolog_hparams": [],
    "enable_checkpointing": [],
    "enable_model_summary": [],
    "enable_progress_bar": [],
    "fast_dev_run": [True, False, 0, 3],
    "gradient_clip_algorithm": ["norm", "value", "VALUE", None],
    "gradient_clip_val": [0.5, 1],
    "inference_mode": [True, False],
    "limit_predict_batches": [None, 1.0],
    "limit_test_batches": [None, 1.0],
    "limit_train_batches": [None, 1.0],
    "limit_val_batches": [None, 1.0],
    "log_every_n_steps": [1],
    "logger": [],
    "max_epochs": [1, -1],
    "max_steps": [1, -1],
    "max_time": ["00:00:00:08", "12:00:00:00", {"hours": 1.5}, {"days": 1, "minutes": 3}, None],
    "min_epochs": [1, 10, None],
    "min_steps": [1, 3, None],
    "model_registry": [None],
    "num_nodes": [1, 2],
    "num_sanity_val_steps": [],
    "overfit_batches": [0, 0.0],
    "plugins": [None, []],
    "precision": [
        *(
            "auto",
            16,
            "16",
            "16-mixed",
            "16-true",
            "bf16",
            "bf16-mixed",
            "bf16-true",
            32,
            "32",
            "32-true",
            64,
            "64-true",
        ),
    ],
    "profiler": ["simple", "advanced", "PyTorch", None, {"_target_": f"{PROFILERS}.SimpleProfiler", "extended": False}],
    "reload_dataloaders_every_n_epochs": [],
    "strategy": ["auto", "ddp", "DDP", {"_target_": DDP, "gradient_as_bucket_view": True}],
    "sync_batchnorm": [False],
    "use_distributed_sampler": [],
    "val_check_interval": [None],
}
NOT_TAKEN = {
    "accelerator": [("tpu", "trains on CPUs"), ("hpu", "it must be auto, cpu"), (None, "valid string")],
    "accumulate_grad_batches": [(0, "greater than 0")],
    "barebones": [(True, "nothing to resume a run from")],
    "benchmark": [("yes", "it must be null, true or false"), (1, "it must be null, true or false")],
    "callbacks": [([], r"set by lmtrain, leave it out: \+callbacks\.NAME=")],
    "check_val_every_n_epoch": [(2, r"data\.validations_per_epoch=1"), (None, "refused"), (0, "refused")],
    "default_root_dir": [("x", "set by lmtrain, leave it out: runs_dir=DIR name=NAME")],
    "detect_anomaly": [("maybe", "it must be true or false")],
    "deterministic": [("always", "it must be null, true, false or warn"), (1, "it must be")],
    "devices": [
        (0, "it must be their number"),
        ([], "it must be their number"),
        (True, "it must be their number"),
        ("two", "their number"),
    ],
    "enable_autolog_hparams": [(False, "set by lmtrain, leave it out")],
    "enable_checkpointing": [(False, "set by lmtrain, leave it out: checkpoint.every")],
    "enable_model_summary": [(True, "set by lmtrain, leave it out")],
    "enable_progress_bar": [(True, "set by lmtrain, leave it out")],
    "fast_dev_run": [(-1, "it must be true, false or a number"), (1.5, "it must be"), ("yes", "it must be")],
    "gradient_clip_algorithm": [("nonsense", "it must be null, norm or value")],
    "gradient_clip_val": [(0, "greater than 0"), ("much", "valid number")],
    "inference_mode": [("no", "it must be true or false")],
    "limit_predict_batches": [(0, "training predicts nothing")],
    "limit_test_batches": [(0, "test=false"), (0.5, r"data\.test=FILE"), (1, "refused"), (3, "refused")],
    "limit_train_batches": [(0, r"trainer\.max_steps"), (0.5, "refused"), (1, "refused"), (7, "refused")],
    "limit_val_batches": [(0, "no model is kept"), (0.0, "refused"), (0.5, "refused"), (1, "refused"), (9, "refused")],
    "log_every_n_steps": [(0, "greater than 0")],
    "logger": [(False, r"set by lmtrain, leave it out: logger=\[")],
    "max_epochs": [(0, "greater than 0, or -1"), (None, "needs trainer.max_steps or trainer.max_time"), (-2, "-1")],
    "max_steps": [(0, "greater than 0, or -1"), (-2, "greater than or equal to -1"), (None, "valid integer")],
    "max_time": [
        ("00:00:08", "it must be DD:HH:MM:SS"),
        ("00:00:00:00", "longer than 0 seconds"),
        ({"years": 1}, "it must be"),
        (8, "it must be"),
        ({}, "longer than 0 seconds"),
    ],
    "min_epochs": [(0, "at least 1"), (11, r"is more than trainer\.max_epochs=10"), ("2", "whole number")],
    "min_steps": [(-1, "at least 1"), (True, "at least 1"), (4, r"is more than trainer\.max_steps=3")],
    "model_registry": [("me/model", "docs/publishing.md")],
    "num_nodes": [(0, "greater than 0")],
    "num_sanity_val_steps": [(2, "set by lmtrain, leave it out"), (0, "set by lmtrain, leave it out")],
    "overfit_batches": [(0.01, r"data\.train"), (1, "refused"), (10, "refused")],
    "plugins": [([{"_target_": "lightning.pytorch.plugins.environments.LightningEnvironment"}], "is refused")],
    "precision": [
        ("foo", "it must be one of auto, 32-true"),
        ("transformer-engine", "an LSTM has none"),
        (8, "must be"),
    ],
    "profiler": [
        ("smple", "it must be simple, advanced, pytorch"),
        ("xla", "it must be simple"),
        ({"_target_": "collections.Counter"}, r"is no profiler of lightning\.pytorch"),
        ({"_target_": f"{PROFILERS}.Gone"}, "profiler that _target_ names"),
        ({"dirpath": "x"}, "profiler that _target_ names"),
    ],
    "reload_dataloaders_every_n_epochs": [(1, "set by lmtrain, leave it out")],
    "strategy": [
        ("foo", r"it must be one of auto, single_device, ddp.*Use trainer\.strategy=ddp"),
        ({"_target_": "lightning.pytorch.strategies.FSDPStrategy"}, "only lightning.pytorch.strategies.DDPStrategy"),
        ({"_target_": DDP, "start_method": "spawn"}, "not start_method"),
        ({"_target_": DDP, "model_averaging_period": 4}, "not model_averaging_period"),
        ({"_target_": "no.such"}, "object that _target_ names"),
    ],
    "sync_batchnorm": [(True, "no batch normalisation")],
    "use_distributed_sampler": [(True, "set by lmtrain, leave it out")],
    "val_check_interval": [
        (value, r"data\.validations_per_epoch=N") for value in (50, 100000, "00:00:01:00", 0.25, 1.0, 1)
    ],
}


@cache
def composed():
    return compose(*SMALL, "name=run")


def with_trainer(**arguments):
    values = deepcopy(composed())
    values["trainer"] |= arguments
    if "max_epochs" in arguments or "max_steps" in arguments:
        values["trainer"] = {"max_steps": -1} | values["trainer"] | {"max_steps": arguments.get("max_steps", -1)}
    return values


def test_every_parameter_of_the_installed_lightning_has_a_decision_and_is_tried_here():
    parameters = set(inspect.signature(Trainer.__init__).parameters) - {"self"}
    assert set(TRAINER_ARGUMENTS) == parameters
    assert set(TAKEN) == set(NOT_TAKEN) == parameters


@pytest.mark.parametrize("name", sorted(TRAINER_ARGUMENTS))
def test_values_are_taken_or_refused_with_the_reason(name):
    for value in TAKEN[name]:
        check_config(with_trainer(**{name: value}))
    for value, reason in NOT_TAKEN[name]:
        with pytest.raises(UserError, match=rf"^trainer\.{name}(=| ).*{reason}"):
            check_config(with_trainer(**{name: value}))


def test_lightnings_default_is_taken_wherever_it_asks_for_nothing():
    for name, parameter in inspect.signature(Trainer.__init__).parameters.items():
        if name != "self" and TRAINER_ARGUMENTS[name].decision == trainer_arguments.REFUSED:
            check_config(with_trainer(**{name: parameter.default}))


def test_the_page_about_the_arguments_is_made_of_the_table(monkeypatch):
    page = (ROOT / "docs/lightning.md").read_text(encoding="utf-8")
    assert page == trainer_arguments.as_markdown(), "python -m lmtrain.config.trainer_arguments > docs/lightning.md"
    shuffled = list(TRAINER_ARGUMENTS.items())
    random.Random(1).shuffle(shuffled)
    monkeypatch.setattr(trainer_arguments, "TRAINER_ARGUMENTS", dict(shuffled))
    assert trainer_arguments.as_markdown() == page


def test_all_problems_are_told_together_and_nothing_is_written(train_py):
    refused = ("+trainer.limit_val_batches=0", "+trainer.num_sanity_val_steps=2", "+trainer.default_root_dir=x")
    more = ("trainer.strategy=ddp_spawn", "+trainer.foo=1", "model.dropout=1", "+trainer.val_check_interval=100000")
    status, message = train_py(*SMALL, "name=run", *refused, *more)
    assert status == 2
    assert message.startswith("7 errors:")
    assert "accelerator" not in message
    for name in ("limit_val_batches=0", "num_sanity_val_steps", "default_root_dir", "strategy=ddp_spawn", "foo"):
        assert f"trainer.{name}" in message
    assert not Path("runs").exists()
    assert not Path("cache").exists()


def test_variables_that_lightning_would_read_are_not_obeyed_in_silence(monkeypatch):
    monkeypatch.setenv("PL_TRAINER_LIMIT_TRAIN_BATCHES", "3")
    with pytest.raises(UserError, match=r"PL_TRAINER_LIMIT_TRAIN_BATCHES.*Unset it.*\+trainer\.limit_train_batches"):
        check_config(with_trainer())


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("trainer.max_time=1", r"no key trainer\.max_time\. It is an argument.*write \+trainer\.max_time=VALUE"),
        ("+trainer.max_tme=1", r"max_tme is no argument of Lightning's Trainer\. Did you mean trainer\.max_time\?"),
        ("trainer.devices=-1", r"accept trainer\.accelerator=cpu, trainer\.devices=-1.*accelerator=auto takes"),
        ("+trainer.profiler={_target_: lightning.pytorch.profilers.SimpleProfiler, foo: 1}", "its arguments .*foo"),
        ("trainer.precision=16-mixed", r"trainer\.precision=16-mixed is for GPUs\. On CPUs use bf16-mixed"),
        (["trainer.strategy=single_device", "trainer.devices=2"], "are 2\\. Use trainer.strategy=ddp"),
        (["trainer.gradient_clip_val=null", "+trainer.gradient_clip_algorithm=value"], "has no effect, since"),
    ],
)  # fmt: skip
def test_a_mistake_in_an_argument_is_not_blamed_on_another(override, reason, train_py):
    overrides = [override] if isinstance(override, str) else override
    status, message = train_py(*SMALL, "name=run", *overrides)
    assert status == 2
    assert re.search(reason, message), message
    assert ("accelerator" in message) == ("accelerator" in reason)
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", StrategyRegistry.available_strategies())
def test_each_strategy_of_lightning_works_or_the_one_to_use_is_named(name):
    values = with_trainer(strategy=name)
    if name in trainer_values.STRATEGIES:
        trainer = make_trainer(check_config(values))
        expected = "SingleDeviceStrategy" if name == "single_device" else "DDPStrategy"
        assert (type(trainer.strategy).__name__, trainer.world_size) == (expected, 1)
    else:
        with pytest.raises(UserError, match=rf"^trainer\.strategy={name}: (?!it must be).* Use trainer\.strategy=ddp"):
            check_config(values)


@pytest.mark.parametrize("name", sorted(AcceleratorRegistry.available_accelerators()))
def test_each_accelerator_of_lightning_is_taken_or_refused_for_what_it_is(name):
    values = with_trainer(accelerator=name)
    if name in ("cpu", "cuda", "mps"):
        check_config(values)
    else:
        with pytest.raises(UserError, match=rf"^trainer\.accelerator={name}: it must be .*trains on CPUs, CUDA GPUs"):
            check_config(values)


def test_looking_at_the_devices_changes_nothing():
    """A Trainer is made once before the text is prepared."""
    threads, random_state = torch.get_num_threads(), torch.get_rng_state()
    make_trainer(check_config(with_trainer(profiler="advanced", fast_dev_run=2)))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not Path("lightning_logs").exists()
    assert not Path("runs").exists()


def test_values_reach_lightning_as_they_were_meant():
    def made(**arguments):
        return make_trainer(check_config(with_trainer(**arguments)))

    assert made(max_epochs=None, max_steps=5).max_epochs == -1
    assert made(max_epochs=None, max_time="00:01:00:00").max_epochs == -1
    assert made(min_steps=2).min_epochs == 0
    assert made(devices="2", strategy="ddp").world_size == 2
    assert made(devices=1, strategy={"_target_": DDP, "bucket_cap_mb": 3}).strategy._ddp_kwargs == {"bucket_cap_mb": 3}
    for asked, expected in ((32, "32-true"), ("bf16", "bf16-mixed"), ("64", "64-true"), ("16-true", "16-true")):
        assert made(precision=asked).precision == expected


def test_a_schedule_needs_a_length_which_no_time_gives(train_py):
    status, message = train_py(
        *(*SMALL, "trainer.max_steps=-1", "name=run", "anneal.schedule=linear", "+trainer.max_time=01:00:00:00"),
        "trainer.max_epochs=null",
    )
    assert (status, "anneal.schedule=linear needs the run's length" in message) == (2, True)


@pytest.mark.parametrize("is_asked", [True, False])
def test_torchs_settings_are_those_that_were_asked_for(is_asked, train_py):
    asked = ("+trainer.deterministic=true", "+trainer.inference_mode=false", "+trainer.detect_anomaly=true")
    more = asked if is_asked else ("+trainer.benchmark=true",)
    assert train_py(*SMALL, "name=run", "+callbacks.note._target_=hooks.NoteSettings", *more).status == 0
    expected = {"deterministic": is_asked, "anomaly": is_asked, "benchmark": not is_asked, "inference": not is_asked}
    assert NoteSettings.seen == expected


def test_settings_of_the_whole_process_end_with_the_run(train_py):
    assert train_py(*SMALL, "name=run", "+trainer.deterministic=warn").status == 0
    assert not torch.are_deterministic_algorithms_enabled()
    assert train_py(*SMALL, "name=other", "+trainer.benchmark=true").status == 0
    assert not torch.backends.cudnn.benchmark


def test_gradients_are_clipped_as_asked(train_py):
    """SGD without momentum moves a weight by the rate times its gradient: by at most rate × limit, if by value."""
    moves = {}
    for name, more in (("norm", ()), ("value", ("+trainer.gradient_clip_algorithm=value",))):
        overrides = (
            *SMALL,
            "logger=csv",
            f"name={name}",
            "trainer.max_steps=1",
            "optimizer.lr=1",
            "trainer.gradient_clip_val=0.001",
        )
        assert (
            train_py(*overrides, "trainer.precision=32-true", "+callbacks.moves._target_=hooks.Moves", *more).status
            == 0
        )
        moves[name] = Moves.of_the_first_step
    assert moves["norm"].norm().item() == pytest.approx(0.001, rel=1e-3)
    assert moves["value"].abs().max().item() == pytest.approx(0.001, rel=1e-3)
    assert moves["value"].norm().item() > 0.002
    assert read_metrics(Path("runs/value"), "val/loss") != read_metrics(Path("runs/norm"), "val/loss")


@pytest.mark.parametrize("profiler", ["simple", "advanced", "pytorch"])
def test_a_profile_is_written_into_the_run_folder(profiler, train_py):
    status, message = train_py(*SMALL, "name=run", f"+trainer.profiler={profiler}")
    assert status == 0
    report = "".join(path.read_text() for path in Path("runs/run").glob("fit-profile*.txt"))
    assert "run_training_batch" in report or "training_step" in report
    assert {path.name for path in Path().iterdir()} == {"corpus", "cache", "runs"}
    assert "Profiles: runs/run/fit-profile" in message


def test_a_profiler_is_made_as_its_arguments_say(train_py):
    settings = f"{{_target_: {PROFILERS}.SimpleProfiler, dirpath: here, filename: mine, extended: false}}"
    assert train_py(*SMALL, "name=run", f"+trainer.profiler={settings}").status == 0
    (report,) = Path("here").glob("fit-mine*.txt")
    assert "Total time (s)" in report.read_text()
    assert "Percentage" not in report.read_text()


def test_detect_anomaly_tells_where_a_gradient_was_lost(train_py):
    more = ("+trainer.detect_anomaly=true", "+callbacks.x={_target_: hooks.LoseGradient}", "trainer.precision=32-true")
    with (
        pytest.raises(RuntimeError, match=r"nan values"),
        pytest.warns(UserWarning, match="Error detected"),
    ):
        train_py(*SMALL, "name=run", *more)
