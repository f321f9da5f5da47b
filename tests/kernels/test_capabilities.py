"""What is known of processors, from what Linux says about them."""

import pytest
import torch

from lmtrain.kernels import capabilities as processor


def flags(*names: str) -> str:
    return f"fpu sse avx512f {' '.join(names)} sha_ni"


@pytest.mark.parametrize(
    ("said", "amd", "gains"),
    [
        (f"vendor_id\t: AuthenticAMD\nflags\t\t: {flags('avx512_bf16')}\n", True, True),
        (f"vendor_id\t: AuthenticAMD\nflags\t\t: {flags()}\n", True, False),
        (f"vendor_id\t: GenuineIntel\nflags\t\t: {flags('avx512_bf16')}\n", False, False),
        (f"vendor_id\t: GenuineIntel\nflags\t\t: {flags('avx512_bf16', 'amx_bf16')}\n", False, True),
        ("BogoMIPS\t: 2100.00\nFeatures\t: fp asimd bf16\n", False, False),
        (None, False, False),
    ],
    ids=["AMD with BF16", "AMD", "Intel with BF16", "Intel with AMX", "ARM", "no Linux"],
)
def test_what_decides(said, amd, gains, tmp_path, monkeypatch):
    if said is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{said}\nprocessor\t: 1\nvendor_id\t: other\n\n")
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(processor, "_about_processor", processor._about_processor.__wrapped__)
    assert (processor.is_amd(), processor.gains_by_bfloat16()) == (amd, gains)


def test_it_agrees_with_torch_on_this_machine():
    known = torch.cpu.get_capabilities()
    assert processor.is_amd() == ("AMD" in known.get("cpu_name", ""))
    expected = known.get("amx_bf16", False) or (known.get("avx512_bf16", False) and processor.is_amd())
    assert processor.gains_by_bfloat16() == expected
