"""The page of evidence is what its files say."""

import json
import sys

import pytest
from corpora import write_corpus
from script_calls import SCRIPTS, call

sys.path.insert(0, str(SCRIPTS))
from benchmarks import evidence_page as page
from benchmarks import evidence_runs as runs
from benchmarks import evidence_speed as speed
from lmtrain.errors import UserError

SIZE = [8, 10, 5]


def run(recipe, epochs, curve, seed=1):
    of = {"text": "thai", "recipe": recipe, "epochs": epochs, "size": SIZE, "seed": seed}
    about = {"processor": "Z80", "threads": 1, "date": "2026-11-25", "commit": "abc"}
    return {"contestant": of, "curve": curve, "cpu_seconds": 36.0, "failure": None, "rollbacks": 0, **about}


FLAIR_RUN = run("Flair", 6, [[3000, 2.0], [6000, 1.5]])
FAST_RUNS = [
    run(page.FIXED_RATE, 1, [[500, 2.2], [1000, 1.6]]),
    run(page.FIXED_RATE, 2, [[1000, 1.7], [1500, 1.5], [2000, 1.4]]),
]


def evidence(*more, speeds=None):
    known = {"characters": 1000, "bytes": 3000, "alphabet": 70, "runs": [FLAIR_RUN, *FAST_RUNS, *more]}
    return {"texts": {"thai": known}, "speeds": speeds, "tags": None, "findings": ""}


def is_fast(one):
    return one["contestant"]["recipe"] == page.FIXED_RATE


def test_the_page_and_the_plot_are_made_from_the_files_that_are_kept():
    kept = page.read_evidence()
    assert kept["texts"]
    assert page.PAGE.read_text(encoding="utf-8") == page.page_text(kept), "run scripts/evidence.py page"
    assert page.fingerprint(kept) in page.PLOT.read_text(encoding="utf-8"), "run scripts/evidence.py page"


def test_the_time_to_flairs_loss_is_the_share_of_characters_by_the_speed():
    about = {"machine": {"processor": "Z80", "flags": [], "threads": 2, "torch": "2.13"}, "date": "", "commit": ""}
    rates = {"Flair": [90, 100, 130], page.FAST: [200, 250, 260]}
    speeds = [
        {"text": "thai", "recipe": name, "size": SIZE, "characters_per_second": one} for name, one in rates.items()
    ]
    (found,) = page.comparisons(evidence(speeds={**about, "load": 0.1, "speeds": speeds}), is_fast)
    assert (found["loss"], found["fast"], found["epochs"]) == (1.5, {1: 1.6, 2: 1.4}, 2)
    assert found["share"] == pytest.approx(1500 / 6000)
    assert found["time"] == pytest.approx(1500 / 250 / (6000 / 100))


def test_without_speeds_no_time_is_claimed_and_a_loss_that_was_not_reached_is_said():
    (found,) = page.comparisons(evidence(), is_fast)
    assert found["time"] is None
    better = run("Flair", 6, [[6000, 1.2]], seed=2)
    fast = run(page.FIXED_RATE, 1, [[1000, 1.6]], seed=2)
    text = page.page_text(evidence(better, fast))
    assert "| thai | 8×10×5 | 2 | Flair | 1.200 | 1.600 |  | not reached |" in text
    assert "| thai | 8×10×5 | `experiment=fast optimizer.lr=0.04` | 1 | 1, 2 | 1.600, 1.600 | 1.600 | 0.000 |" in text


def test_the_rule_asks_for_higher_rates_in_shorter_runs_and_never_for_lower_ones():
    assert [page.rate_for_muon(steps) for steps in (100, 400, 800, 10_000)] == [0.12, 0.08, 0.04, 0.04]
    short = evidence()  # 1000 characters in windows of 10 × 5: 20 steps an epoch
    assert not page.follows_rule(short, run(page.FIXED_RATE, 1, []))
    assert page.follows_rule(short, run(page.FAST + " optimizer.lr=0.12", 1, []))
    assert page.follows_rule(short, run(page.FIXED_RATE, 40, []))
    assert page.follows_rule(short, run(page.FAST, 1, []))
    assert not page.follows_rule(short, run(page.FAST + " optimizer.lr=0.12 optimizer.adamw_lr=0.03", 1, []))


def test_a_run_is_kept_with_its_curve_and_not_made_again(tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "corpus")
    contestant = runs.Contestant("corpus", "experiment=fast logger=csv", 1.5, (8, 20, 10), 1)
    monkeypatch.setattr(runs, "call", lambda _, *arguments: runs.train(*map(str, arguments)))
    made = runs.keep_run(corpus, contestant, tmp_path / "evidence")
    monkeypatch.setattr(runs, "call", None)
    assert runs.keep_run(corpus, contestant, tmp_path / "evidence") == json.loads(json.dumps(made))
    characters = sum(len(path.read_text(encoding="utf-8")) for path in (corpus / "train").iterdir())
    assert made["curve"][-1][0] == pytest.approx(1.5 * characters, rel=0.1)
    assert made["failure"] is None
    assert made["cpu_seconds"] > 0


def test_speeds_that_were_measured_are_kept_and_those_of_another_machine_are_not_mixed_with_them(tmp_path, monkeypatch):
    thai, lao = tmp_path / "thai", tmp_path / "lao"
    for name in ("thai", "lao"):
        known = {"runs": [run("Flair", 6, [[6000, 1.5]])]}
        (tmp_path / f"{name}.json").write_text(json.dumps(known), encoding="utf-8")
    monkeypatch.setattr(speed, "call", lambda *_: 100.0)
    speed.measure_speeds([thai], 0.001, tmp_path)
    monkeypatch.setattr(speed, "call", lambda *_: 200.0)
    speed.measure_speeds([thai, lao], 0.001, tmp_path)
    kept = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    first = {(one["text"], one["characters_per_second"][0]) for one in kept["speeds"]}
    assert first == {("thai", 100), ("lao", 200)}
    assert len(kept["speeds"]) == 2 * len(speed.RECIPES)
    kept["machine"]["processor"] = "Z80"
    (tmp_path / "speed.json").write_text(json.dumps(kept), encoding="utf-8")
    with pytest.raises(UserError, match=r"speed\.json is of another machine.*Z80"):
        speed.measure_speeds([lao], 0.001, tmp_path)


@pytest.mark.parametrize("arguments", [("--recipe", "Flair@1.5"), ("--recipe", "fast"), ("--size", "256x100")])
def test_what_cannot_be_run_is_refused(capsys, arguments):
    assert call("evidence", "run", "corpus", *arguments) == 2
    assert f"{arguments[0]} {arguments[1]}" in capsys.readouterr().err


def test_no_corpus_is_refused(capsys):
    assert call("evidence", "speed") == 2
    assert "corpora/*" in capsys.readouterr().err
