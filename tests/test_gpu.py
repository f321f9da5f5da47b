"""What can only be seen on a GPU; skipped, saying so, where there is none."""

import pytest
import torch
from corpora import write_corpus
from running import compose, read_metrics, train

from lmtrain.cli.gpu_measurements import Size, check_gpu

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]


@pytest.mark.parametrize(
    ("precision", "more"),
    [
        ("32-true", ("optimizer.lr=2",)),
        ("bf16-mixed", ("optimizer.lr=2",)),
        ("bf16-mixed", ("optimizer.lr=2", "compile=true")),
        ("32-true", ("optimizer=adamw",)),
        ("32-true", ("optimizer=muon", "optimizer.lr=0.02")),
    ],
)
def test_a_gpu_trains_what_the_cpu_does(precision, more, tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    losses = {}
    for accelerator in ("cpu", "gpu"):
        train(
            compose(
                *("data=folder", f"data.path={corpus}", f"data.cache_dir={tmp_path}/cache", f"runs_dir={tmp_path}"),
                *(f"name={accelerator}", f"trainer.accelerator={accelerator}", f"trainer.precision={precision}"),
                *("model=tiny", "model.dropout=0", "data.batch_size=8", "data.sequence_length=20"),
                *("trainer.max_epochs=1", *more),
            )
        )
        losses[accelerator] = read_metrics(tmp_path / accelerator, "val/loss")
    assert losses["gpu"] == pytest.approx(losses["cpu"], rel=1e-3 if precision == "32-true" else 0.05)


def test_types_gradients_repeatability_and_waiting_are_right():
    findings = list(check_gpu(Size(hidden_size=256, length=50, lanes=16, steps=2)))
    assert len(findings) > 10
    assert [finding for finding in findings if finding.is_right is False] == []
