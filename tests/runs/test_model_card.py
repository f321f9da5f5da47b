"""Every figure and sentence of the model card is what happened."""

import json
import re
from pathlib import Path

import pytest
import torch
from running import SMALL, read_metrics

from lmtrain.config.compose import compose_values
from lmtrain.config.schema import check_config
from lmtrain.training.precision import choose_precision


def card_of(name: str) -> tuple[str, dict[str, str], dict]:
    """The card, its table of the recipe, and results.json."""
    text = Path("runs", name, "README.md").read_text(encoding="utf-8")
    recipe = dict(re.findall(r"^\| ([a-z ]+) \| (.*) \|$", text.split("## Recipe")[1], re.MULTILINE))
    return text, recipe, json.loads(Path("runs", name, "results.json").read_text())


BASE = ("data.validations_per_epoch=50", "trainer.max_steps=6")


def test_the_card_says_what_auto_became_and_that_the_rate_was_lowered_on_a_plateau(train_py):
    assert train_py(*SMALL, "logger=csv", *BASE, "name=a", "anneal.patience=0", "anneal.factor=0.5").status == 0
    text, recipe, results = card_of("a")
    precision = choose_precision(check_config(compose_values(*SMALL)))
    assert (results["precision"], results["precision_reason"]) == precision
    assert recipe["precision"] == f"{precision.name} (`auto`: {precision.reason})"
    said = Path("runs/a/train.log").read_text(encoding="utf-8")
    assert f"trainer.precision=auto is {precision.name} here: {precision.reason}" in said
    weights = torch.load("runs/a/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert recipe["annealing"] == (
        "rate × 0.5 when a validation brings no improvement; training ends when it falls below 0.0001"
    )
    assert recipe["limits"] == "10 epochs, 6 steps"
    assert recipe["gradient clipping"] == "0.25, of the norm"
    assert (results["devices"], results["hosts"]) == (1, 1)
    assert f"- 1 × {results['hardware']}, 1 host(s)" in text
    assert "by trainer.max_steps" in text
    assert f"The best of {len(read_metrics(Path('runs/a'), 'val/loss'))} validations" in text


def test_the_card_says_that_the_rate_fell_in_a_line_and_the_precision_that_was_asked_for(train_py):
    more = ("optimizer=muon", "trainer.precision=32-true", "trainer.accumulate_grad_batches=2", "trainer.max_epochs=-1")
    more += ("data.grow_to_sequence_length=22", "anneal.warmup=0.5", "trainer.gradient_clip_val=null", "test=false")
    assert train_py(*SMALL, *BASE, *more, "name=b").status == 0
    text, recipe, _ = card_of("b")
    assert recipe["annealing"] == (
        "the rate rises over the first 0.5 of the run, then falls in a straight line to zero at the run's end (6 steps)"
    )
    assert recipe["precision"] == "32-true"
    assert recipe["limits"] == "6 steps"
    assert recipe["gradient clipping"] == "none"
    assert recipe["window"] == (
        "20 characters × 4 lanes, over all devices; one longer with every split, up to 22; a step for 2 windows"
    )
    reason = "32 / steps, at most 0.12, for this run of 6 steps"
    assert recipe["optimizer"] == f"Muon, lr=0.12 (`auto`: {reason}), adamw_lr=0.02"
    said = Path("runs/b/train.log").read_text(encoding="utf-8")
    assert f"optimizer.lr=auto is 0.12 here: {reason}" in said
    assert "Learning rate 0.12 (anneal.schedule=linear)" in said
    assert "| test |" not in text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("experiment=flair", "model=tiny", "model.hidden_size=8"), "no rate ends training"),
        (("optimizer=adamw", "anneal.min_lr=0.01"), "training ends when it falls below 0.01"),
    ],
)
def test_the_card_says_what_ends_training(more, said, train_py):
    sizes = ("data.batch_size=4", "data.sequence_length=20")
    assert train_py(*SMALL, "trainer.max_steps=1", "test=false", *more, *sizes, "name=c").status == 0
    assert said in card_of("c")[1]["annealing"]


def test_a_table_of_runs_has_the_precision_and_the_rate_that_auto_became(train_py):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    arguments = [argument for argument in SMALL if not argument.startswith("logger")]
    assert (
        train_py(
            *arguments, "logger=tensorboard", "name=e", "optimizer=muon", "trainer.max_steps=1", "test=false"
        ).status
        == 0
    )
    accumulator = EventAccumulator("runs/e/tensorboard")
    accumulator.Reload()
    contents = accumulator.PluginTagToContent("hparams")
    [row] = [content for tag, content in contents.items() if tag.endswith("session_start_info")]
    values = HParamsPluginData.FromString(row).session_start_info.hparams
    assert values["trainer.precision"].string_value == choose_precision(check_config(compose_values(*SMALL))).name
    assert values["optimizer.lr"].number_value == 0.12
