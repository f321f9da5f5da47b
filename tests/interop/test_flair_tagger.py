"""Flair's own SequenceTagger as a probe."""

import json

import flair  # noqa: F401 - here, so that it logs to where pytest looks
from script_calls import call
from tagged import BOTH_MODELS, FILES, write_models_and_files


def test_flairs_tagger_is_trained_on_the_same_sentences(tmp_path, monkeypatch, capsys):
    """Capitals are what its own characters show; the tags come back in their places."""
    write_models_and_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = ("--tagger", "--epochs", 12, "--sizes", 40, "--json", "a.json")
    assert call("probe", *BOTH_MODELS, *FILES, *options) == 0
    results = json.loads((tmp_path / "a.json").read_text())["results"]
    assert [one["features"] for one in results] == ["characters", "embeddings", "embeddings + characters"]
    print(results)
    printed = capsys.readouterr()
    assert printed.out.startswith("Flair's SequenceTagger, tested on 40 of 40")
    assert printed.err == ""
