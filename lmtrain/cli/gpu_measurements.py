"""Whether this machine's GPU computes what training needs: types, gradients, repeatability, waiting, speed."""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lmtrain.errors import UserError
from lmtrain.kernels.capabilities import gains_by_bfloat16
from lmtrain.kernels.cuda import takes_bfloat16
from lmtrain.model.cells import CELLS
from lmtrain.model.language_model import Hidden, RecurrentLM, Sizes, detach

_VOCABULARY = 100
_RATE = 1.0


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Args:
        name: what was checked.
        is_right: None for what is only told.
        text: the figures.
    """

    name: str
    is_right: bool | None
    text: str


@dataclass(frozen=True)
class Size:
    """What a step works on: H, T, B, and how many steps are timed."""

    hidden_size: int = 1024
    length: int = 250
    lanes: int = 100
    steps: int = 20


def check_gpu(size: Size) -> Iterator[Finding]:
    """Checks the first GPU, one thing after the other.

    Raises:
        UserError: torch finds none.
    """
    if not torch.cuda.is_available():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        raise UserError(
            f"torch finds no NVIDIA GPU here (torch {torch.__version__}, built {built}). On a machine that has one, "
            "`nvidia-smi` must list it, and torch must be a build for CUDA: https://pytorch.org/get-started/locally"
        )
    torch.set_float32_matmul_precision("high")  # as in training
    yield Finding("machine", None, _machine())
    for kind in ("LSTM", "GRU"):
        yield _types(kind)
    for kind in CELLS:
        for layers in (1, 2):
            yield _gradients(kind, layers)
    for precision in _precisions():
        yield _repeats(size, precision)
        yield _waits(size, precision)
    yield from _speed(size)


def _machine() -> str:
    major, minor = torch.cuda.get_device_capability()
    gigabytes = torch.cuda.get_device_properties(0).total_memory / 2**30
    return (
        f"{torch.cuda.get_device_name()}, sm_{major}{minor}, {gigabytes:.0f} GiB; torch {torch.__version__}, CUDA "
        f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    )


def _precisions() -> list[str]:
    return [*(["bf16-mixed"] if gains_by_bfloat16("cuda") else []), "32-true"]


def _autocast(precision: str) -> torch.autocast:
    return torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16-mixed")


def _types(kind: str) -> Finding:
    """In which type recurrent layers are computed under bf16-mixed; torch's own way is told beside it."""
    model = RecurrentLM(Sizes(_VOCABULARY, 64, recurrent_type=kind)).cuda()
    own = getattr(nn, kind)(100, 64).cuda()
    ids = torch.zeros(4, 8, dtype=torch.int64, device="cuda")
    with torch.no_grad(), _autocast("bf16-mixed"):
        embedded = model.encoder(ids)
        ours, theirs = model.rnn(embedded, model.zero_hidden(8))[0].dtype, own(embedded)[0].dtype
    expected = torch.bfloat16 if takes_bfloat16(kind, embedded.device) else torch.float32
    text = f"computed in {_name(ours)} (torch's own under autocast to bfloat16: {_name(theirs)})"
    return Finding(f"{kind}, bf16-mixed", ours == expected, text)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _gradients(kind: str, layers: int) -> Finding:
    """Loss and gradients of the recurrent weights beside float64's on the CPU; the loss is small, as means are."""
    torch.manual_seed(1)
    model = RecurrentLM(Sizes(_VOCABULARY, 128, layers, recurrent_type=kind, dropout=0.0))
    ids = torch.randint(_VOCABULARY, (51, 16))
    exact = _gradient(model.double(), ids)
    worst = {}
    for precision in _precisions():
        with _autocast(precision):
            gradient = _gradient(model.float().cuda(), ids.cuda())
        worst[precision] = ((gradient - exact).norm() / exact.norm()).item()
    is_right = all(error < (0.05 if precision == "bf16-mixed" else 0.01) for precision, error in worst.items())
    text = ", ".join(f"{precision} {error:.1e}" for precision, error in worst.items())
    return Finding(f"gradients, {kind} of {layers}", is_right, f"relative error {text}")


def _gradient(model: RecurrentLM, ids: Tensor) -> Tensor:
    model.zero_grad()
    loss, _ = model.loss(ids[:-1], ids[1:])
    (loss * 2**-20).backward()
    return torch.cat([parameter.grad.flatten().double().cpu() * 2**20 for parameter in model.rnn.parameters()])


class _Training:
    """Steps as training makes them, on random items; dropout's state is set before each."""

    def __init__(self, size: Size, precision: str) -> None:
        torch.manual_seed(1)
        self.model = RecurrentLM(Sizes(_VOCABULARY, size.hidden_size, 2, dropout=0.1)).cuda()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=_RATE, fused=True)
        self.ids = torch.randint(_VOCABULARY, (size.length + 1, size.lanes)).cuda()
        self.precision = precision
        self.hidden: Hidden | None = None

    def step(self, number: int) -> None:
        torch.cuda.manual_seed(number)
        self.optimizer.zero_grad()
        with _autocast(self.precision):
            loss, hidden = self.model.loss(self.ids[:-1], self.ids[1:], self.hidden)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.25)
        self.optimizer.step()
        self.hidden = detach(hidden)


def _repeats(size: Size, precision: str) -> Finding:
    """The same steps twice."""
    ends = []
    for _ in range(2):
        training = _Training(size, precision)
        for number in range(5):
            training.step(number)
        ends.append([parameter.detach().cpu() for parameter in training.model.parameters()])
    differ = sum(not torch.equal(one, other) for one, other in zip(*ends, strict=True))
    text = "5 steps twice are the same bit for bit" if not differ else f"5 steps twice differ in {differ} weights"
    return Finding(f"repeatable, {precision}", not differ, text)


def _waits(size: Size, precision: str) -> Finding:
    """Whether the host waits for the device within a step; the first one, which prepares much, may."""
    training = _Training(size, precision)
    training.step(0)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            training.step(1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [str(one.message) for one in seen if "synchroniz" in str(one.message)]
    return Finding(f"no waiting, {precision}", not waits, f"{len(waits)} times in a step")


def _speed(size: Size) -> Iterator[Finding]:
    """Steps of one layer, in turn; nothing here is right or wrong."""
    items = size.length * size.lanes
    reference = None
    for name, step in _contestants(size).items():
        rate = items / _seconds(step, size.steps)
        reference = reference or rate
        yield Finding(f"speed, {name}", None, f"{rate:,.0f} characters/s, {rate / reference:.2f} ×")


def _contestants(size: Size) -> dict[str, Callable[[], None]]:
    contestants = {"nn.LSTM in float32, as in Flair": _step_of(_Bare(size.hidden_size), size, "32-true", tf32=False)}
    contestants["nn.LSTM in float32 with TF32"] = _step_of(_Bare(size.hidden_size), size, "32-true")
    for precision in _precisions():
        model = RecurrentLM(Sizes(_VOCABULARY, size.hidden_size))
        contestants[f"lmtrain, {precision}"] = _step_of(model, size, precision)
    return contestants


class _Bare(nn.Module):
    """The same network of torch's modules alone."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.encoder, self.rnn = nn.Embedding(_VOCABULARY, 100), nn.LSTM(100, hidden_size)
        self.decoder, self.drop = nn.Linear(hidden_size, _VOCABULARY), nn.Dropout(0.1)

    def loss(self, ids: Tensor, targets: Tensor, hidden: tuple | None = None) -> tuple[Tensor, tuple]:
        output, hidden = self.rnn(self.drop(self.encoder(ids)), hidden)
        return F.cross_entropy(self.decoder(self.drop(output)).flatten(0, 1), targets.flatten()), hidden


def _step_of(model: "RecurrentLM | _Bare", size: Size, precision: str, tf32: bool = True) -> Callable[[], None]:
    state: dict = {"hidden": None}

    def step() -> None:
        if "optimizer" not in state:
            state["optimizer"] = torch.optim.SGD(model.cuda().parameters(), lr=_RATE, fused=True)
            state["ids"] = torch.randint(_VOCABULARY, (size.length + 1, size.lanes), device="cuda")
        torch.backends.cudnn.allow_tf32 = tf32
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        state["optimizer"].zero_grad()
        with _autocast(precision):
            loss, hidden = model.loss(state["ids"][:-1], state["ids"][1:], state["hidden"])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        state["optimizer"].step()
        state["hidden"] = detach(hidden)

    return step


def _seconds(step: Callable[[], None], steps: int) -> float:
    """A step at best of three runs of them; the first ones, which prepare much, are not counted."""
    best = math.inf
    for _ in range(2):
        step()
    for _ in range(3):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - began) / steps)
    return best
