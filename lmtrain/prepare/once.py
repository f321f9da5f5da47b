"""Copies of inputs that can be read only once, standard input and pipes, so that they can be read again."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from lmtrain.errors import UserError
from lmtrain.inference.text_input import STANDARD_INPUT
from lmtrain.program.command import interrupt_deferred
from lmtrain.program.files import unfinished_folder

_READ_BYTES = 8 << 20


@contextmanager
def read_once(inputs: Sequence[str | Path], beside: Path) -> Iterator[dict[str, str]]:
    """Copies standard input and pipes into a temporary folder beside a path; removes it when the block ends.

    A `UserError` that is raised within the block names what was typed instead of the copy.

    Yields:
        for every input its file (the copy), folder, pattern or URL → what it is called in messages.

    Raises:
        UserError: an input cannot be read.
    """
    places = list(dict.fromkeys(map(str, inputs)))
    if not any(map(is_read_once, places)):
        yield {place: place for place in places}
        return
    with _folder(beside) as folder:
        names: dict[str, str] = {}
        for place in places:
            names[_copied(place, folder) if is_read_once(place) else place] = _title(place)
        try:
            yield names
        except UserError as error:
            raise UserError(*(_with_names(problem, names) for problem in error.problems)) from None


def is_read_once(place: str) -> bool:
    """Whether an input is standard input ("-"), or something at a path that is neither a file nor a folder."""
    if place == STANDARD_INPUT:
        return True
    return os.path.exists(place) and not os.path.isfile(place) and not os.path.isdir(place)


def _title(place: str) -> str:
    return "Standard input" if place == STANDARD_INPUT else place


def _with_names(problem: str, names: dict[str, str]) -> str:
    for file, name in names.items():
        problem = problem.replace(file, name) if file != name else problem
    return problem


@contextmanager
def _folder(beside: Path) -> Iterator[Path]:
    with ExitStack() as stack:
        with interrupt_deferred():  # or the folder could be made and not be known
            folder = stack.enter_context(unfinished_folder(beside))
        yield folder


def _copied(place: str, folder: Path) -> str:
    """The path of the copy of an input; its name is the input's, by which readers may recognise the format."""
    name = "standard-input" if place == STANDARD_INPUT else Path(place).name
    number = len(list(folder.iterdir()))
    file = folder / (f"{number}-{name}" if number else name)
    if place == STANDARD_INPUT and sys.stdin.buffer.isatty():
        print("Reading the text from the terminal; Ctrl-D ends it.", file=sys.stderr)
    try:
        with file.open("wb") as copy, _opened(place) as stream:
            while data := stream.read(_READ_BYTES):
                copy.write(data)
    except OSError as error:
        raise UserError(f"{_title(place)} cannot be copied into {folder}: {error.strerror}.") from None
    return str(file)


def _opened(place: str) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if place == STANDARD_INPUT else open(place, "rb")
