"""The one exception for mistakes that a user can mend."""

_REPORTED = 20  # problems; who made more made the same one often


class UserError(Exception):
    """What is wrong with a configuration, a corpus or a file, all of it at once.

    Commands print it without a traceback and exit with status 2.

    Args:
        problems: one sentence each, naming the key or file, the value found, what is required and the remedy.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))

    def report(self) -> str:
        """The text for the terminal: a line for one problem, a numbered list for several."""
        if len(self.problems) == 1:
            return f"Error: {self.problems[0]}"
        lines = [f"  {number}. {problem}" for number, problem in enumerate(self.problems[:_REPORTED], 1)]
        more = len(self.problems) - len(lines)
        return "\n".join([f"{len(self.problems)} errors:", *lines, *([f"  and {more:,} more"] if more else [])])


class RunFailed(UserError):
    """A run that failed by itself, with a configuration that could be trained; the others of its sweep go on."""


class MissingPackage(UserError):
    """Something optional needs a package that is not installed.

    Args:
        what: needs it, the beginning of a sentence: "Identifying languages".
        package: its name.
    """

    def __init__(self, what: str, package: str) -> None:
        super().__init__(f"{what} needs {package}. Install it: pip install 'lmtrain[prepare]'.")
        self.what, self.package = what, package

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # worker processes hand it on
        return MissingPackage, (self.what, self.package)


def raise_if_any(problems: list[str]) -> None:
    """Raises `UserError` with the distinct problems, if there are any."""
    if problems:
        raise UserError(*dict.fromkeys(problems))
