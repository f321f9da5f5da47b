"""Fixtures that several tests share, and how hypothesis runs."""

import os
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: small tensors, and tests that share two cores with others

import pytest
from corpora import write_corpus
from hypothesis import HealthCheck, settings

# a busy machine must not fail a test: nothing is timed
settings.register_profile("lmtrain", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lmtrain")


@pytest.fixture
def corpus_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a corpus: `corpus_folder(train={"1.txt": "..."}, valid="...", test="...")`."""

    def make(**parts) -> Path:
        return write_corpus(tmp_path / "corpus", **parts)

    return make
