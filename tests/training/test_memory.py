"""A model that does not fit is refused before anything is written; running out of memory is explained."""

from pathlib import Path

import pytest
from running import SMALL, compose

from lmtrain.config.schema import check_config
from lmtrain.model.language_model import RecurrentLM, parameter_count

EXHAUSTED = "+callbacks.x={_target_: failing.Exhausted}"


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "MINGRU"])
@pytest.mark.parametrize("nlayers", [1, 3])
@pytest.mark.parametrize("nout", [None, 5])
def test_weights_are_counted(kind, nlayers, nout):
    sizes = {"hidden_size": 7, "nlayers": nlayers, "embedding_size": 4, "nout": nout, "recurrent_type": kind}
    config = check_config(compose(*(f"model.{name}={'null' if x is None else x}" for name, x in sizes.items())))
    model = RecurrentLM(config.model.sizes(11))
    assert parameter_count(model.sizes) == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    "override",
    [
        "hidden_size=99999999",
        "nlayers=1000000000000",
        "embedding_size=4000000000000",
        "hidden_size=9000000000000000000",
    ],
)
def test_a_model_that_cannot_fit_is_refused(override, train_py):
    status, message = train_py(*SMALL, f"model.{override}")
    assert status == 2
    assert f"model.{override}" in message.splitlines()[-1]
    assert "GiB, and this machine has" in message
    assert not Path("runs").exists()


def test_memory_that_runs_out_in_a_step(train_py):
    status, message = train_py(*SMALL, EXHAUSTED, "name=run")
    assert status == 2
    assert "too little memory for a step: CUDA out of memory. Tried to allocate 2.00 GiB." in message
    assert "Traceback" not in message
    assert "Traceback" in Path("runs/run/train.log").read_text()
