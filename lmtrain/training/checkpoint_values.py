"""Makes sure that a checkpoint holds only values that `torch.load(weights_only=True)` gives back unchanged."""

import io
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

_MARK = "lmtrain.numpy"
_READABLE = (torch.Tensor, torch.nn.Parameter, str, int, float, bool, type(None))
_MAY_HOLD = "A checkpoint holds numbers, strings, tensors, NumPy arrays, and lists, tuples, sets and dicts of them"


def encoded(value: Any) -> Any:
    """The value with NumPy's numbers and arrays as dicts of bytes, which can be read again; see `decoded`."""
    if isinstance(value, np.generic) or type(value) is np.ndarray:
        if value.dtype.hasobject or value.dtype.names is not None:
            return value
        is_array = isinstance(value, np.ndarray)
        return {_MARK: value.dtype.str, "shape": value.shape, "bytes": value.tobytes() or None, "is_array": is_array}
    if type(value) in (dict, OrderedDict):
        pairs = [(key.item() if isinstance(key, np.generic) else key, encoded(part)) for key, part in value.items()]
        is_same = all(new[0] is old[0] and new[1] is old[1] for new, old in zip(pairs, value.items(), strict=True))
        return value if is_same else type(value)(pairs)
    if type(value) in (list, tuple):
        parts = [encoded(part) for part in value]
        return value if all(map(lambda new, old: new is old, parts, value)) else type(value)(parts)
    return value


def decoded(value: Any) -> Any:
    """The inverse of `encoded`."""
    if type(value) in (dict, OrderedDict):
        if _MARK in value:
            array = np.ndarray(value["shape"], value[_MARK], value["bytes"] or b"").copy()
            return array if value["is_array"] else array[()]
        return type(value)((key, decoded(part)) for key, part in value.items())
    if type(value) in (list, tuple):
        return type(value)(decoded(part) for part in value)
    return value


def copied(value: Any) -> Any:
    """The value with copies of all tensors."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if type(value) in (dict, OrderedDict):
        return type(value)((key, copied(part)) for key, part in value.items())
    if type(value) in (list, tuple):
        return type(value)(copied(part) for part in value)
    return value


def unreadable(value: Any, place: str = "") -> Iterator[str]:
    """Clauses about values that could not be read again, such as "['path'] is a pathlib.PosixPath"."""
    if type(value) in _READABLE:
        return
    if type(value) in (dict, OrderedDict):
        for key, part in value.items():
            yield from unreadable(key, f"{place} has a key that")
            yield from unreadable(part, f"{place}[{key!r}]")
    elif type(value) in (list, tuple, set):
        for index, part in enumerate(value):
            yield from unreadable(part, f"{place}[{index}]")
    elif not _can_be_read_again(value):
        yield f"{place or 'it'} is a {type(value).__module__}.{type(value).__qualname__}"


def _can_be_read_again(value: Any) -> bool:
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # pickling runs code of the value's own
        return False
    return True


def unreadable_parts(content: dict[str, Any], writers: list[str]) -> list[str]:
    """A sentence for each value in a checkpoint that could not be read again.

    Args:
        content: of the checkpoint.
        writers: the names of the callbacks that write into the checkpoint in `on_save_checkpoint`.
    """
    sentences = []
    for name, part in content.items():
        if name == "callbacks":
            states = {f"The state of the callback {key}": state for key, state in part.items()}
        elif name == "optimizer_states":
            states = {"The state of the optimizer": part[0]}
        else:
            by = f" by {' or '.join(writers)}" if writers else ""
            states = {f"What is put into the checkpoint as {name!r}{by}": part}
        for title, state in states.items():
            sentences += [
                f"{title} cannot be read again: {problem}. {_MAY_HOLD}: convert it to one of these before it is saved."
                for problem in unreadable(state)
            ]
    return sentences
