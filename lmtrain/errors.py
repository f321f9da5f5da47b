"""The exception for mistakes that a user can correct: commands print it and exit with status 2."""

from collections.abc import Iterator
from contextlib import contextmanager

_REPORTED = 20  # problems that are printed; more than that are mostly the same mistake


class UserError(Exception):
    """All that is wrong with a configuration, a corpus or a file.

    Args:
        problems: one sentence each, naming the key or file, the value found, what is required and the remedy.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))

    def report(self) -> str:
        """The text for the terminal: one problem on a line, several as a numbered list."""
        if len(self.problems) == 1:
            return f"Error: {self.problems[0]}"
        lines = [f"  {number}. {problem}" for number, problem in enumerate(self.problems[:_REPORTED], 1)]
        more = len(self.problems) - len(lines)
        return "\n".join([f"{len(self.problems)} errors:", *lines, *([f"  and {more:,} more"] if more else [])])


class RunFailed(UserError):
    """A run that failed although its configuration was in order; the other runs of its sweep continue."""


class MissingPackage(UserError):
    """An optional package is not installed.

    Args:
        what: what needs it, the beginning of a sentence: "Identifying languages".
        package: its name.
    """

    def __init__(self, what: str, package: str) -> None:
        super().__init__(f"{what} needs {package}. Install it: pip install 'lmtrain[prepare]'.")
        self.what, self.package = what, package

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # pickled by worker processes
        return MissingPackage, (self.what, self.package)


@contextmanager
def importing(package: str, what: str) -> Iterator[None]:
    """Within the block a failed import raises `MissingPackage`, which says what needs the package."""
    try:
        yield
    except ImportError:
        raise MissingPackage(what, package) from None


def raise_if_any(problems: list[str]) -> None:
    """Raises `UserError` with the distinct problems, if there are any."""
    if problems:
        raise UserError(*dict.fromkeys(problems))
