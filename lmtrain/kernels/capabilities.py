"""Decides by the kind of processor or GPU how matrix products are computed.

Nothing is measured at run time, since noise could change the choice and with it the results of a run. docs/kernels.md
has the measurements behind these rules.
"""

from functools import cache
from pathlib import Path

import torch

_CPUINFO = Path("/proc/cpuinfo")


def is_amd() -> bool:
    return _about_processor().get("vendor_id") == "AuthenticAMD"


def gains_by_bfloat16(device_type: str = "cpu") -> bool:
    """Whether products of large matrices are faster in bfloat16 than in float32.

    They are on GPUs that compute it natively, with AMX, and on AMD's processors with AVX512-BF16; on Intel's with
    AVX512-BF16 alone they are slower.
    """
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type != "cpu":
        return False
    flags = _about_processor().get("flags", "").split()
    return "amx_bf16" in flags or ("avx512_bf16" in flags and is_amd())


@cache
def _about_processor() -> dict[str, str]:
    """Linux's description of the first processor, such as its `vendor_id` and `flags`; empty on other systems.

    (`torch.cpu.get_capabilities` is missing in older supported releases of torch.)
    """
    try:
        first, _, _ = _CPUINFO.read_text(encoding="ascii", errors="replace").partition("\n\n")
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
