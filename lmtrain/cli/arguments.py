"""Commands from signatures: the fields of a dataclass are a command's arguments, its flags, help, types and ranges.

    @dataclass(frozen=True)
    class Options:
        model: Annotated[str, Positional("best-lm.pt", "MODEL")]
        batch_size: Annotated[int, Option("texts that are computed together", "N", Range(1))] = 64

    command = Command(main, Options, EXAMPLES)

A field's type says what is typed: a flag alone for a bool, one of several words for a Literal, several values for a
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
        least, most: the ends; infinity itself is never allowed, nor is NaN.
        above: `least` itself is not allowed.
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
        help: what --help says; the default is added, unless the text names one, perhaps by the word DEFAULT.
        metavar: what stands for the value there.
        within: the numbers that are allowed.
        read: makes the value of what was typed; None for the field's type.
        group: the heading that --help lists it under.
    """

    help: str
    metavar: str | None = None
    within: Range | None = None
    read: Callable[[str], Any] | None = None
    group: str | None = None


class Positional(Option):
    """An argument without a flag; of a list there may be any number, with a default also none."""


OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True)
class Command(Generic[OptionsT]):
    """A command as a shell calls it. Its description is the docstring of the module that `main` lies in.

    Args:
        main: does the work; user's mistakes are `UserError`s.
        options: a dataclass with an `Option` or `Positional` in each field's annotation.
        examples: the end of --help, with `python scripts/NAME.py` for commands; it becomes what the user types.
    """

    main: Callable[[OptionsT], None]
    options: type[OptionsT]
    examples: str

    def __call__(self, arguments: Sequence[str] | None = None, name: str | None = None) -> int:
        """Runs it and returns the exit status (see `program.command.run`).

        Args:
            arguments: None for those of this process.
            name: what help and messages call it; None for the program's name.
        """
        return run(lambda: self.main(self.parse(arguments, name)))

    def parse(self, arguments: Sequence[str] | None = None, name: str | None = None) -> OptionsT:
        """What was typed, options before, between and after the files.

        Raises:
            UserError: every number that is out of its range, with the range.
            SystemExit: anything else is wrong, which is printed; or --help was.
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
        """The flag of every field that has one."""
        about = self._about().items()
        return {name: f"--{name.replace('_', '-')}" for name, option in about if not isinstance(option, Positional)}

    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.options, include_extras=True)

    def _about(self) -> dict[str, Option]:
        return {name: get_args(hint)[1] for name, hint in self._hints().items()}

    def _settings(self, field: "Field[Any]", option: Option, is_flag: bool) -> dict[str, Any]:
        """What `add_argument` takes for a field."""
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


# ----- what several commands have

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
