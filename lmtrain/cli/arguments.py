"""The scripts' command lines: options and files in any order, and numbers within their ranges."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

from lmtrain.errors import raise_if_any
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


def add_encoding(options: argparse._ActionsContainer) -> None:
    """Adds --encoding, which all that read text have."""
    options.add_argument(
        "--encoding",
        type=_encoding,
        metavar="NAME",
        help="of text that has no byte-order mark, as windows-1251, shift_jis or gb18030 (default: UTF-8)",
    )


def _encoding(name: str) -> str | None:
    from lmtrain.data.formats.encodings import checked_encoding

    try:
        return checked_encoding(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None, **ranges: Range
) -> argparse.Namespace:
    """What was typed, options before, between and after the files.

    Args:
        parser: without subcommands.
        arguments: None for those of this process.
        ranges: what the options of these names may be, where they are given.

    Raises:
        UserError: every number that is out of its range, with the range.
    """
    options = parser.parse_intermixed_args(arguments)
    raise_if_any(
        [
            f"--{name.replace('_', '-')} is {value}; it must be {allowed}."
            for name, allowed in ranges.items()
            if (value := getattr(options, name)) is not None and value not in allowed
        ]
    )
    return options
