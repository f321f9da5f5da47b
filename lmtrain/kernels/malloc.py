"""Makes glibc keep the memory of one training step for the next, on CPUs."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h


def keep_freed_memory() -> None:
    """Tells glibc's allocator not to give freed memory back to the system; elsewhere it has no effect.

    Each step allocates and frees the same large tensors. By default glibc maps and unmaps each of them, and the
    kernel clears every page again, which takes up to a fifth of a step.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(_TOP_PAD, 64 << 20)
