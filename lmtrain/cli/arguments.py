"""Commands from dataclasses: the fields are the command's arguments, with their flags, help, types and ranges.

    @dataclass(frozen=True)
    class Options:
        model: Annotated[str, Positional("best-lm.pt", "MODEL")]
        batch_size: Annotated[int, Option("texts that are computed together", "N", Range(1))] = 64

    command = Command(main, Options, EXAMPLES)

The type of a field decides what is typed: a flag alone for a bool, one of its words for a Literal, several values for a
list. A field with a default may be left out. docs/architecture.md says why this is not jsonargparse.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

from lmtrain.errors import raise_if_any
from lmtrain.program.command import as_typed_here, run
from lmtrain.units import LARGEST_SEED


@dataclass(frozen=True)
class Range:
    """The numbers that an option may have.

    Args:
        least, most: the ends of the range. Infinity and NaN are never allowed.
        above: whether `least` itself is excluded.
    """

    least: float = 0
    most: float = math.inf
    above: bool = False

    def __contains__(self, number: float) -> bool:
        is_enough = number > self.least if self.above else number >= self.least
        return is_enough and number <= self.most and number != math.inf

    def __str__(self) -> str:
        if self.most == math.inf:
            return f"above {self.least:,}" if self.above else f"at least {self.least:,}"
        return (
            f"{'above' if self.above else 'from'} {self.least:,} {'and at most' if self.above else 'to'} {self.most:,}"
        )


SEEDS = Range(0, LARGEST_SEED)
SHARES = Range(0, 1)


@dataclass(frozen=True)
class Option:
    """A flag, in the annotation of a field: `--batch-size` of `batch_size`.

    Args:
        help: the text in --help. The word DEFAULT in it stands for the default, which is added if the text names none.
        metavar: the placeholder for the value in --help.
        within: the numbers that are allowed.
        read: converts the typed text to the value; None for the field's type.
        group: the heading under which --help lists the flag.
    """

    help: str
    metavar: str | None = None
    within: Range | None = None
    read: Callable[[str], Any] | None = None
    group: str | None = None


class Positional(Option):
    """An argument without a flag. A list takes one or more values, with a default also none."""


OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True)
class Command(Generic[OptionsT]):
    """A command as a shell calls it. Its description is the docstring of the module that `main` lies in.

    Args:
        main: does the work, and raises `UserError` for a user's mistakes.
        options: a dataclass with an `Option` or `Positional` in each field's annotation.
        examples: the end of --help. `python scripts/NAME.py` in it is shown as the user would type the command.
    """

    main: Callable[[OptionsT], None]
    options: type[OptionsT]
    examples: str

    def __call__(self, arguments: Sequence[str] | None = None, name: str | None = None) -> int:
        """Runs the command and returns the exit status (see `program.command.run`).

        Args:
            arguments: None for those of this process.
            name: of the command in help and messages; None for the program's name.
        """
        return run(lambda: self.main(self.parse(arguments, name)))

    def parse(self, arguments: Sequence[str] | None = None, name: str | None = None) -> OptionsT:
        """Reads the arguments; flags may stand before, between and after positional arguments.

        Raises:
            UserError: every number that is out of its range, with the range.
            SystemExit: argparse has printed what else is wrong, or the help.
        """
        typed = vars(self.parser(name).parse_intermixed_args(arguments))
        raise_if_any(
            [
                f"--{field.replace('_', '-')} is {typed[field]}; it must be {about.within}."
                for field, about in self._about().items()
                if about.within and typed.get(field) is not None and typed[field] not in about.within
            ]
        )
        return self.options(**typed)

    def parser(self, name: str | None = None) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(
            prog=name,
            description=as_typed_here(self.main.__globals__["__doc__"] or ""),
            epilog=as_typed_here(self.examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        groups: dict[str | None, argparse._ActionsContainer] = {None: parser}
        about = self._about()
        for field in fields(self.options):  # type: ignore[arg-type]
            option = about[field.name]
            if option.group not in groups:
                groups[option.group] = parser.add_argument_group(option.group)
            flag = self.flags().get(field.name)
            groups[option.group].add_argument(flag or field.name, **self._settings(field, option, flag is not None))
        return parser

    def flags(self) -> dict[str, str]:
        """Field → flag, for every field that has one."""
        about = self._about().items()
        return {name: f"--{name.replace('_', '-')}" for name, option in about if not isinstance(option, Positional)}

    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.options, include_extras=True)

    def _about(self) -> dict[str, Option]:
        return {name: get_args(hint)[1] for name, hint in self._hints().items()}

    def _settings(self, field: "Field[Any]", option: Option, is_flag: bool) -> dict[str, Any]:
        """The keyword arguments of `add_argument` for a field."""
        kind = _without_none(get_args(self._hints()[field.name])[0])
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        is_needed = default is MISSING
        text = as_typed_here(option.help)
        if kind is not bool and not is_needed and default is not None and default != [] and "(default" not in text:
            text += " (default: DEFAULT)"
        settings: dict[str, Any] = {"help": text.replace("DEFAULT", str(default)).replace("%", "%%")}
        if is_flag:  # a flag that is not given leaves the default to the dataclass
            settings |= {"required": True} if is_needed else {"default": argparse.SUPPRESS}
        elif not is_needed:
            settings["default"] = default
        if kind is bool:
            return settings | {"action": "store_true"}
        settings["metavar"] = option.metavar
        if get_origin(kind) is list:
            (kind,) = get_args(kind)
            settings |= {"action": "append"} if is_flag else {"nargs": "+" if is_needed else "*"}
        if get_origin(kind) is Literal:
            return settings | {"choices": get_args(kind)}
        return settings | {"type": option.read or kind}


def _without_none(kind: Any) -> Any:
    """int of `int | None`."""
    if get_origin(kind) is not UnionType:
        return kind
    (one,) = (member for member in get_args(kind) if member is not NoneType)
    return one


def _encoding(name: str) -> str | None:
    from lmtrain.data.formats.encodings import checked_encoding

    try:
        return checked_encoding(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# ----- arguments that several commands share

ENCODING = Option(
    "encoding of text without a byte-order mark, such as windows-1251, shift_jis or gb18030 (default: UTF-8)",
    "NAME",
    read=_encoding,
)
Encoding = Annotated[str | None, ENCODING]
Errors = Annotated[
    Literal["strict", "replace"],
    Option("bytes that are not in the encoding: strict stops there, replace reads them as U+FFFD"),
]
Device = Annotated[str, Option("device to compute on: cpu, cuda, cuda:1, ...")]
Precision = Annotated[Literal["32", "bf16"], Option("bf16 computes in bfloat16 if the device is faster in it")]
MODEL = Positional("best-lm.pt, or a .safetensors file that export wrote, or the folder of either", "MODEL")
Lower = Annotated[bool, Option("lower-case the text, for models that were trained on lower-cased text")]
Untokenized = Annotated[
    bool,
    Option("for models trained on untokenized text: no space after a CoNLL-U token with SpaceAfter=No"),
]
