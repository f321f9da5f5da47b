"""A run from corpus folder to best-lm.pt, as `python train.py` makes it."""

import math
import random
import subprocess
import sys

import pytest
import torch
from processes import ROOT
from running import compose, read_metrics, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lmtrain.errors import UserError
from lmtrain.model_files.flair import load_language_model
from lmtrain.training.loggers.metrics_csv import COLUMNS


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    letters = random.Random(8)

    def text(characters: int) -> str:
        return "".join(letters.choices("aаあbбい \n", weights=[9, 8, 7, 6, 5, 4, 3, 1], k=characters))

    (folder / "train").mkdir()
    for name in "ab":
        (folder / "train" / f"{name}.txt").write_text(text(3000), encoding="utf-8")
    (folder / "valid.txt").write_text(text(600), encoding="utf-8")
    (folder / "test.txt").write_text(text(600), encoding="utf-8")
    return folder


def overrides(corpus, folder, *more) -> list[str]:
    return [
        *("data=folder", f"data.path={corpus}", f"data.cache_dir={corpus}/cache", "data.batch_size=5"),
        *("data.sequence_length=20", "model=tiny", "model.hidden_size=16", f"runs_dir={folder}"),
        *("trainer.max_epochs=2", "trainer.log_every_n_steps=10", "trainer.accelerator=cpu", *more),
    ]


@pytest.fixture(scope="module")
def run_folder(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    train(compose(*overrides(corpus, folder, "name=run")))
    return folder / "run"


def weights(run):
    return load_language_model(run / "best-lm.pt").model.state_dict()


def test_the_run_folder_holds_what_the_readme_says(run_folder):
    expected = {
        "best-lm.pt",
        "checkpoints",
        "tensorboard",
        "metrics.csv",
        "train.log",
        "config.yaml",
        "dictionary.json",
    }
    assert expected <= {path.name for path in run_folder.iterdir()}


def test_metrics_csv_has_every_figure_once_a_step(corpus, run_folder):
    assert (run_folder / "metrics.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    rows = []  # of lanes, in each split
    for name in "ab":
        lines = (corpus / "train" / f"{name}.txt").read_text(encoding="utf-8").split("\n")
        rows.append(sum(len(line) + 1 for line in lines if line) // 5)
    steps = 2 * sum(math.ceil((count - 1) / 20) for count in rows)
    assert len(read_metrics(run_folder, "train/loss")) == steps // 10
    assert len(read_metrics(run_folder, "val/loss")) == 4  # two splits, two epochs
    assert max(read_metrics(run_folder, "chars")) == 2 * 5 * sum(count - 1 for count in rows)
    for loss, ppl, bpc in zip(
        *(read_metrics(run_folder, f"val/{name}") for name in ("loss", "ppl", "bpc")), strict=True
    ):
        assert ppl == pytest.approx(math.exp(loss), rel=1e-5)
        assert bpc == pytest.approx(loss / math.log(2), rel=1e-5)


def test_the_share_of_unknown_items_is_reported_once(corpus, tmp_path):
    more = ("name=run", "dictionary.coverage=0.9", "dictionary.max_unknown=0.5", "trainer.max_steps=1")
    train(compose(*overrides(corpus, tmp_path, *more)))
    known = set(load_language_model(tmp_path / "run/best-lm.pt").dictionary.items)
    lines = (corpus / "valid.txt").read_text(encoding="utf-8").split("\n")
    text = "".join(f"{line}\n" for line in lines if line)
    expected = sum(character not in known for character in text) / len(text)
    assert 0 < expected < 0.5
    assert read_metrics(tmp_path / "run", "val/unknown_rate") == [pytest.approx(expected)]


def test_tensorboard_has_the_same_names_samples_and_the_configuration(run_folder):
    events = EventAccumulator(str(run_folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {name for name in COLUMNS if not name.startswith("probe/")} - {"step"} <= set(tags["scalars"])
    assert {"sample/text_summary", "settings/text_summary"} <= set(tags["tensors"])
    losses = [event.value for event in events.Scalars("val/loss")]
    assert losses == pytest.approx(read_metrics(run_folder, "val/loss"), rel=1e-6)


def test_the_best_weights_are_tested_not_the_last(corpus, tmp_path):
    """A rate that is far too high makes later validations worse than the first."""
    high = ("name=run", "overwrite=true", "optimizer.lr=60", "trainer.max_epochs=3")
    for seed in range(4, 10):  # with most of them
        results = train(compose(*overrides(corpus, tmp_path, *high, f"seed={seed}")))
        losses = read_metrics(tmp_path / "run", "val/loss")
        if losses.index(min(losses)) < len(losses) - 1:
            break
    assert losses.index(min(losses)) < len(losses) - 1
    assert results["val/loss"] == pytest.approx(min(losses))
    again = train(
        compose(
            *overrides(corpus, tmp_path, "name=again", f"init_from={tmp_path}/run/best-lm.pt", "trainer.max_steps=1"),
            *("optimizer.lr=1e-9", "data.test=test"),
        )
    )
    assert again["test/loss"] == pytest.approx(results["test/loss"], rel=1e-4)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_seed_decides_everything(precision, corpus, tmp_path):
    runs = {}
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        train(compose(*overrides(corpus, tmp_path, f"name={name}", f"seed={seed}", f"trainer.precision={precision}")))
        runs[name] = weights(tmp_path / name)
    for name, tensor in runs["one"].items():
        assert torch.equal(tensor, runs["same"][name])
        if name.endswith("weight"):
            assert not torch.equal(tensor, runs["other"][name])


def test_a_multirun_trains_both_directions_from_one_cache(corpus, tmp_path):
    """The files of the cache are written once; each run has its folder and its direction."""
    command = [sys.executable, ROOT / "train.py", "-m", "direction=forward,backward"]
    arguments = overrides(corpus, tmp_path, f"data.cache_dir={tmp_path}/cache", "trainer.max_steps=5")
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=200, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("Encoding train/a.txt") == 1
    for direction in ("forward", "backward"):
        assert load_language_model(tmp_path / f"tiny-folder-{direction}/best-lm.pt").direction == direction
    assert {path.name for path in tmp_path.iterdir()} == {
        *("cache", "multirun.yaml", "tiny-folder-forward", "tiny-folder-backward")
    }


def test_word_level_gru_with_projection_adamw_and_chosen_validations(corpus, tmp_path):
    more = ("name=run", "data.level=word", "dictionary.coverage=0.5", "dictionary.max_unknown=0.9", "data.batch_size=2")
    more += ("model.recurrent_type=gru", "model.nlayers=2", "model.nout=6", "optimizer=adamw", "data.sequence_length=5")
    train(compose(*overrides(corpus, tmp_path, *more, "data.validations_per_epoch=3")))
    assert len(read_metrics(tmp_path / "run", "val/loss")) == 6
    best = load_language_model(tmp_path / "run/best-lm.pt")
    assert best.level == "word"
    assert best.model.sizes.output_size == 6


def test_the_rate_falling_below_its_minimum_ends_the_run_early(corpus, tmp_path):
    more = ("name=run", "anneal.patience=0", "anneal.min_lr=4", "optimizer.lr=60", "trainer.max_epochs=30")
    results = train(compose(*overrides(corpus, tmp_path, *more)))
    assert results["epochs"] < 30
    assert "fell below anneal.min_lr=4" in (tmp_path / "run/train.log").read_text()
    assert "test/loss" in results


def test_arguments_that_the_optimizer_refuses_are_said_before_anything_is_written(corpus, tmp_path):
    values = compose(*overrides(corpus, tmp_path, "name=run", "+optimizer.weight_decay=-1"))
    with pytest.raises(UserError, match=r"optimizer\.weight_decay=-1"):
        train(values)
    assert not (tmp_path / "run").exists()


def test_a_model_that_never_improves_leaves_the_original_weights_as_best(corpus, run_folder, tmp_path):
    more = ("name=tuned", f"init_from={run_folder}/best-lm.pt", "optimizer.lr=5000", "trainer.gradient_clip_val=9")
    train(compose(*overrides(corpus, tmp_path, *more, "trainer.max_steps=20")), {"name"})
    assert all(torch.equal(tensor, weights(run_folder)[name]) for name, tensor in weights(tmp_path / "tuned").items())
    said = "A model that takes all items for equally probable has a lower loss"  # once, not at every validation
    assert (tmp_path / "tuned/train.log").read_text().count(said) == 1


def test_a_run_with_muon_and_too_high_a_rate_is_not_told_to_take_muon(corpus, tmp_path):
    rates = ("optimizer=muon", "optimizer.lr=50", "optimizer.adamw_lr=5")
    train(compose(*overrides(corpus, tmp_path, *rates, "trainer.max_steps=5", "name=muon")))
    log = (tmp_path / "muon/train.log").read_text()
    assert "the learning rate is too high: lower optimizer.lr\n" in log


def test_a_dictionary_expanded_for_new_text_leaves_the_old_rows_untouched(run_folder, tmp_path):
    new = tmp_path / "corpus"
    (new / "train").mkdir(parents=True)
    for name in ("train/a.txt", "valid.txt", "test.txt"):
        (new / name).write_text("aßb ßß \n" * 100, encoding="utf-8")
    more = ("name=tuned", f"init_from={run_folder}/best-lm.pt", "dictionary.expand=true", "optimizer.lr=1e-9")
    train(compose(*overrides(new, tmp_path, *more, "trainer.max_steps=1")), {"name"})
    old, tuned = load_language_model(run_folder / "best-lm.pt"), load_language_model(tmp_path / "tuned/best-lm.pt")
    assert tuned.dictionary.items == (*old.dictionary.items, "ß")
    for name in ("encoder.weight", "decoder.weight", "decoder.bias"):
        before = old.model.state_dict()[name]
        assert torch.allclose(tuned.model.state_dict()[name][:-1], before, atol=1e-6)
