"""A CUDA device that is not there: its memory is the host's, and the CPU's operators compute on it.

What a program does on a GPU can be seen on it: tensors of two devices that meet (refused as CUDA refuses them), values
that the host waits for (counted), dtypes, code that runs only where `device.type == "cuda"`, collectives of several
devices (over gloo), cuDNN's recurrent layers as torch calls them. Not on it: speed, asynchrony, what CUDA's own kernels
compute, NCCL.

    environment(devices=2)      starts any Python program on it, with its children
    install()                   puts it into this process, before torch is imported

It needs g++ (`is_possible`), and is compiled once a machine, for each version of torch and of its own source.
"""

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

HERE = Path(__file__).resolve().parent
SOURCES = ("device.cpp", "cudnn.cpp")
REASON = "the emulated GPU needs g++"


def is_possible() -> bool:
    return sys.platform == "linux" and shutil.which("g++") is not None


def environment(devices: int = 1, bfloat16_rnn: bool = True) -> dict[str, str]:
    """The environment in which `python anything.py` finds this many GPUs.

    Args:
        devices: how many.
        bfloat16_rnn: whether cuDNN takes bfloat16 in recurrent layers, as from 9.13 on.
    """
    built()
    paths = [str(HERE / "site"), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "EMULATED_CUDA_DEVICES": str(devices),
        "EMULATED_CUDA_BFLOAT16_RNN": str(int(bfloat16_rnn)),
    }


def torch_folder() -> Path:
    return Path(importlib.util.find_spec("torch").origin).parent


def built() -> Path:
    """The library, compiled if it is not there yet. Several processes may ask at once."""
    digest = hashlib.sha256(importlib.metadata.version("torch").encode())
    for name in ("device.h", "hooks.h", *SOURCES):
        digest.update((HERE / name).read_bytes())
    folder = Path(tempfile.gettempdir()) / f"lmtrain-emulated-cuda-{os.getuid()}-{digest.hexdigest()[:16]}"
    library = folder / "libemulated_cuda.so"
    if library.exists():
        return library
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not library.exists():
            _compile(folder)
            os.replace(folder / "unfinished.so", library)
    return library


def _compile(folder: Path) -> None:
    root = torch_folder()
    options = ["-fPIC", "-O0", "-w", "-std=c++20", f"-I{root}/include", f"-I{root}/include/torch/csrc/api/include"]
    objects = [str(folder / f"{name}.o") for name in SOURCES]
    compilers = [
        subprocess.Popen(["g++", "-c", *options, str(HERE / name), "-o", made])
        for name, made in zip(SOURCES, objects, strict=True)
    ]
    if any([compiler.wait() for compiler in compilers]):
        raise RuntimeError("the emulated GPU does not compile with this torch, see above")
    linked = ["g++", "-shared", *objects, f"-L{root}/lib", "-lc10", "-ltorch_cpu", "-o", str(folder / "unfinished.so")]
    subprocess.run(linked, check=True)


class Seen(NamedTuple):
    """What the device has seen since it was asked last.

    Args:
        reads: values that the host waited for.
        writes: copies to the device for which the host waited: not from pinned memory, or blocking.
        halves: operators that met a float16 tensor.
        names: for each of them how often it was, and where.
    """

    reads: int
    writes: int
    halves: int
    names: list[str]


class EmulatedDevice:
    """The device in this process."""

    def __init__(self, library: ctypes.CDLL) -> None:
        for name in ("reads", "writes", "halves", "current_device"):
            getattr(library, f"emulated_{name}").restype = ctypes.c_int64
        library.emulated_names.restype = ctypes.c_char_p
        library.emulated_set_device.argtypes = [ctypes.c_int64]
        self._library = library

    def seen(self) -> Seen:
        """What was seen since the last call."""
        it = self._library
        names = it.emulated_names().decode().splitlines()
        seen = Seen(it.emulated_reads(), it.emulated_writes(), it.emulated_halves(), names)
        it.emulated_reset()
        return seen

    def current(self) -> int:
        return self._library.emulated_current_device()

    def set_current(self, index: int) -> None:
        self._library.emulated_set_device(index)


_device: EmulatedDevice | None = None


def device() -> EmulatedDevice | None:
    """The device of this process; None if it has none."""
    return _device


def install() -> EmulatedDevice:
    """Loads the library, imports torch and tells it that there is a GPU."""
    global _device
    if "torch" in sys.modules:
        raise RuntimeError("install() must come before torch is imported")
    library, root = built(), torch_folder()
    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(root / "lib" / name), mode=ctypes.RTLD_GLOBAL)
    with _without_stderr():  # torch warns of the collectives that are replaced
        _device = EmulatedDevice(ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL))

    from emulated_cuda.torch_cuda import replace_python_side

    replace_python_side(_device, int(os.environ.get("EMULATED_CUDA_DEVICES", "1")))
    return _device


class _without_stderr:
    def __enter__(self) -> None:
        self._before, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 2)
        os.close(nothing)

    def __exit__(self, *_) -> None:
        os.dup2(self._before, 2)
        os.close(self._before)
