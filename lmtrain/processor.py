"""What is known of this machine's processor that decides how matrix products are computed on it.

Known of its kind, not measured when it is needed: a choice that noise can tip would change results from run to run.
docs/architecture.md has the figures behind it.
"""

import torch


def is_amd() -> bool:
    return "AMD" in torch.cpu.get_capabilities().get("cpu_name", "")


def gains_by_bfloat16() -> bool:
    """Whether products of large matrices are faster in bfloat16 than in float32.

    They are with AMX and on AMD's processors with AVX512-BF16; on Intel's with AVX512-BF16 alone they are slower.
    """
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or (capabilities.get("avx512_bf16") and is_amd()))
