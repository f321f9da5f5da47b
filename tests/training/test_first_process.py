"""`is_first_process` decides which process is rank 0 as Lightning does."""

import pytest
import yaml

from lmtrain.config.compose import compose_config
from lmtrain.config.saved import saved
from lmtrain.runs.run_folder import RunFolder
from lmtrain.training.lanes import with_lanes
from lmtrain.training.ranks import is_first_process

VARIABLES = ("RANK", "LOCAL_RANK", "NODE_RANK", "TORCHELASTIC_RUN_ID", "LSB_JOBID", "LSB_DJOB_RANKFILE")
VARIABLES += ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_NAME", "SLURM_JOB_ID")
SHELL = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}  # what a process started by hand inherits


@pytest.fixture
def environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return lambda values: [monkeypatch.setenv(name, value) for name, value in values.items()]


@pytest.mark.parametrize(
    ("values", "is_first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "a"}, True),
        ({"RANK": "8", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "a"}, False),
        ({**SHELL, "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "LOCAL_RANK": "1"}, True),  # srun's own number counts
        ({**SHELL, "SLURM_NTASKS": "8", "SLURM_PROCID": "3"}, False),
        ({**SHELL, "SLURM_PROCID": "3", "RANK": "0", "TORCHELASTIC_RUN_ID": "a"}, True),  # torchrun within SLURM
        # Lightning starts the others itself, which inherit what the shell or the batch script has
        ({**SHELL, "SLURM_JOB_NAME": "interactive", "LOCAL_RANK": "1"}, False),
        ({**SHELL, "SLURM_JOB_NAME": "bash", "LOCAL_RANK": "1"}, False),
        ({**SHELL, "SLURM_JOB_NAME": "bash"}, True),
        ({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),  # sbatch without --ntasks
    ],
)
def test_the_first_process_is_known_before_the_ranks_have_met(values, is_first, environment):
    environment(values)
    assert is_first_process() == is_first


def test_srun_that_is_there_but_not_used_is_no_matter_here(environment, monkeypatch, tmp_path):
    environment({})
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert is_first_process()


def test_lanes_grow_with_the_devices_and_stay_when_a_run_goes_on(tmp_path):
    config = compose_config("data=folder", "data.lanes_per_device=100")
    folder = RunFolder(tmp_path / "run")
    begun = with_lanes(config, 8, folder)
    assert begun.data.batch_size == 800
    folder.path.mkdir()
    folder.config.write_text(yaml.safe_dump(saved(begun)), encoding="utf-8")  # as `occupy` does
    assert with_lanes(config, 4, folder) == begun
    assert with_lanes(config.changed({"overwrite": True}), 4, folder).data.batch_size == 400
    assert with_lanes(compose_config("data=folder"), 8, folder).data.batch_size == 100
