"""metrics.csv has fixed columns, and an unbroken history when a run is resumed."""

import csv

from lmtrain.training.loggers.metrics_csv import COLUMNS, MetricsCSV
from lmtrain.training.loggers.run_logger import RunInfo


def rows(folder) -> list[dict[str, str]]:
    """The rows with the cells that are not empty."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def write(folder, steps, resume_step=None) -> None:
    logger = MetricsCSV(RunInfo(folder, "run", "key", {}, resume_step))
    for step in steps:
        logger.log_metrics({"chars": 10 * step, "train/loss": step / 2}, step)


def test_each_report_is_a_row_and_each_figure_has_its_column(tmp_path):
    logger = MetricsCSV(RunInfo(tmp_path, "run", "key", {}))
    logger.log_metrics({"chars": 100, "train/loss": 2.5, "some/other": 1.0}, step=1)
    logger.log_metrics({"chars": 200, "val/loss": 1.25}, step=2)
    assert rows(tmp_path) == [
        {"step": "1", "chars": "100", "train/loss": "2.5"},
        {"step": "2", "chars": "200", "val/loss": "1.25"},
    ]
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == ",".join(COLUMNS)


def test_what_has_no_figures_is_no_row(tmp_path):
    logger = MetricsCSV(RunInfo(tmp_path, "run", "key", {}))
    logger.log_metrics({"chars": 100}, step=1)
    logger.log_metrics({"chars": 100, "some/other": 1.0}, step=1)
    assert rows(tmp_path) == []


def test_a_resumed_run_goes_on_after_the_step_it_was_saved_at(tmp_path):
    write(tmp_path, range(1, 8))
    write(tmp_path, [6, 7, 8], resume_step=5)
    assert [row["step"] for row in rows(tmp_path)] == list("12345678")


def test_a_row_that_a_crash_cut_off_is_dropped(tmp_path):
    write(tmp_path, [1, 2])
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("3,30,1")
    write(tmp_path, [3], resume_step=3)
    assert rows(tmp_path)[-1] == {"step": "3", "chars": "30", "train/loss": "1.5"}
    assert len(rows(tmp_path)) == 3


def test_a_new_run_begins_a_new_file(tmp_path):
    write(tmp_path, [1, 2])
    write(tmp_path, [1])
    assert len(rows(tmp_path)) == 1
