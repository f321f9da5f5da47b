"""callbacks=probe: figures of the validated weights, and training as without it."""

import json
import re
from pathlib import Path

import pytest
import torch
from corpora import write_corpus
from outcomes import assert_same_outcome, outcome
from running import compose, read_metrics, train
from stopping import Killed
from tagged import tagged_by_what_stands_before, write_columns
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lmtrain.inference.embeddings import StringEmbeddings
from lmtrain.model_files.flair import load_language_model
from lmtrain.probing.experiment import found_by_vectors
from lmtrain.probing.material import drawn, judged, read_material


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    write_corpus(folder / "corpus")
    for name, seed in (("train.tsv", 1), ("test.tsv", 2)):
        write_columns(folder / name, tagged_by_what_stands_before(40, seed))
    return folder


def settings(place: Path, folder: Path, *more: str) -> dict:
    return compose(
        *("data=folder", f"data.path={place}/corpus", f"data.cache_dir={place}/cache", "data.batch_size=4"),
        *("data.sequence_length=20", "model=tiny", "model.hidden_size=16", f"runs_dir={folder}", "name=run"),
        *("trainer.max_epochs=2", "trainer.log_every_n_steps=1", "trainer.accelerator=cpu", *more),
    )


def probing(place: Path) -> tuple[str, ...]:
    files = (f"callbacks.probe.{name}={place}/{name}.tsv" for name in ("train", "test"))
    return ("callbacks=probe", "callbacks.probe.sentences=30", *files)


@pytest.fixture(scope="module")
def probed(place, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("probed")
    train(settings(place, folder, *probing(place)))
    return folder


def test_weights_losses_and_states_are_those_of_a_run_without_it(place, probed, tmp_path):
    """In a process that has a random state of its own, which a probe must not move, either."""
    torch.manual_seed(7)
    train(settings(place, tmp_path))
    checkpoint, rows, best = outcome(probed)
    assert_same_outcome(outcome(tmp_path), (checkpoint, [row for row in rows if not row["probe/accuracy"]], best))
    assert (tmp_path / "run/best-lm.pt").read_bytes() == (probed / "run/best-lm.pt").read_bytes()


def test_the_figure_of_every_validation_is_in_metrics_csv_and_tensorboard(probed):
    validations = len(read_metrics(probed / "run", "val/loss"))
    figures = read_metrics(probed / "run", "probe/accuracy")
    assert len(figures) == validations > 2
    assert len(set(figures)) > 1
    assert read_metrics(probed / "run", "probe/f1") == []  # parts of speech have no entities
    for folder, tag in (("tensorboard", "probe/accuracy"), ("tensorboard/by_chars", "by_chars/probe/accuracy")):
        events = EventAccumulator(str(probed / "run" / folder)).Reload().Scalars(tag)
        assert [event.value for event in events] == pytest.approx(figures)
    said = re.findall(r"Probe: accuracy (\S+) \(", (probed / "run/train.log").read_text())
    assert said == [f"{figure:.3f}" for figure in figures]


def test_an_average_is_probed_if_the_average_is_validated(place, tmp_path):
    """What best-lm.pt holds, in whatever order the callbacks were given."""
    average = "+callbacks.average={_target_: lightning.pytorch.callbacks.EMAWeightAveraging, decay: 0.9}"
    values = settings(place, tmp_path, "model.hidden_size=24", "optimizer.lr=2", *probing(place), average)
    values["callbacks"] = dict(reversed(values["callbacks"].items()))
    train(values)
    step = json.loads((tmp_path / "run/results.json").read_text())["best_step"]
    rows = [line.split(",") for line in (tmp_path / "run/metrics.csv").read_text().splitlines()]
    column = rows[0].index("probe/accuracy")
    (reported,) = (float(row[column]) for row in rows[1:] if row[0] == str(step) and row[column])
    material = read_material(place / "train.tsv", place / "test.tsv")
    learned, asked = drawn(material.train, 30, 1), drawn(material.test, 30, 0)
    embeddings = StringEmbeddings(load_language_model(tmp_path / "run/best-lm.pt"))
    vectors = [torch.cat(embeddings.embed([one.tokens for one in part])).numpy() for part in (learned, asked)]
    assert reported == judged(asked, found_by_vectors(learned, *vectors)[0], has_entities=False).accuracy


def test_a_killed_run_goes_on_with_the_same_figures(place, probed, tmp_path):
    with pytest.raises(Killed):
        train(settings(place, tmp_path, *probing(place), "+callbacks.kill={_target_: stopping.KillAt, windows: 40}"))
    train(settings(place, tmp_path, *probing(place)))
    assert_same_outcome(outcome(probed), outcome(tmp_path))
    assert read_metrics(tmp_path / "run", "probe/accuracy") == read_metrics(probed / "run", "probe/accuracy")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "a probe needs tagged sentences: callbacks.probe.train=FILE callbacks.probe.test=FILE."),
        (("callbacks.probe.train=nothing.tsv", "callbacks.probe.test=nothing.tsv"), "nothing.tsv cannot be read"),
        (("callbacks.probe.train=a.tsv", "callbacks.probe.test=a.tsv"), "tested on what it has learned"),
        (
            ("callbacks.probe.train=a.tsv", "callbacks.probe.test=b.tsv", "callbacks.probe.column=3"),
            "a.tsv, line 1: --column 3: the line has 2 columns",
        ),
        (("callbacks.probe.train=a.tsv", "callbacks.probe.test=b.tsv", "data.level=word"), "data.level=word: only a"),
        (
            ("callbacks.probe.train=a.tsv", "callbacks.probe.test=b.tsv", "callbacks.probe.sentences=1"),
            "sentences is 1",
        ),
    ],
)
def test_mistakes_are_named_before_a_folder_is_made(more, words, train_py):
    for name, seed in (("a.tsv", 1), ("b.tsv", 2)):
        write_columns(Path(name), tagged_by_what_stands_before(4, seed))
    ended = train_py("data=folder", "data.path=corpus", "callbacks=probe", *more)
    assert ended.status == 2
    assert words in ended.message
    assert not Path("runs").exists()


def test_histograms_and_a_probe_together():
    assert set(compose("callbacks=[histograms,probe]")["callbacks"]) == {"histograms", "probe"}
