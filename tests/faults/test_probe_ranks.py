"""callbacks=probe in a run of several processes."""

import os
import subprocess
import sys

import pytest
from corpora import write_corpus
from processes import ROOT
from running import read_metrics
from tagged import write_models_and_files


@pytest.mark.slow
def test_only_the_first_of_several_processes_probes(tmp_path):
    write_models_and_files(tmp_path)
    corpus = write_corpus(tmp_path / "corpus")
    options = ["data=folder", f"data.path={corpus}", f"data.cache_dir={tmp_path}/cache", "data.batch_size=4"]
    options += ["trainer=ddp_cpu", "trainer.devices=2", "model=tiny", "model.hidden_size=8", "trainer.max_steps=8"]
    options += [
        "callbacks=probe",
        f"callbacks.probe.train={tmp_path}/train.tsv",
        f"callbacks.probe.test={tmp_path}/test.tsv",
    ]
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *options, f"runs_dir={tmp_path}", "name=run", "test=false"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Probe: accuracy") == len(read_metrics(tmp_path / "run", "val/loss")) > 0
