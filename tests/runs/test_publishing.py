"""The model card, and the folder for the Hugging Face Hub."""

import json
import math
import shutil

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from running import read_metrics
from script_calls import call

from lmtrain.config.schema import check_config
from lmtrain.inference.scoring import score
from lmtrain.model_files.export import load_model
from lmtrain.runs.model_card import _manifest, model_card
from lmtrain.runs.run_folder import RunFolder

FILES = {"README.md", "report.png", "best-lm.pt", "model.safetensors", "model.json"}


@pytest.fixture
def run(pair_of_runs, tmp_path):
    """A copy of a finished run."""
    return shutil.copytree(pair_of_runs / "forward", tmp_path / "run")


def test_the_card_says_what_the_run_was(pair_of_runs):
    run = pair_of_runs / "backward"
    text = (run / "README.md").read_text(encoding="utf-8")
    results = json.loads((run / "results.json").read_text())
    model = load_model(run / "best-lm.pt")
    assert f"{sum(parameter.numel() for parameter in model.model.parameters()):,} parameters" in text
    assert f"{len(model.dictionary)} characters in its dictionary" in text
    for stage, loss in (("validation", results["val/loss"]), ("test", results["test/loss"])):
        assert f"| {stage} | {loss:.4f} | {math.exp(loss):.3f} | {loss / math.log(2):.3f} |" in text
    assert f"The best of 3 validations was at step {results['best_step']} of {results['steps']}" in text
    chars = dict(zip(read_metrics(run, "step"), read_metrics(run, "chars"), strict=True))[results["best_step"]]
    assert f", after {chars / results['chars']:.2f} epochs. Training saw" in text  # it was one epoch
    assert "SGD, lr=20" in text
    assert "hidden_size: 16" in text


def test_the_card_tells_in_short_where_the_corpus_comes_from(pair_of_runs):
    text = (pair_of_runs / "forward/README.md").read_text(encoding="utf-8")
    manifest = json.loads((pair_of_runs.parent / "corpus/manifest.json").read_text())
    for name, source in zip(("one.txt", "two.txt"), manifest["sources"], strict=True):
        assert f"{name}`, text, sha256 `{source['sha256']}`" in text
    kept = sum(part["documents"] for part in manifest["parts"].values())
    assert f"Of 300 documents ({manifest['steps'][0]['in']['characters']:,} characters) {kept} " in text
    assert "`valid=0.1`" in text
    assert "min_letters" not in text  # is off


def test_a_run_that_failed_has_a_card_too(run):
    folder = RunFolder(run)
    config = check_config(yaml.safe_load(folder.config.read_text()))
    results = folder.read_results() | {"val/loss": 9005.0}
    assert "| validation | 9005.0000 | inf | 12991.469 |" in model_card(folder, config, results, rows=[])


def test_the_hub_reads_the_cards_metadata(run):
    card = ModelCard.load(run / "README.md")
    assert card.data.library_name == "flair"
    assert {"flair", "character-language-model", "lstm", "forward"} <= set(card.data.tags)
    assert card.data.language is None  # nobody has said which
    assert card.data.license is None
    assert card.text.lstrip().startswith("# forward\n")


def test_the_folder_for_the_hub_holds_the_same_model_for_flair_and_for_lmtrain(run, tmp_path, capsys):
    assert call("export", run / "best-lm.pt", "--format", "hub", "--output", tmp_path / "to/hub") == 0
    assert capsys.readouterr().out == f"{tmp_path}/to/hub\n"
    folder = tmp_path / "to/hub"
    assert {path.name for path in folder.iterdir()} == FILES
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # all may be read by whom the first may
    assert [path.name for path in folder.parent.iterdir()] == ["hub"]
    for name in ("README.md", "report.png", "best-lm.pt"):
        assert (folder / name).read_bytes() == (run / name).read_bytes()
    text = "The rain in Spain stays mainly in the plain.\n" * 3
    (expected,) = score(load_model(run / "best-lm.pt"), [text])
    for name in ("best-lm.pt", "model.safetensors"):
        (again,) = score(load_model(folder / name), [text])
        assert again == expected


def test_a_model_is_loaded_from_where_the_hubs_client_puts_it(run, tmp_path):
    """A snapshot of links to files that are named by their content."""
    call("export", run / "best-lm.pt", "--format", "hub", "--output", tmp_path / "hub")
    (tmp_path / "blobs").mkdir()
    snapshot = tmp_path / "snapshots/0123abc"
    snapshot.mkdir(parents=True)
    for number, name in enumerate(sorted(FILES)):
        shutil.copy(tmp_path / "hub" / name, tmp_path / f"blobs/{number}")
        (snapshot / name).symlink_to(f"../../blobs/{number}")
    one, other = load_model(snapshot / "model.safetensors"), load_model(snapshot / "best-lm.pt")
    weights = other.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in one.model.state_dict().items())


def test_a_folder_that_was_written_before_is_replaced_only_if_asked_for(run, tmp_path, capsys):
    arguments = [run / "best-lm.pt", "--format", "hub", "--output", tmp_path / "hub"]
    (tmp_path / "hub").mkdir()
    assert call("export", *arguments) == 0
    (tmp_path / "hub/README.md").write_text("old")
    assert call("export", *arguments) == 2
    assert "exists. Choose another folder, or replace it with --overwrite" in capsys.readouterr().err
    assert (tmp_path / "hub/README.md").read_text() == "old"
    assert call("export", *arguments, "--overwrite") == 0
    assert (tmp_path / "hub/README.md").read_bytes() == (run / "README.md").read_bytes()
    (tmp_path / "hub/mine.txt").touch()
    assert call("export", *arguments, "--overwrite") == 2
    assert "has other files than a model folder: mine.txt" in capsys.readouterr().err


def test_a_run_without_its_card_is_not_published(run, tmp_path, capsys):
    (run / "README.md").unlink()
    assert call("export", run / "best-lm.pt", "--format", "hub", "--output", tmp_path / "hub") == 2
    assert "has no README.md. Give the best-lm.pt in the folder of a run that has ended" in capsys.readouterr().err
    assert not (tmp_path / "hub").exists()


def test_the_folder_of_a_run_stands_for_its_model(run, tmp_path, capsys):
    assert call("export", run, "--format", "hub", "--output", tmp_path / "hub") == 0
    assert (tmp_path / "hub/best-lm.pt").read_bytes() == (run / "best-lm.pt").read_bytes()
    assert call("export", tmp_path, "--format", "hub", "--output", tmp_path / "other") == 2
    assert f"{tmp_path} has no best-lm.pt, README.md." in capsys.readouterr().err


def test_a_run_that_drew_no_curves_is_published_without_them(run, tmp_path):
    (run / "report.png").unlink()
    (run / "metrics.csv").unlink()
    assert call("export", run / "best-lm.pt", "--format", "hub", "--output", tmp_path / "hub") == 0
    assert {path.name for path in (tmp_path / "hub").iterdir()} == FILES - {"report.png"}


def test_a_card_of_an_earlier_model_is_not_published(run, tmp_path, capsys):
    """The run has gone on with a higher limit, has found a better model, and has not ended."""
    lines = (run / "metrics.csv").read_text().splitlines()
    cells = dict.fromkeys(lines[0].split(","), "") | {
        "step": "900",
        "chars": "99999",
        "val/loss": "0.5",
        "val/ppl": "1.6",
    }
    (run / "metrics.csv").write_text("\n".join([*lines, ",".join(cells.values())]) + "\n")
    assert call("export", run / "best-lm.pt", "--format", "hub", "--output", tmp_path / "hub") == 2
    assert "is not about this model" in capsys.readouterr().err


def test_a_manifest_of_other_text_is_not_believed(pair_of_runs, tmp_path):
    corpus = tmp_path / "corpus"
    shutil.copytree(pair_of_runs.parent / "corpus", corpus)
    assert "were kept" in _manifest(str(corpus))
    first = next((corpus / "train").iterdir())
    for file in (corpus / "valid.txt", first):
        content = bytearray(file.read_bytes())
        content[0] ^= 1
        file.write_bytes(content)  # as long as before
    said = f"`manifest.json` is not of this text: after it was prepared, train/{first.name} and valid.txt changed."
    assert _manifest(str(corpus)) == said
    manifest = json.loads((corpus / "manifest.json").read_text())
    del manifest["files"]  # as older versions wrote it: only sizes are known
    (corpus / "manifest.json").write_text(json.dumps(manifest))
    assert "were kept" in _manifest(str(corpus))
    (corpus / "valid.txt").write_text("other\n")
    assert "after it was prepared, valid changed." in _manifest(str(corpus))
