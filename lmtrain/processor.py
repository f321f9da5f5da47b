"""What is known of processors and GPUs that decides how matrix products are computed on them.

Known of their kind, not measured when it is needed: a choice that noise can tip would change results from run to run.
docs/architecture.md has the figures behind it.
"""

import torch


def is_amd() -> bool:
    return "AMD" in torch.cpu.get_capabilities().get("cpu_name", "")


def gains_by_bfloat16(device_type: str = "cpu") -> bool:
    """Whether products of large matrices are faster in bfloat16 than in float32.

    They are on GPUs that compute it natively, with AMX, and on AMD's processors with AVX512-BF16; on Intel's with
    AVX512-BF16 alone they are slower.
    """
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or (capabilities.get("avx512_bf16") and is_amd()))
