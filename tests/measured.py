"""Asserts the invariant of every run: results.json, the checkpoint and best-lm.pt are of the same weights."""

import json
from pathlib import Path

import torch

from lmtrain.inference.scoring import score
from lmtrain.model_files.flair import load_language_model


def assert_saved_is_measured(run: Path, corpus: Path, tolerance: float = 1e-3) -> dict:
    """best-lm.pt scores valid.txt and test.txt as results.json says, and the checkpoint knows it; one lane only.

    Returns:
        the results.
    """
    results = json.loads((run / "results.json").read_text())
    model = load_language_model(run / "best-lm.pt")
    for file, figure in (("valid.txt", "val/loss"), ("test.txt", "test/loss")):
        if figure in results:
            (scored,) = score(model, [(corpus / file).read_text(encoding="utf-8")])
            assert abs(scored.loss - results[figure]) < tolerance, (figure, scored.loss, results[figure])
    checkpoint = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    best = checkpoint["callbacks"]["BestModel"]
    assert best == {"loss": results["val/loss"], "step": results["best_step"]}
    return results
