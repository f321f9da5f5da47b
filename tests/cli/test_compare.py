"""Runs side by side: the figures, the keys that differ, directions that are far apart, the files that are written."""

import csv
import json
import math
import os
import shutil
from pathlib import Path

import pytest
import yaml
from running import read_metrics as column_of
from script_calls import call

from lmtrain.config.schema import all_keys
from lmtrain.errors import UserError
from lmtrain.runs.compare import _NEEDED, differing_keys, read_runs, records, remarks, unlike_twins
from lmtrain.runs.compare_plot import plot
from lmtrain.runs.curves import read_metrics


def copied(run: Path, to: Path, losses=lambda loss: loss, **changes) -> Path:
    """A copy of a run as if it had been trained with other values of some keys, and had reached other losses."""
    shutil.copytree(run, to)
    values = yaml.safe_load((run / "config.yaml").read_text())
    for key, value in {"name": to.name, **changes}.items():
        section, *rest = key.split("__")
        if rest:
            values[section][rest[0]] = value
        else:
            values[section] = value
    (to / "config.yaml").write_text(yaml.safe_dump(values))
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["val/loss"]:
            loss = losses(float(row["val/loss"]))
            row |= {"val/loss": loss, "val/ppl": math.exp(loss), "val/bpc": loss / math.log(2)}
    with (to / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return to


def only(runs):
    (run,) = runs
    return run


def test_the_figures_of_a_finished_run(pair_of_runs):
    run = only(read_runs([pair_of_runs / "forward"]))
    results = json.loads((pair_of_runs / "forward/results.json").read_text())
    losses = column_of(pair_of_runs / "forward", "val/loss")
    assert run.figures["val/loss"] == min(losses) == pytest.approx(results["val/loss"])
    assert run.figures["val/ppl"] == pytest.approx(math.exp(min(losses)), rel=1e-5)
    assert run.figures["test/ppl"] == pytest.approx(math.exp(results["test/loss"]))
    assert run.figures["steps"] == results["steps"]
    assert run.figures["chars"] == results["chars"]
    assert run.figures["epochs"] == pytest.approx(1, abs=0.02)  # lanes leave out a few characters at the end
    assert run.is_finished
    assert (run.name, run.model, run.data) == ("forward", "16×1", "corpus")
    speed = run.figures["chars"] / run.figures["hours"] / 3600
    speeds = column_of(pair_of_runs / "forward", "chars_per_second")
    assert min(speeds) <= speed <= max(speeds)
    assert run.figures["chars_per_second"] == pytest.approx(speed)


def test_hours_are_characters_by_the_speed_that_is_reported_next(tmp_path):
    rows = ["step,chars,val/loss,chars_per_second", "1,1000,,100", "2,2000,3.5,", "3,3000,,200", "4,4000,3.4,"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows))
    hours = [row["hours"] for row in read_metrics(tmp_path / "metrics.csv")]
    assert hours == pytest.approx([10 / 3600, 15 / 3600, 20 / 3600, 25 / 3600])


def test_a_row_that_is_just_being_written_is_left_out(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,chars,val/loss,lr\n1,10,2.5,20\n2,20,2.")
    assert [row["val/loss"] for row in read_metrics(tmp_path / "metrics.csv")] == [2.5]


def test_runs_that_are_not_finished(pair_of_runs, tmp_path):
    stopped = copied(pair_of_runs / "forward", tmp_path / "stopped")
    (stopped / "results.json").unlink()
    copied(pair_of_runs / "forward", tmp_path / "goes_on", trainer__max_epochs=5)
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(pair_of_runs / "forward/config.yaml", begun)
    runs = {run.name: run for run in read_runs(sorted(tmp_path.iterdir()))}
    assert not any(run.is_finished for run in runs.values())
    assert runs["stopped"].figures["val/loss"] == min(column_of(stopped, "val/loss"))
    assert not any("test/ppl" in run.figures for run in runs.values())  # it is of a model before
    assert runs["begun"].figures == {}
    assert [run.name for run in read_runs(sorted(tmp_path.iterdir()))][-1] == "begun"


def test_exactly_the_keys_that_differ_are_shown(pair_of_runs, tmp_path):
    copied(pair_of_runs / "forward", tmp_path / "one", seed=2, model__hidden_size=32, runs_dir="elsewhere")
    copied(pair_of_runs / "forward", tmp_path / "two", seed=2, optimizer__lr=5, data__cache_dir="elsewhere")
    runs = read_runs([pair_of_runs / "forward", tmp_path / "one", tmp_path / "two"], sort="run")
    assert differing_keys(runs) == ["seed", "optimizer.lr"]
    assert [(record["seed"], record["optimizer.lr"]) for record in records(runs)] == [(1, 20), (2, 20), (2, 5)]
    assert [record["hidden_size"] for record in records(runs)] == [16, 32, 16]
    assert differing_keys(read_runs([pair_of_runs / "forward", pair_of_runs / "backward"])) == []


def test_corpora_of_the_same_name_in_different_places_differ(pair_of_runs, tmp_path):
    copied(pair_of_runs / "forward", tmp_path / "one", data__path="/a/corpus")
    copied(pair_of_runs / "forward", tmp_path / "two", data__path="/b/corpus")
    copied(pair_of_runs / "forward", tmp_path / "three", data__path="/a/news")
    assert differing_keys(read_runs([tmp_path / "one", tmp_path / "two"])) == ["data.path"]
    assert differing_keys(read_runs([tmp_path / "one", tmp_path / "three"])) == []


@pytest.mark.parametrize(
    ("ratio", "expected"), [(1.08, {}), (1.12, {"backward": "forward"}), (0.88, {"forward": "backward"})]
)
def test_a_direction_far_above_its_twin_is_marked(pair_of_runs, tmp_path, ratio, expected):
    best = min(column_of(pair_of_runs / "forward", "val/loss"))
    copied(pair_of_runs / "forward", tmp_path / "forward", losses=lambda _: best)
    copied(pair_of_runs / "backward", tmp_path / "backward", losses=lambda _: best + math.log(ratio))
    runs = read_runs(sorted(tmp_path.iterdir()))
    assert {name: twin.name for name, twin in unlike_twins(runs).items()} == expected
    assert {record["run"]: record["unlike_twin"] for record in records(runs) if record["unlike_twin"]} == expected


def test_a_perplexity_beyond_floats_is_marked_and_is_no_number_in_json(pair_of_runs, tmp_path):
    copied(pair_of_runs / "forward", tmp_path / "forward")
    bad = copied(pair_of_runs / "backward", tmp_path / "backward")
    (bad / "metrics.csv").write_text("step,chars,val/loss,val/ppl,val/bpc\n9,99,9005.0,inf,12991.5\n")
    runs = read_runs(sorted(tmp_path.iterdir()))
    assert set(unlike_twins(runs)) == {"backward"}
    assert json.loads(json.dumps(records(runs), allow_nan=False))[1]["val/ppl"] is None


def test_runs_of_other_configurations_are_no_twins(pair_of_runs, tmp_path):
    copied(pair_of_runs / "backward", tmp_path / "b", losses=lambda loss: loss + 1, model__dropout=0.5)
    assert unlike_twins(read_runs([pair_of_runs / "forward", tmp_path / "b"])) == {}
    # where and how long it ran, the seed, and the model that each direction starts from may differ
    changes = {"seed": 7, "trainer__devices": 2, "trainer__max_epochs": 9, "init_from": "backward.pt"}
    copied(pair_of_runs / "backward", tmp_path / "c", losses=lambda loss: loss + 1, **changes)
    runs = read_runs([pair_of_runs / "forward", tmp_path / "c"], sort="val/loss")
    assert {name: twin.name for name, twin in unlike_twins(runs).items()} == {runs[1].name: runs[0].name}


def test_the_script_prints_and_writes(pair_of_runs, tmp_path, capsys):
    bad = copied(pair_of_runs / "backward", tmp_path / "runs/bad", losses=lambda loss: loss + 1, name="bad")
    (tmp_path / "runs/multirun.yaml").write_text("what Hydra leaves beside the runs of a multirun")
    slow = copied(pair_of_runs / "forward", tmp_path / "runs/slow", optimizer__lr=1.5)
    files = [
        f"--{name}={tmp_path}/{file}" for name, file in (("output", "a.png"), ("json", "a.json"), ("csv", "a.csv"))
    ]
    arguments = [pair_of_runs / "forward", *(tmp_path / "runs").iterdir(), *files]
    assert call("compare", *arguments) == 0
    output = capsys.readouterr().out
    for run in (pair_of_runs / "forward", bad, slow):
        assert f"{min(column_of(run, 'val/loss')):.4f}" in output
    assert "1.5" in output
    assert "optimizer.lr" in output
    assert "More than 10 % apart" in output
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    from_json = json.loads((tmp_path / "a.json").read_text())
    with (tmp_path / "a.csv").open(newline="") as file:
        from_csv = list(csv.DictReader(file))
    assert from_json[0].keys() == from_csv[0].keys()
    assert [row["val/loss"] for row in from_csv] == [str(record["val/loss"]) for record in from_json]
    losses = [record["val/loss"] for record in from_json]
    assert losses == sorted(losses)
    assert call("compare", *arguments) == 2
    assert "a.png exists" in capsys.readouterr().err
    assert call("compare", *arguments, "--overwrite", "--sort", "run", f"--output={tmp_path}/a.pdf") == 0
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_all_that_is_no_run_is_named_and_nothing_written(pair_of_runs, tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/notes.txt").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.yaml").write_text("site: mine\n")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.yaml").write_text("- a\n- b: [\n")
    names = ["notes", "other", "broken", "nowhere"]
    paths = [tmp_path / name for name in names] + [pair_of_runs / "forward/best-lm.pt", pair_of_runs / "forward"]
    assert call("compare", *paths, f"--output={tmp_path}/a.png") == 2
    message = capsys.readouterr().err
    assert message.startswith("5 errors:")
    assert all(str(path) in message for path in paths[:5])
    assert not (tmp_path / "a.png").exists()
    assert call("compare", pair_of_runs / "forward", f"--output={tmp_path}/a.gif") == 2
    assert "must end in .png or .pdf" in capsys.readouterr().err


def test_pipes_and_empty_folders_beside_runs_are_passed_over_and_a_broken_link_is_called_one(pair_of_runs, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    assert len(read_runs([pair_of_runs / "forward", tmp_path / "pipe", tmp_path / "empty"])) == 1
    (tmp_path / "moved").symlink_to("gone")
    with pytest.raises(UserError, match="moved is a link to gone, which does not exist"):
        read_runs([pair_of_runs / "forward", tmp_path / "moved"])


def test_runs_without_a_validation_cannot_be_drawn(pair_of_runs, tmp_path):
    shutil.copytree(pair_of_runs / "forward", tmp_path / "run")
    (tmp_path / "run/metrics.csv").unlink()
    with pytest.raises(UserError, match="nothing to draw"):
        plot(read_runs([tmp_path / "run"]), tmp_path / "a.png")


def test_a_run_without_metrics_csv_has_the_figures_of_its_end(pair_of_runs, tmp_path):
    shutil.copytree(pair_of_runs / "forward", tmp_path / "run")
    (tmp_path / "run/metrics.csv").unlink()
    results = json.loads((pair_of_runs / "forward/results.json").read_text())
    run = only(read_runs([tmp_path / "run"]))
    assert {name: run.figures[name] for name in ("steps", "chars", "val/loss")} == {
        name: results[name] for name in ("steps", "chars", "val/loss")
    }
    assert run.figures["val/ppl"] == pytest.approx(math.exp(results["val/loss"]))
    assert run.figures["test/ppl"] == pytest.approx(math.exp(results["test/loss"]))
    assert "hours" not in run.figures


def test_the_same_text_elsewhere_is_the_same_text(pair_of_runs, tmp_path):
    bad = copied(pair_of_runs / "backward", tmp_path / "b", losses=lambda loss: loss + 1, data__path="/elsewhere")
    runs = read_runs([pair_of_runs / "forward", bad])
    assert [Path(name).name for name in unlike_twins(runs)] == ["b"]
    assert not any("different texts" in line for line in remarks(runs))
    texts = json.loads((bad / "corpus.json").read_text())
    texts["valid.txt"][1] += 1
    (bad / "corpus.json").write_text(json.dumps(texts))
    runs = read_runs([pair_of_runs / "forward", bad])
    assert unlike_twins(runs) == {}
    assert remarks(runs) == ["Figures on different texts do not compare: docs/how_good.md"]


def test_the_keys_that_are_treated_apart_exist():
    assert set(all_keys()) >= {*_NEEDED}
