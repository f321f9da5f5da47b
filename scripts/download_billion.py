#!/usr/bin/env python
"""Downloads the One Billion Word corpus (1.8 GB; 4.2 GB unpacked) into the layout that data=billion reads.

Run it again after an interruption: it goes on where it broke off. Size and SHA-256 of the archive are checked.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from lmtrain.cli.arguments import Range, parse
from lmtrain.program.command import run, train_program
from lmtrain.program.shell import override_of

EXAMPLE = """example:
  python scripts/download_billion.py --output billion
  python train.py model=large data=billion data.path=billion
"""


def main(arguments: Sequence[str] | None = None) -> None:
    from lmtrain.prepare.download import BILLION_SHA256, BILLION_SIZE, BILLION_URL, download_billion
    from lmtrain.program.time_left import time_left_of_each

    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output",
        default="billion",
        metavar="FOLDER",
        help="where to unpack it; must not exist (default: %(default)s)",
    )
    parser.add_argument("--keep-archive", action="store_true", help="do not remove FOLDER.tar.gz after unpacking")
    parser.add_argument("--url", default=BILLION_URL, help="a mirror (default: %(default)s)")
    parser.add_argument(
        "--size",
        type=int,
        metavar="BYTES",
        help="that the archive must have (default: the published file's; with --url, any)",
    )
    parser.add_argument("--sha256", metavar="HEX", help="likewise")
    options = parse(parser, arguments, size=Range(1))
    own = options.url != BILLION_URL
    with time_left_of_each() as show:
        folder = download_billion(
            options.output,
            url=options.url,
            size=options.size or (None if own else BILLION_SIZE),
            sha256=options.sha256 or (None if own else BILLION_SHA256),
            keep_archive=options.keep_archive,
            show=show,
        )
    print(f"Train:  {train_program()} data=billion {override_of('data.path', str(folder))}")


command = partial(run, main)

if __name__ == "__main__":
    sys.exit(command())
