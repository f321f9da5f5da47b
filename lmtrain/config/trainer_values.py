"""Checks of the values of the Trainer's arguments: each returns what is required instead, or None for a good value."""

import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

# The arguments that Lightning's DDPStrategy may be given. Left out are those that change gradients or weights of single
# ranks, which checkpoints do not hold, and those that are objects, which lmtrain or Lightning make.
DDP_OPTIONS = (
    "find_unused_parameters",
    "gradient_as_bucket_view",
    "bucket_cap_mb",
    "process_group_backend",
    "timeout",
)
STRATEGIES = ("auto", "single_device", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
_OTHER_STRATEGIES = {
    r"ddp_(spawn|fork|notebook).*": "its processes would be copies of this one, which holds what cannot be copied",
    r"(fsdp|deepspeed|model_parallel).*": "it gives each device a part of the model, where best-lm.pt and the "
    "checkpoints hold a whole one",
    r".*(xla|tpu).*": "it is for TPUs, and lmtrain trains on CPUs, CUDA GPUs and Apple's MPS",
}
_WAY_OUT = "Use trainer.strategy=ddp, with processes of their own for several devices, or auto"

PRECISIONS = ("32-true", "64-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true")
SHORT_PRECISIONS = {"32": "32-true", "64": "64-true", "16": "16-mixed", "bf16": "bf16-mixed"}


def one_of(*values: Any) -> Callable[[Any], str | None]:
    """A check for one of a few values. Texts may be written in any case; true is not taken for 1."""
    names = [shown(value) for value in values]

    def check(value: Any) -> str | None:
        text = value.lower() if isinstance(value, str) else shown(value)
        return None if text in names else f"it must be {', '.join(names[:-1])} or {names[-1]}"

    return check


def at_least_one(value: Any) -> str | None:
    is_number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return None if value is None or is_number else "it must be a whole number of at least 1, or null"


def fast_dev_run(value: Any) -> str | None:
    is_number = isinstance(value, int) and value >= 0
    return None if is_number else "it must be true, false or a number of windows"


def max_time(value: Any) -> str | None:
    try:
        return None if value is None or seconds(value) > 0 else "it must be longer than 0 seconds"
    except (ValueError, TypeError, OverflowError):
        return "it must be DD:HH:MM:SS, such as 00:23:30:00, or like {hours: 23, minutes: 30}"


def seconds(duration: str | Mapping[str, float]) -> float:
    """The seconds of a `trainer.max_time`.

    Raises:
        ValueError, TypeError, OverflowError: the value is no duration.
    """
    if isinstance(duration, str):
        if not re.fullmatch(r"\d+:\d\d:\d\d:\d\d", duration.strip()):
            raise ValueError(duration)
        duration = dict(zip(("days", "hours", "minutes", "seconds"), map(int, duration.split(":")), strict=True))
    return timedelta(**duration).total_seconds()


def profiler(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        is_name = one_of(None, "simple", "advanced", "pytorch")(value) is None
        return None if is_name else "it must be simple, advanced, pytorch or {_target_: CLASS, ...}"
    from lightning.pytorch.profilers import Profiler  # slow to import

    try:
        kind = pkgutil.resolve_name(value["_target_"])
        is_profiler = issubclass(kind, Profiler)
        inspect.signature(kind).bind_partial(**{name: value for name, value in value.items() if name[0] != "_"})
    except Exception as error:  # importing may raise anything
        return f"it must be a profiler that _target_ names, and its arguments ({error})"
    return None if is_profiler else f"{value['_target_']} is no profiler of lightning.pytorch.profilers"


def strategy(value: Any) -> str | None:
    if isinstance(value, Mapping):
        return _strategy_object(value)
    name = str(value).lower()
    if name in STRATEGIES:
        return None
    reasons = [reason for pattern, reason in _OTHER_STRATEGIES.items() if re.fullmatch(pattern, name)]
    reasons.append(f"it must be one of {', '.join(STRATEGIES)}")
    return f"{reasons[0]}. {_WAY_OUT}"


def _strategy_object(settings: Mapping[str, Any]) -> str | None:
    from lightning.pytorch.strategies import DDPStrategy  # slow to import

    try:
        kind = pkgutil.resolve_name(settings["_target_"])
    except Exception as error:  # importing may raise anything
        return f"it must be a name or an object that _target_ names ({error})"
    if kind is not DDPStrategy:
        return f"of objects only lightning.pytorch.strategies.DDPStrategy works here. {_WAY_OUT}"
    unknown = [name for name in settings if name not in ("_target_", *DDP_OPTIONS)]
    return f"DDPStrategy takes {', '.join(DDP_OPTIONS)} here, not {', '.join(unknown)}" if unknown else None


def precision(value: Any) -> str | None:
    if str(value).startswith("transformer-engine"):
        return "it replaces linear layers, of which an LSTM has none. Use bf16-mixed"
    is_known = not isinstance(value, bool) and str(value) in ("auto", *PRECISIONS, *SHORT_PRECISIONS)
    return None if is_known else f"it must be one of auto, {', '.join(PRECISIONS)}"


def accelerator(value: Any) -> str | None:
    if value in ("auto", "cpu", "gpu", "cuda", "mps"):
        return None
    return "it must be auto, cpu, gpu, cuda or mps: lmtrain trains on CPUs, CUDA GPUs and Apple's MPS"


def devices(value: Any) -> str | None:
    text = str(value).strip("[]").replace(" ", "")
    is_known = re.fullmatch(r"auto|-1|\d+(,\d+)*,?", text) and value not in (0, "0")
    return None if is_known else "it must be their number, -1 or auto for all, or a list of their indices such as [0,2]"


def shown(value: Any) -> str:
    """A value as it is written on the command line."""
    return {"True": "true", "False": "false", "None": "null"}.get(str(value), str(value))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
