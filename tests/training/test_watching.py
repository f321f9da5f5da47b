"""What a run writes for those who watch it: TensorBoard, wandb, MLflow, the progress bar and its lines."""

import io
import math
import os
import re
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import write_corpus
from hooks import Opened
from rich.console import Console
from running import compose, read_metrics, train
from stopping import Killed
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from lmtrain.errors import UserError
from lmtrain.training.callbacks import progress
from lmtrain.training.loggers.mlflow import MLflow
from lmtrain.training.loggers.run_logger import RunInfo


def settings(corpus, folder, *more) -> dict:
    return compose(
        *("data=folder", f"data.path={corpus}", f"data.cache_dir={corpus}/cache", "data.batch_size=4"),
        *("data.sequence_length=20", "model=tiny", "model.hidden_size=16", f"runs_dir={folder}", "name=run"),
        *("trainer.max_epochs=2", "trainer.log_every_n_steps=1", "trainer.accelerator=cpu", *more),
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def resumed(corpus, tmp_path_factory):
    """A run that was killed some steps after its last checkpoint, and finished by the same command."""
    folder = tmp_path_factory.mktemp("runs")
    kill = "+callbacks.kill={_target_: stopping.KillAt, windows: 40}"
    with pytest.raises(Killed):
        train(settings(corpus, folder, "callbacks=histograms", kill))
    saved = torch.load(folder / "run/checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert saved < 40
    assert max(read_metrics(folder / "run", "step")) == 40
    time.sleep(1.1)  # TensorBoard reads files of different seconds in their order, but of one the 10th before the 9th
    train(settings(corpus, folder, "callbacks=histograms"))
    return folder / "run"


def events(folder) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0}).Reload()


def points(scalars: EventAccumulator, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in scalars.Scalars(tag)]


@pytest.mark.parametrize("figure", ["train/loss", "val/loss", "lr", "test/loss"])
def test_tensorboard_shows_figures_by_step_and_by_characters_with_no_gap_or_repetition(resumed, figure):
    rows = (resumed / "metrics.csv").read_text().splitlines()
    names = rows[0].split(",")
    known = [dict(zip(names, row.split(","), strict=True)) for row in rows[1:]]
    known = [(int(row["step"]), int(row["chars"]), float(row[figure])) for row in known if row[figure]]
    steps = points(events(resumed / "tensorboard"), figure)
    chars = points(events(resumed / "tensorboard/by_chars"), f"by_chars/{figure}")
    assert [step for step, _ in steps] == [step for step, _, _ in known]
    assert [place for place, _ in chars] == [place for _, place, _ in known]
    for found in (steps, chars):
        assert [value for _, value in found] == pytest.approx([value for _, _, value in known], rel=1e-5)


def test_a_start_writes_one_file_a_folder_also_for_what_comes_after_training(resumed):
    """TensorBoard reads a second's 10th file before its 9th, and drops figures where it sees a start after them."""
    for folder in (resumed / "tensorboard", resumed / "tensorboard/by_chars"):
        assert len(list(folder.glob("events.*"))) == 2


def test_the_table_of_runs_has_the_configuration_and_the_best_figures(resumed):
    scalars = events(resumed / "tensorboard")
    content = scalars.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    row = HParamsPluginData.FromString(content).session_start_info.hparams
    assert row["model.hidden_size"].number_value == 16
    assert row["optimizer.lr"].number_value == 20
    assert row["direction"].string_value == "forward"
    assert not {"runs_dir", "trainer.max_epochs"} & set(row)
    content = scalars.SummaryMetadata("_hparams_/experiment").plugin_data.content
    table = HParamsPluginData.FromString(content).experiment
    assert set(row) < {column.name for column in table.hparam_infos}
    figures = {metric.name.tag for metric in table.metric_infos}
    assert figures == {"val/loss_best", "test/loss", "test/ppl", "test/bpc"}
    assert figures <= set(scalars.Tags()["scalars"])
    best = points(scalars, "val/loss_best")[-1][1]
    assert best == pytest.approx(min(read_metrics(resumed, "val/loss")), rel=1e-6)


def test_histograms_are_of_the_weights_gradients_and_activations_at_validations(resumed):
    found = events(resumed / "tensorboard")
    last = {tag: found.Histograms(tag)[-1] for tag in found.Tags()["histograms"]}
    validated = [step for step, _ in points(found, "val/loss")]
    assert {event.step for tag in last for event in found.Histograms(tag)} == set(validated)
    checkpoint = torch.load(resumed / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == validated[-1]
    for name, values in checkpoint["state_dict"].items():
        histogram = last[f"parameters/{name.removeprefix('model.')}"].histogram_value
        assert histogram.num == sum(histogram.bucket) == values.numel()
        assert histogram.sum == pytest.approx(values.sum().item(), abs=1e-3)
        near = torch.histc(values, 10, histogram.min, histogram.max)
        assert [sum(histogram.bucket[at : at + 10]) for at in range(0, 100, 10)] == pytest.approx(near.tolist(), abs=2)
    squares = sum(event.histogram_value.sum_squares for tag, event in last.items() if tag.startswith("gradients/"))
    assert math.sqrt(squares) == pytest.approx(points(found, "grad_norm")[-1][1], rel=1e-3)
    assert last["activations/hidden"].histogram_value.num == 4 * 16
    assert last["activations/output"].histogram_value.num % (4 * 16) == 0
    assert last["activations/output"].histogram_value.max < 1


def test_histograms_every_so_many_steps_and_lines_where_there_is_no_terminal(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0)
    more = ("callbacks=histograms", "callbacks.histograms.every_n_steps=4", "trainer.accumulate_grad_batches=2")
    train(settings(corpus, tmp_path, *more, "trainer.max_steps=9", "model.recurrent_type=GRU"))
    found = events(tmp_path / "run/tensorboard")
    assert "activations/cell" not in found.Tags()["histograms"]
    assert [event.step for event in found.Histograms("activations/hidden")] == [4, 8]
    assert [event.step for event in found.Histograms("gradients/encoder.weight")] == [4, 8]
    line = (
        r"epoch 1/2 split 1/2 · step 2 of 9 · \d:\d\d:\d\d left · loss \d\.\d+ · bpc \d\.\d+ · chars/s [\d,]+ · lr 20$"
    )
    assert re.search(line, (tmp_path / "run/train.log").read_text(), re.MULTILINE)


def test_mlflow_has_one_run_with_the_figures_of_all_its_parts_below_a_bar_of_80_columns(corpus, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    screen = io.StringIO()
    monkeypatch.setattr(
        "lmtrain.training.train.Console",
        lambda **_: Console(file=screen, force_terminal=True, width=80, highlight=False),
    )
    monkeypatch.setattr(progress, "_REFRESH_SECONDS", 0)
    for steps in (5, 9):
        train(settings(corpus, tmp_path, "logger=[mlflow,csv]", f"trainer.max_steps={steps}"))
    assert "MLFLOW_TRACKING_URI" not in os.environ  # another run of this process may have another database
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("lmtrain").experiment_id])
    assert run.info.run_name == "run"
    assert run.info.status == "FINISHED"
    assert run.data.params["model.hidden_size"] == "16"
    info = RunInfo(tmp_path / "run", "run", (tmp_path / "run/.key").read_text(encoding="utf-8"), {})
    logger = MLflow(info, "lmtrain", "run", f"sqlite:///{tmp_path}/mlflow.db")
    logger.log_hyperparams({"optimizer.lr": 0.04, "new": 1})  # as in a longer run
    params = client.get_run(run.info.run_id).data.params
    assert (float(params["optimizer.lr"]), params["new"]) == (20, "1")
    history = sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "val/loss"))
    assert [step for step, _ in history] == [5, 9]
    assert [value for _, value in history] == pytest.approx(read_metrics(tmp_path / "run", "val/loss"), rel=1e-5)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())  # without colours
    assert re.search(r"epoch 1/2 split 1/2 .* 8/9 steps · \d:\d\d:\d\d left", shown)
    assert re.search(r"loss \d\.\d+ · bpc \d\.\d+ · chars/s [\d,]+ · lr 20 · best \d\.\d+", shown)


def wandb_records(path: Path) -> Iterator[Any]:
    """What wandb has written: protocol buffers in LevelDB's log format, cut at blocks of 32 KiB, after 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        rest = 32768 - at % 32768
        if rest < 7:  # no room for a head: a checksum, the length, and whether the record goes on
            at += rest
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield Record.FromString(record)
            record = b""


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # wandb's own temporary folder
def test_wandb_goes_on_with_its_run_and_needs_no_network(corpus, tmp_path, monkeypatch):
    import wandb

    monkeypatch.delenv("WANDB_MODE", raising=False)
    for steps in (5, 9):
        train(settings(corpus, tmp_path, "logger=[csv,wandb]", f"trainer.max_steps={steps}"))
    wandb.teardown()  # as at the process's end: what wandb's own process still holds is written
    parts = sorted((tmp_path / "run/wandb").glob("offline-run-*/*.wandb"))
    assert len(parts) == 2
    assert len({path.name for path in parts}) == 1  # the run's id
    items = [item for path in parts for record in wandb_records(path) for item in record.history.item]
    losses = [float(item.value_json) for item in items if "val/loss" in (item.key, *item.nested_key)]
    assert losses == pytest.approx(read_metrics(tmp_path / "run", "val/loss"), rel=1e-5)
    assert any("sample" in (item.key, *item.nested_key) for item in items)


def test_a_service_that_does_not_take_the_run_is_told_before_training(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"logger\.mlflow\.tracking_uri=http://127\.0\.0\.1:9 does not take the run"):
        train(settings(corpus, tmp_path, "logger=mlflow", "logger.mlflow.tracking_uri=http://127.0.0.1:9"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("was_there", [False, True])
def test_a_logger_that_cannot_be_made_leaves_nothing_but_what_was_there(was_there, corpus, tmp_path):
    notes = tmp_path / "run/notes.txt"
    if was_there:
        notes.parent.mkdir()
        notes.write_text("mine")
    Opened.opened.clear()
    values = settings(corpus, tmp_path)
    values["logger"] = {"one": {"_target_": "hooks.Opened"}, "two": {"_target_": "hooks.Opened", "address": "moon"}}
    with pytest.raises(UserError, match=r"logger\.two cannot be made: hooks\.Opened: nobody is there: moon"):
        train(values)
    assert Opened.opened == []
    assert notes.exists() == was_there
    assert (tmp_path / "run").exists() == was_there


def test_a_refused_run_removes_no_empty_folder_of_the_user(corpus, tmp_path):
    (tmp_path / "mine").mkdir()
    values = settings(corpus, tmp_path)
    values["logger"] = {"one": {"_target_": "hooks.Opened", "address": "moon"}}
    for runs in ("mine", "mine/runs"):
        with pytest.raises(UserError, match=r"logger\.one cannot be made"):
            train(values | {"runs_dir": str(tmp_path / runs)})
        assert (tmp_path / "mine").is_dir()
        assert not list((tmp_path / "mine").iterdir())


@pytest.mark.parametrize(("logger", "package"), [("wandb", "wandb"), ("mlflow", "alembic")])
def test_a_missing_package_is_said_before_anything_is_written(logger, package, corpus, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"logger={logger} needs {package}: pip install 'lmtrain\[{logger}\]'"):
        train(settings(corpus, tmp_path, f"logger=[csv,{logger}]"))
    assert list(tmp_path.iterdir()) == []
