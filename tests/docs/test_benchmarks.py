"""The page of benchmarks is what its files say."""

import json
import sys

from script_calls import SCRIPTS, call

sys.path.insert(0, str(SCRIPTS))
from benchmarks import page, record

MACHINE = {"processor": "Z80", "flags": [], "threads": 1, "gpu": None, "torch": "2.13.0", "flair": None}


def result(**changes):
    """What a part of the benchmark gives: two rounds."""
    rates = {"Flair": [10.0, 14.0], "lmtrain, bf16": [30.0, 42.0]}
    return {
        **{"task": "training", "size": "H1", "unit": "characters/s", "reference": "Flair", "ours": "lmtrain, bf16"},
        **{"rates": rates, "notes": {"share": 0.51239}},
        **changes,
    }


def test_the_page_and_the_plot_are_made_from_the_files_that_are_kept():
    records = page.read_records()
    assert records
    assert page.PAGE.read_text(encoding="utf-8") == page.page_text(records), "run scripts/benchmark.py page"
    plot = page.PLOT.read_text(encoding="utf-8")
    assert page.fingerprint(records) in plot, "run scripts/benchmark.py page"
    for _, results in page.drawn(records):
        for one in results:
            assert f"{one['task']}, {one['size']}" in plot
            assert f"{page.ratio_of(one, one['ours']):.2f}×" in plot


def test_readme_shows_the_plot():
    assert "(docs/benchmarks.svg)" in (record.ROOT / "README.md").read_text(encoding="utf-8")


def test_what_was_measured_is_kept_with_its_range_and_shown_with_its_ratio(tmp_path):
    path = record.file_of(MACHINE, tmp_path)
    assert path.name == "z80-1-threads-torch-2.13.0.json"
    record.keep([record.described(result())], MACHINE, path)
    (kept,) = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert kept["figures"]["lmtrain, bf16"] == {"median": 36, "low": 30, "high": 42}
    assert (kept["rounds"], kept["notes"]) == (2, {"share": 0.5124})
    text = page.page_text(page.read_records(tmp_path))
    assert "| H1 | 1 | 12 (10 to 14) | 36 (30 to 42) **3.00×** |" in text


def test_a_new_measurement_replaces_the_one_of_the_same_task_and_size_only(tmp_path):
    path = tmp_path / "machine.json"
    for changes in ({}, {"size": "H2"}, {"rates": {"Flair": [1.0], "lmtrain, bf16": [5.0]}}):
        record.keep([record.described(result(**changes))], MACHINE, path)
    kept = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert [(one["size"], one["figures"]["Flair"]["median"]) for one in kept] == [("H1", 1), ("H2", 12)]


def test_no_rounds_are_refused(capsys):
    assert call("benchmark", "train", "--rounds", "0") == 2
    assert "--rounds" in capsys.readouterr().err
