"""Reads pickles of plain data, tensors and Flair's dictionaries without running code in them.

The unpickler knows the instructions that data needs and a short list of globals. It imports nothing: a function of this
file stands for every allowed global, and every other one is refused by its name. The result is never larger than a
small multiple of the file. PyTorch's own reader of weights only (`torch.load(weights_only=True)`) stops at pickle
protocol 4, which Flair writes: it lacks FRAME, MEMOIZE, STACK_GLOBAL and SHORT_BINUNICODE.
"""

import mmap
import os
import pickle
import pickletools
import types
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmtrain.errors import UserError

_LONGEST_ITEM = 1000
_MOST_DIMENSIONS = 8


def read_pickle(path: str | Path, what: str) -> Any:
    """The content of a pickle of plain data, also one of Python 2, whose strings are read as Latin-1.

    Args:
        path: the file.
        what: what the file should be, for the error.

    Raises:
        UserError: the file is missing, damaged or asks for a global that is not allowed.
    """
    with naming(path, what), open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise Refused("it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return Unpickler(content).load()


class Refused(Exception):
    """Why a file is not read; `naming` adds its name."""


class ForbiddenGlobal(Refused):
    """The pickle asks for a global that is not allowed."""


@contextmanager
def naming(path: str | Path, what: str) -> Iterator[None]:
    """Turns every error of the block into a `UserError` that names the file."""
    try:
        yield
    except OSError as error:
        inside = Path(path) / "best-lm.pt"
        remedy = f" Did you mean {inside}?" if inside.is_file() else ""
        raise UserError(f"The {what} {path} cannot be read: {error.strerror or error}.{remedy}") from None
    except Refused as error:
        raise UserError(f"{path} is not a {what} that can be read: {error}.") from None
    except Exception as error:  # a damaged file can make any instruction fail in any way
        reason = printable(f"{type(error).__name__}: {error}")
        raise UserError(
            f"{path} is not a {what} that can be read: it is damaged or cut short ({reason}); copy it again."
        ) from None


def printable(text: str) -> str:
    """Text from a file, made fit for one line of a terminal."""
    return text[:200].encode("unicode_escape").decode("ascii")


class FlairDictionary:
    """A pickled `flair.data.Dictionary`, with its attributes in `state`."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}


class _Storage:
    """The flat tensor `(N,)` that tensors are views of."""

    def __init__(self, flat: Tensor) -> None:
        self.flat = flat


def _tensor(storage, offset, size, stride, _requires_grad=False, _hooks=None, metadata=None) -> Tensor:
    """Stands for torch._utils._rebuild_tensor and _rebuild_tensor_v2."""
    if not isinstance(storage, _Storage) or metadata or type(size) is not tuple or type(stride) is not tuple:
        raise Refused("it holds a tensor of a kind that models do not have")
    numbers = (offset, *size[:_MOST_DIMENSIONS], *stride[:_MOST_DIMENSIONS])
    if len(size) > _MOST_DIMENSIONS or len(size) != len(stride) or any(type(n) is not int or n < 0 for n in numbers):
        raise Refused("it holds a tensor of an impossible size")
    count = 1
    for length in size:
        count *= length
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    held = storage.flat.numel()
    if count and (last >= held or count > held):
        raise Refused(f"it holds a tensor of the size {tuple(size)} that reaches beyond its {held} stored numbers")
    return storage.flat.as_strided(size, stride, offset) if count else storage.flat.new_empty(size)


def _parameter(data, _requires_grad=True, _hooks=None) -> Tensor:
    """Stands for torch._utils._rebuild_parameter."""
    if not isinstance(data, Tensor):
        raise Refused("it holds a parameter without a tensor")
    return data


def _bytes(text="", encoding="latin1") -> bytes:
    """Stands for _codecs.encode and bytes: how pickle protocol 2 writes bytes."""
    if type(text) is not str or len(text) > _LONGEST_ITEM or encoding != "latin1":
        raise Refused(f"it holds bytes that are not the latin1 of at most {_LONGEST_ITEM} characters")
    return text.encode("latin1")


def _size(numbers=()) -> tuple:
    """Stands for torch.Size."""
    return tuple(numbers[:_MOST_DIMENSIONS])


def _ordered_dict() -> OrderedDict:
    return OrderedDict()


def _default_dict(_factory=None) -> dict:
    """Stands for collections.defaultdict(int), which Flair has in a dictionary that was used."""
    return {}


_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

# the global in place of the dictionary's class if Flair lacks the model's recurrent cell: Flair's unpickler fails with
# "No module named 'such a recurrent cell in Flair ...'"
NOT_IN_FLAIR = ("such a recurrent cell in Flair, which has LSTM and GRU only: load this file with lmtrain", "load")

_ALLOWED: dict[tuple[str, str], Any] = {
    NOT_IN_FLAIR: "not for Flair",  # a text, so that it cannot be called
    ("flair.data", "Dictionary"): FlairDictionary,
    ("collections", "OrderedDict"): _ordered_dict,
    ("collections", "defaultdict"): _default_dict,
    ("builtins", "int"): "int",  # defaultdict's argument; a text, so that it cannot be called
    ("__builtin__", "int"): "int",
    ("__builtin__", "long"): "int",  # what int is called in protocol 2
    ("_codecs", "encode"): _bytes,
    ("builtins", "bytes"): _bytes,
    ("__builtin__", "bytes"): _bytes,
    ("torch", "Size"): _size,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    **{(module, name): dtype for module in ("torch", "torch.cuda") for name, dtype in _STORAGES.items()},
}

_PLAIN_INSTRUCTIONS = """
    PROTO FRAME MARK STOP POP POP_MARK NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
    STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8
    EMPTY_LIST LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT
    MEMOIZE GLOBAL STACK_GLOBAL BINPERSID
"""


class _Instructions(dict):
    def __missing__(self, code: int) -> None:
        known = pickletools.code2op.get(chr(code))  # type: ignore[attr-defined]
        raise Refused(f"it uses the pickle instruction {known.name if known else code}, which is not allowed")


class Unpickler(pickle._Unpickler):
    """Reads one pickle of plain data, of a Flair dictionary, or (with `storage`) of tensors.

    It extends the implementation in Python, whose instructions can be replaced one by one. The one in C cannot, and
    allocates as much memory as a damaged memo index asks for.

    Args:
        file: has `read` and `readline`.
        storage: (key, dtype, number of elements) → the flat tensor of a storage.
    """

    dispatch = _Instructions(
        {ord(getattr(pickle, name)): pickle._Unpickler.dispatch[ord(getattr(pickle, name))]
         for name in _PLAIN_INSTRUCTIONS.split()}
    )  # fmt: skip

    # attributes of Python's implementation that typeshed lacks
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: Any, storage: Callable[[str, torch.dtype, int], Tensor] | None = None) -> None:
        super().__init__(file, encoding="latin1")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """The replacement of a global; nothing is imported."""
        try:
            return _ALLOWED[module, name]
        except (KeyError, TypeError):
            asked = printable(f"{module}.{name}")
            raise ForbiddenGlobal(f"it asks for {asked}, which is not allowed; nothing of it was run") from None

    def persistent_load(self, persistent_id: Any) -> _Storage:
        if self._storage is None or type(persistent_id) is not tuple or len(persistent_id) not in (5, 6):
            raise Refused("it refers to something outside the pickle")
        kind, dtype, key, _location, count, *view = persistent_id
        if kind != "storage" or not isinstance(dtype, torch.dtype) or any(part is not None for part in view):
            raise Refused("it refers to something that is not a storage")
        if type(key) is not str or type(count) is not int or count < 0:
            raise Refused("it refers to a storage of an impossible size")
        return _Storage(self._storage(key, dtype, count))

    def _call(self) -> None:
        arguments = self.stack.pop()
        function = self.stack[-1]
        if not isinstance(function, types.FunctionType):  # the only functions here are those in _ALLOWED
            raise Refused("it calls something that is not a function")
        self.stack[-1] = function(*arguments)

    def _new_object(self) -> None:
        arguments = self.stack.pop()
        if self.stack[-1] is not FlairDictionary or arguments != ():
            raise Refused("it makes an object that is not a dictionary of Flair's")
        self.stack[-1] = FlairDictionary()

    def _set_state(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(state) is not dict or not isinstance(target, FlairDictionary | OrderedDict):
            raise Refused("it sets attributes of something that is not a dictionary of Flair's")
        if isinstance(target, FlairDictionary):
            target.state = state
        # An OrderedDict's state is the _metadata of a state_dict, which is not needed.

    def _set_items(self, target: Any, pairs: list) -> None:
        if type(target) not in (dict, OrderedDict):
            raise Refused("it sets items of something that is not a dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if type(key) not in (str, bytes, int):  # the hash of nested tuples could take forever
                raise Refused(f"it holds a dict with a key of the type {type(key).__name__}")
            target[key] = value

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items(self.stack[-1], [key, value])

    def _set_marked_items(self) -> None:
        pairs = self.pop_mark()
        self._set_items(self.stack[-1], pairs)

    def _new_dict(self) -> None:
        pairs, result = self.pop_mark(), {}
        self._set_items(result, pairs)
        self.append(result)

    def _extend(self, values: list) -> None:
        if type(self.stack[-1]) is not list:
            raise Refused("it appends to something that is not a list")
        self.stack[-1].extend(values)

    def _append_item(self) -> None:
        value = self.stack.pop()
        self._extend([value])

    def _append_marked_items(self) -> None:
        values = self.pop_mark()
        self._extend(values)

    dispatch |= {
        ord(pickle.REDUCE): _call,
        ord(pickle.NEWOBJ): _new_object,
        ord(pickle.BUILD): _set_state,
        ord(pickle.SETITEM): _set_item,
        ord(pickle.SETITEMS): _set_marked_items,
        ord(pickle.DICT): _new_dict,
        ord(pickle.APPEND): _append_item,
        ord(pickle.APPENDS): _append_marked_items,
    }
