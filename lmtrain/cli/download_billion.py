"""Downloads the One Billion Word corpus (1.8 GB; 4.2 GB unpacked) into the layout that data=billion reads.

After an interruption, run it again: it continues the download. The size and SHA-256 of the archive are checked.
"""

from dataclasses import dataclass
from typing import Annotated

from lmtrain.cli.arguments import Command, Option, Range
from lmtrain.prepare.download import BILLION_URL
from lmtrain.program.command import train_program
from lmtrain.program.shell import override_of

EXAMPLES = """example:
  python scripts/download_billion.py --output billion
  python train.py model=large data=billion data.path=billion
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    output: Annotated[str, Option("folder to make; it must not exist", "FOLDER")] = "billion"
    keep_archive: Annotated[bool, Option("do not remove FOLDER.tar.gz after unpacking")] = False
    url: Annotated[str, Option("download from this mirror instead")] = BILLION_URL
    size: Annotated[
        int | None,
        Option(
            "size that the archive must have (default: that of the published file; with --url, any)", "BYTES", Range(1)
        ),
    ] = None
    sha256: Annotated[str | None, Option("SHA-256 that the archive must have (default: as for --size)", "HEX")] = None


def main(options: Options) -> None:
    from lmtrain.prepare.download import BILLION_SHA256, BILLION_SIZE, download_billion
    from lmtrain.program.time_left import time_left_of_each

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


command = Command(main, Options, EXAMPLES)
