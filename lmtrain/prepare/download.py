"""Downloads a large archive, resuming where a connection broke off, and unpacks it safely.

pooch 1.9 and fsspec were tried with a server that closes the connection after a third of the file. Neither asks for
the rest by a range: pooch deletes what came and begins again, and fsspec leaves the incomplete file under its final
name.
"""

import errno
import hashlib
import io
import json
import shutil
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from lmtrain.errors import UserError
from lmtrain.program.files import atomic_write, unfinished_folder
from lmtrain.program.time_left import Show

BILLION_URL = "http://www.statmt.org/lm-benchmark/1-billion-word-language-modeling-benchmark-r13output.tar.gz"
BILLION_SIZE = 1_792_209_805
BILLION_SHA256 = "01ba60381110baf7f189dfd2b8374de371e8c9a340835793f190bdae9e90a34e"  # as TensorFlow Datasets has it

_READ_BYTES = 1 << 20
_ATTEMPTS = 8  # in a row that bring nothing
Progress = Callable[[int, int | None], None]
"""Called with the bytes that are done and those that there are, None if nobody knows."""

_LOCAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EISDIR)


def download(
    url: str,
    path: str | Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    show: Show = lambda *_: None,
    wait: float = 1.0,
) -> Path:
    """Downloads a file; goes on where an earlier call, or a connection, broke off.

    Unfinished, it is `path` with `.part` at its end, beside a `.part.json` that tells which version on the server it
    is the beginning of: if the server has another one by now, the download begins anew.

    Args:
        size, sha256: what the file must have, if they are known.
        show: called with what is being done, how many bytes of it are done, and how many there are.
        wait: seconds before the second attempt after one that brought nothing; then twice that, and so on.

    Raises:
        UserError: the server refuses, stays away, or sends another file.
    """
    path = Path(path)
    part, note = (path.with_name(f"{path.name}.part{ending}") for ending in ("", ".json"))
    path.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            complete = _fetch(url, part, note, size, _step(show, "Downloading"))
            reason = "the connection broke off"
        except urllib.error.HTTPError as error:
            if error.code == 416:  # there is no such range any more
                note.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                raise UserError(f"{url}: the server answers {error.code} {error.reason}.") from None
            complete, reason = False, f"{error.code} {error.reason}"
        except (OSError, HTTPException) as error:
            if isinstance(error, OSError) and error.errno in _LOCAL:
                raise UserError(f"{part} cannot be written: {error.strerror}.") from None
            complete, reason = False, str(getattr(error, "reason", error))
        if complete:
            break
        came = part.exists() and part.stat().st_size > before
        failures = 0 if came else failures + 1
        if failures == _ATTEMPTS:
            raise UserError(f"{url} cannot be downloaded: {reason}. Try again later: it goes on where it broke off.")
        if failures:
            time.sleep(wait * 2 ** (failures - 1))
    note.unlink(missing_ok=True)
    difference = _difference(part, size, sha256, _step(show, "Checking"))
    if difference:
        part.unlink()
        raise UserError(f"What {url} sent {difference}. It was removed: try again, or correct --size and --sha256.")
    part.replace(path)
    return path


def _fetch(url: str, part: Path, note: Path, size: int | None, progress: Progress) -> bool:
    """One request for what is missing; whether all of it came."""
    have = part.stat().st_size if part.exists() else 0
    version = _read_note(note)
    if not version:
        have = 0  # of which file it is the beginning, nobody knows
    elif have == version["size"]:
        return True
    request = urllib.request.Request(url, headers={"User-Agent": "lmtrain", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", version["validator"])
    with urllib.request.urlopen(request, timeout=60) as response:
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            if response.status == 206:
                raise HTTPException("the server sends another range than was asked for")
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else size
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if validator and not validator.startswith("W/") and total is not None:
            with atomic_write(note) as unfinished:
                unfinished.write_text(json.dumps({"url": url, "validator": validator, "size": total}), encoding="utf-8")
        else:
            note.unlink(missing_ok=True)
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            file.truncate()
            while data := response.read(_READ_BYTES):
                file.write(data)
                have += len(data)
                progress(have, total)
    return total is None or have >= total


def _step(show: Show, what: str) -> Progress:
    return lambda done, total: show(what, done, total or 0)


def _read_note(note: Path) -> dict | None:
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        return content if {"validator", "size"} <= content.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _difference(file: Path, size: int | None, sha256: str | None, progress: Progress) -> str | None:
    """In what a file is not what it must be."""
    found = file.stat().st_size
    if size is not None and found != size:
        return f"has {found:,} bytes, and must have {size:,}"
    if sha256 is not None:
        digest = hashlib.sha256()
        with file.open("rb") as stream:
            while data := stream.read(_READ_BYTES):
                digest.update(data)
                progress(stream.tell(), found)
        if digest.hexdigest() != sha256.lower():
            return f"has the SHA-256 {digest.hexdigest()}, and must have {sha256}"
    return None


class _Told(io.FileIO):
    """A file that tells how far it has been read."""

    def __init__(self, path: Path, progress: Progress) -> None:
        super().__init__(path)
        self._progress, self._size = progress, path.stat().st_size

    def readinto(self, buffer) -> int | None:
        count = super().readinto(buffer)
        self._progress(self.tell(), self._size)
        return count


def unpack(archive: str | Path, output: str | Path, progress: Progress = lambda *_: None) -> Path:
    """Unpacks a tar file into a folder that appears whole or not at all; a single folder around everything is left out.

    `progress` is called with the bytes of the archive that have been read and that it has.

    Raises:
        UserError: it is damaged, holds what would be written elsewhere, or the folder exists.
    """
    archive, output = Path(archive), Path(output)
    if output.exists():
        raise UserError(f"--output {output} exists. Name another folder, or remove it.")
    if not hasattr(tarfile, "data_filter"):
        raise UserError("This Python unpacks archives unsafely. Use 3.10.12, 3.11.4, 3.12 or newer.")
    output.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_folder(output) as place:
        folder = Path(place, output.name)
        try:
            with io.BufferedReader(_Told(archive, progress), _READ_BYTES) as file, tarfile.open(fileobj=file) as tar:
                tar.extractall(folder, filter="data")
        except (tarfile.TarError, EOFError, OSError) as error:
            raise UserError(f"{archive} cannot be unpacked: {error}. Remove it and download it again.") from None
        inside = list(folder.iterdir())
        if len(inside) == 1 and inside[0].is_dir():
            folder = inside[0]
        try:
            folder.rename(output)
        except OSError as error:
            raise UserError(f"--output {output} cannot be made: {error.strerror}.") from None
    return output


def download_billion(
    output: str | Path,
    *,
    url: str = BILLION_URL,
    size: int | None = BILLION_SIZE,
    sha256: str | None = BILLION_SHA256,
    keep_archive: bool = False,
    show: Show = lambda *_: None,
) -> Path:
    """The One Billion Word corpus as the folder that `data=billion data.path=OUTPUT` reads.

    The archive is loaded into the folder beside the output, where an interrupted download goes on. `show` is called as
    by `download`, also while it is unpacked.

    Raises:
        UserError: the output exists, there is too little room, or the download or the archive is not good.
    """
    output = Path(output).expanduser()
    if output.exists():
        raise UserError(f"--output {output} exists. Name another folder, or remove it.")
    output.parent.mkdir(parents=True, exist_ok=True)
    archive = output.with_name(f"{output.name}.tar.gz")
    need, free = 4 * (size or 0), shutil.disk_usage(output.parent).free
    if free < need:
        raise UserError(f"{output.parent} has {free / 1e9:.1f} GB free; about {need / 1e9:.0f} GB are needed.")
    if not archive.exists():
        download(url, archive, size=size, sha256=sha256, show=show)
    elif difference := _difference(archive, size, sha256, _step(show, "Checking")):
        raise UserError(f"{archive} {difference}. Remove it, or correct --size and --sha256.")
    unpack(archive, output, _step(show, "Unpacking"))
    if not keep_archive:
        archive.unlink()
    return output
