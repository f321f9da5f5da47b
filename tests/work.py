"""Counts the work that code does, since times say nothing on a busy machine."""

import builtins
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

_PACKAGE = str(Path(__file__).resolve().parents[1] / "lmtrain")
_WALKS = ("sum", "min", "max", "any", "all", "sorted", "list", "tuple", "set", "frozenset", "dict", "map", "zip")
_NUMPY = ("cumsum", "sum", "searchsorted", "concatenate", "array", "sort", "unique", "append")


class Work:
    """What was done: lines of lmtrain run (a turn of a loop or a comprehension is one), and elements that builtins and
    numpy were given."""

    def __init__(self) -> None:
        self.lines = 0
        self.elements = 0

    @property
    def total(self) -> int:
        return self.lines + self.elements


@contextmanager
def counted_work(monkeypatch) -> Iterator[Work]:
    """Counts what the block does in lmtrain's own code, and in what that calls from builtins and numpy."""
    work = Work()

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            work.elements += max((len(one) for one in arguments if hasattr(one, "__len__")), default=0)
            return function(*arguments, **more)

        return call

    def trace(frame, event, _):
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return None
        work.lines += event == "line"
        return trace

    with monkeypatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("lmtrain."):
                for walk in _WALKS:
                    function = getattr(builtins, walk)
                    if not isinstance(function, type):  # classes are also asked for with isinstance
                        patch.setattr(module, walk, counting(function), raising=False)
        for name in _NUMPY:
            patch.setattr(np, name, counting(getattr(np, name)))
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            yield work
        finally:
            sys.settrace(before)
