"""What torch.cuda has in Python, for a torch without CUDA that has the emulated device."""

import contextlib
import os
import types

import torch
import torch.backends.cudnn.rnn

MEMORY = 8 << 30


class Stream:
    """All work is done when its call returns."""

    def __init__(self, *_, **__) -> None:
        pass

    def wait_stream(self, other) -> None:
        pass

    wait_event = wait_stream

    def synchronize(self) -> None:
        pass

    def query(self) -> bool:
        return True


def replace_python_side(device, count: int) -> None:
    cuda = torch.cuda
    properties = types.SimpleNamespace(
        name="Emulated GPU", major=9, minor=0, total_memory=MEMORY, multi_processor_count=1, is_integrated=0
    )
    for name, value in {
        "is_initialized": True,
        "is_available": True,
        "device_count": count,
        "is_bf16_supported": True,
        "is_current_stream_capturing": False,
        "get_device_name": "Emulated GPU",
        "get_device_capability": (9, 0),
        "get_device_properties": properties,
        "_lazy_init": None,
        "init": None,
        "synchronize": None,
        "set_sync_debug_mode": None,  # what it would warn of is counted by the device
        "empty_cache": None,
        "memory_allocated": 0,
        "max_memory_allocated": 0,
        "reset_peak_memory_stats": None,
        "mem_get_info": (MEMORY, MEMORY),
    }.items():
        setattr(cuda, name, _constant(value))
    cuda.current_device = device.current
    cuda.set_device = lambda to: device.set_current(_index(to, device))
    cuda._exchange_device = lambda to: _exchange(device, to)
    cuda._maybe_exchange_device = lambda to: _exchange(device, to)  # torch.compile wants two functions
    cuda.device = type("device", (_On,), {"owner": device})
    cuda.Stream = cuda.Event = Stream
    cuda.current_stream = cuda.default_stream = _constant(Stream())
    cuda.stream = lambda _: contextlib.nullcontext()
    cuda.default_generators = tuple(_default_generator(index) for index in range(count))
    cuda.manual_seed = lambda seed: cuda.default_generators[device.current()].manual_seed(int(seed))
    cuda.manual_seed_all = lambda seed: [one.manual_seed(int(seed)) for one in cuda.default_generators]
    cuda.get_rng_state = lambda *_: cuda.default_generators[device.current()].get_state()
    cuda.set_rng_state = lambda state, *_: cuda.default_generators[device.current()].set_state(state)
    cuda.get_rng_state_all = lambda: [one.get_state() for one in cuda.default_generators]
    cuda.amp.common.amp_definitely_not_available = lambda: False
    cudnn = torch.backends.cudnn
    cudnn.is_available = _constant(True)
    cudnn.version = _constant(91300 if os.environ.get("EMULATED_CUDA_BFLOAT16_RNN", "1") == "1" else 90100)
    types_of_cudnn = {torch.half, torch.float, torch.double}
    cudnn.is_acceptable = lambda tensor: tensor.device.type == "cuda" and tensor.dtype in types_of_cudnn
    modes = types.SimpleNamespace(rnn_relu=0, rnn_tanh=1, lstm=2, gru=3)
    getattr(torch.backends.cudnn.rnn, "m", torch.backends.cudnn.rnn)._cudnn = types.SimpleNamespace(RNNMode=modes)
    begin = torch.distributed.init_process_group
    torch.distributed.init_process_group = lambda backend=None, *more, **named: begin(
        "gloo" if backend == "nccl" else backend, *more, **named
    )


def _constant(value):
    return lambda *_, **__: value


def _index(to, device) -> int:
    to = torch.device(to) if isinstance(to, str) else to
    index = to.index if isinstance(to, torch.device) else to
    return device.current() if index is None else int(index)


def _exchange(device, to: int) -> int:
    before = device.current()
    if to >= 0:
        device.set_current(to)
    return before


class _On:
    """The context manager torch.cuda.device."""

    owner = None

    def __init__(self, to) -> None:
        self.index = _index(to, self.owner)

    def __enter__(self) -> None:
        self.before = _exchange(self.owner, self.index)

    def __exit__(self, *_) -> None:
        self.owner.set_current(self.before)


def _default_generator(index: int) -> torch.Generator:
    with torch.cuda.device(index):
        return torch.ops.emulated_cuda.default_generator()
