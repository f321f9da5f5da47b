"""Makes standard output and error survive a closed terminal or pipe, a full disk, and characters they cannot encode."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class OutputGone(Exception):
    """Standard output, which is the purpose of a command, cannot be written."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(str(error))

    @property
    def status(self) -> int:
        """141, as other programs have it, if the reader has ended (`head -1`); else 1."""
        return 141 if isinstance(self.error, BrokenPipeError) else 1

    def report(self) -> str:
        """The text for standard error; empty if the reader has ended, which is no mistake."""
        if isinstance(self.error, BrokenPipeError):
            return ""
        return f"Error: standard output cannot be written: {getattr(self.error, 'strerror', None) or self.error}.\n"


class Output:
    """Wraps a text stream so that characters it cannot encode are written as escapes such as \\u4e2d.

    Args:
        stream: where to write.
        is_needed: raise `OutputGone` when the stream fails; otherwise the text is lost.
    """

    def __init__(self, stream: TextIO, is_needed: bool = False) -> None:
        self.stream = stream
        self.is_needed = is_needed
        self.error: Exception | None = None

    def write(self, text: str) -> int:
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            encoding = self.stream.encoding or "utf-8"
            return self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError) as error:  # ValueError: it was closed
            self._fail(error)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.error = error
        if self.is_needed:
            raise OutputGone(error) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Closed(io.TextIOBase):
    """Standard output that was closed before the program began (`>&-`)."""

    encoding = "utf-8"

    def write(self, text: str) -> int:  # noqa: ARG002
        raise OSError(errno.EBADF, "it is closed")


def forgiving(stream: TextIO | Output) -> Output:
    """The stream as an `Output`, whose failure does not end a run."""
    return stream if isinstance(stream, Output) else Output(stream)


@contextmanager
def protected_output() -> Iterator[None]:
    """Within the block, failures of standard error are ignored, and those of standard output raise `OutputGone`.

    Output is buffered: flush standard output at the end of the block to learn whether all was written.
    """
    _open_what_is_closed()
    before = sys.stdout, sys.stderr
    streams = forgiving(sys.stdout), forgiving(sys.stderr)
    if streams[0] is not sys.stdout:  # not within another such block
        streams[0].is_needed = True
    sys.stdout, sys.stderr = streams  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in streams:
            if stream.error is not None:
                _point_to_nothing(stream)


def output_is_not_needed() -> None:
    """From now on failures of standard output are ignored, because the command's results are files."""
    if isinstance(sys.stdout, Output):
        sys.stdout.is_needed = False


def _open_what_is_closed() -> None:
    """Opens closed standard streams: else the next file gets their number, and what libraries print goes into it."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if name == "stdout" and sys.stdout is None:
            sys.stdout = _Closed()
        elif getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


def _point_to_nothing(stream: Output) -> None:
    """Lets the buffer of a failed stream go to /dev/null: else Python fails to flush it and exits with status 120."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
