"""What trainer.precision=auto becomes, by the table of docs/kernels.md."""

import pytest
import torch
from running import compose

from lmtrain.config.schema import check_config
from lmtrain.kernels import lstm as lstm_module
from lmtrain.training import precision as precision_module
from lmtrain.training.precision import choose_precision


@pytest.fixture
def processor(monkeypatch):
    """Sets what is known of the processor, on a machine without a GPU."""

    def put(gains: bool, amd: bool) -> None:
        monkeypatch.setattr(precision_module, "gains_by_bfloat16", lambda _: gains)
        monkeypatch.setattr(lstm_module, "is_amd", lambda: amd)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return put


VALUES = compose("data=demo")


def auto(hidden_size: int, length: int, lanes: int, **trainer):
    return choose_precision(check_config(values_with(hidden_size, length, lanes, **trainer)))


def values_with(hidden_size: int, length: int, lanes: int, **trainer) -> dict:
    data = {**VALUES["data"], "sequence_length": length, "batch_size": lanes}
    model = {**VALUES["model"], "hidden_size": hidden_size}
    return {**VALUES, "model": model, "data": data, "trainer": {**VALUES["trainer"], **trainer}}


# measured: how many times faster a step is in bfloat16 than in float32
MEASURED = {
    "AMD": {
        **{(64, 10, 10): 0.95, (64, 50, 10): 1.18, (64, 250, 32): 1.47, (128, 10, 10): 0.9, (128, 10, 32): 1.23},
        **{(128, 100, 2): 0.91, (128, 100, 6): 1.21, (256, 10, 4): 0.9, (256, 50, 10): 1.44, (256, 100, 2): 0.87},
        **{(512, 10, 4): 0.97, (512, 10, 10): 1.2, (512, 100, 2): 0.89, (512, 100, 6): 1.35, (512, 50, 100): 1.6},
        **{(1024, 50, 1): 1.02, (1024, 50, 4): 1.42, (1024, 250, 100): 2.07, (2048, 10, 4): 1.17, (2048, 50, 32): 1.49},
    },
    "Intel with AMX": {(128, 10, 10): 0.93, (512, 100, 50): 2.12, (1024, 250, 100): 2.79},
}


@pytest.mark.parametrize("kind", MEASURED)
def test_bfloat16_is_taken_where_it_was_measured_to_be_faster(kind, processor):
    processor(gains=True, amd=kind == "AMD")
    for sizes, gain in MEASURED[kind].items():
        assert auto(*sizes).name == ("bf16-mixed" if gain > 1 else "32-true"), sizes


def test_the_reason_names_what_decided(processor):
    processor(gains=True, amd=True)
    assert auto(128, 10, 10).reason == (
        "windows of 10 × 10 items and 128 hidden units are too few for this kind of processor to be faster in bfloat16"
    )
    assert "faster in bfloat16 with windows of 250 × 100 items" in auto(1024, 250, 100).reason
    processor(gains=False, amd=False)
    assert auto(1024, 250, 100) == ("32-true", "this kind of processor is not faster in bfloat16")


def test_a_precision_that_is_asked_for_is_taken_whatever_the_size(processor):
    processor(gains=True, amd=True)
    assert auto(16, 2, 1, precision="bf16-mixed") == ("bf16-mixed", None)
    assert auto(1024, 250, 100, precision="32-true") == ("32-true", None)


def test_windows_that_grow_count_as_long_as_they_become(processor):
    processor(gains=True, amd=True)
    values = values_with(128, 10, 10)
    values["data"]["grow_to_sequence_length"] = 100
    assert choose_precision(check_config(values)).name == "bf16-mixed"


@pytest.mark.parametrize("devices", [1, 2])
def test_the_number_of_devices_does_not_change_it(devices, processor):
    processor(gains=True, amd=True)
    assert auto(256, 100, 6, accelerator="cpu", strategy="ddp", devices=devices).name == "bf16-mixed"


def test_a_gpu_decides_by_its_kind_alone(processor, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    processor(gains=True, amd=False)
    assert auto(16, 2, 1).name == "bf16-mixed"
    assert auto(16, 2, 1, accelerator="cpu").name == "32-true"
    processor(gains=False, amd=False)
    assert auto(1024, 250, 100).name == "32-true"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    processor(gains=True, amd=False)
    assert auto(1024, 250, 100).name == "32-true"
