"""Opens files on this machine and in stores that fsspec reaches (`s3://`, `hf://`, `https://`), and explains errors."""

import io
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from importlib.metadata import metadata
from typing import IO, Any, BinaryIO

import fsspec
from fsspec.core import url_to_fs
from fsspec.registry import known_implementations

from lmtrain.errors import UserError

_CONNECT_SECONDS, _SILENT_SECONDS = 30, 120
_BUFFER_BYTES = 1 << 20
WEB = ("http", "https")
_CREDENTIALS = {
    "s3": "Log in (aws configure, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY); for a public bucket set "
    "FSSPEC_S3_ANON=true",
    "hf": "Ask for access on the page of the repository, and log in: hf auth login, or set HF_TOKEN",
    "http": "Download the file with your browser or curl, and give its path",
}


def store_of(place: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a path, pattern or fsspec URL, and the path there.

    Raises:
        UserError: the protocol is unknown, or the package for it is not installed.
    """
    protocol = protocol_of(place)
    try:
        return url_to_fs(os.path.expanduser(place), **(_patient() if protocol in WEB else {}))
    except ImportError as error:
        package = _package(protocol)
        raise UserError(
            f"{place}: {protocol}:// needs a package that is not installed: pip install {package}."
            if package
            else f"{place}: {error}."
        ) from None
    except Exception as error:  # every kind of store has exceptions of its own
        raise UserError(f"{place} cannot be read: {reason(error, protocol)}.") from None


def protocol_of(place: str) -> str:
    """The protocol of an fsspec URL, of a chain its first; "file" for a path."""
    return place.split("://", 1)[0].split("::")[0] if "://" in place else "file"


def _patient() -> dict[str, Any]:
    """Options for web servers: the environment's proxies, and no limit of time while data arrives.

    By default aiohttp breaks off after five minutes, however much of the file has arrived.
    """
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS)
    chosen = fsspec.config.conf.get("http", {}).get("client_kwargs", {})
    return {"client_kwargs": {"timeout": timeout, "trust_env": True, **chosen}}


def _package(protocol: str) -> str | None:
    """What pip installs for a protocol, or None if fsspec does not tell."""
    known = known_implementations.get(protocol, {}).get("class", "")
    package = known.split(".")[0]
    if package != "fsspec":
        return package or None
    extra = "http" if protocol in WEB else protocol
    return shlex.quote(f"fsspec[{extra}]") if extra in metadata("fsspec").get_all("Provides-Extra", []) else None


def kind_of(filesystem: fsspec.AbstractFileSystem, path: str) -> str | None:
    """The kind of a path: "file", "directory" or another of fsspec's; None if nothing is there.

    Raises what the store raises, where `isfile`, `isdir` and `exists` take a store that does not answer for empty.
    """
    try:
        return filesystem.info(path)["type"]
    except FileNotFoundError as error:  # some stores raise this whatever has happened
        if error.__cause__ is not None and _status_of(error) not in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            raise
        return None


@contextmanager
def stored(url: str) -> Iterator[BinaryIO]:
    """The bytes of a file at a path or fsspec URL, as it is stored.

    Raises:
        UserError: a store does not give the file, or not all of it.
        OSError: a local file cannot be opened.
    """
    if "://" not in url:
        with open(url, "rb") as file:
            yield file
        return
    filesystem, path = store_of(url)
    with whole(filesystem, path, url) as stream:
        yield stream


@contextmanager
def whole(filesystem: fsspec.AbstractFileSystem, path: str, url: str) -> Iterator[BinaryIO]:
    """The bytes of a file in a store; raises `UserError`, which names the `url`, if it does not give all of them."""
    try:
        stream, size = _opened(filesystem, path)
    except Exception as error:  # every kind of store has exceptions of its own
        raise UserError(f"{url} cannot be read: {reason(error, protocol_of(url))}.") from None
    with stream:
        yield io.BufferedReader(_Whole(stream, url, size), _BUFFER_BYTES)


def _opened(filesystem: fsspec.AbstractFileSystem, path: str) -> tuple[IO[bytes], int | None]:
    """A file of a store, and how many bytes it must have; None where the library checks that itself."""
    size = filesystem.info(path).get("size")
    if "http" not in filesystem.protocol:
        return filesystem.open(path, "rb"), size
    # In one request: read in blocks, a server without ranges would send the beginning each time, and fsspec would stop
    # at the size that HEAD gave. aiohttp checks the length of the answer where a header states it.
    stream = filesystem.open(path, "rb", block_size=0, size=size)
    headers = stream.r.headers
    return stream, None if {"Content-Length", "Transfer-Encoding"} & set(headers) else size


class _Whole(io.RawIOBase):
    """A file of a store whose early end, and every other failure, raises `UserError`."""

    def __init__(self, stream: IO[bytes], url: str, size: int | None) -> None:
        self._stream, self._url, self._size, self._count = stream, url, size, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        try:
            data = self._stream.read(len(buffer))
        except Exception as error:  # every kind of store has exceptions of its own
            why = reason(error, protocol_of(self._url))
            if _status_of(error):
                raise UserError(f"{self._url} cannot be read: {why}.") from None
            raise self._broken(why) from None
        self._count += len(data)
        if not data and self._size is not None and self._count != self._size:
            raise self._broken("the connection ended")
        buffer[: len(data)] = data
        return len(data)

    def _broken(self, why: str) -> UserError:
        whole = "" if self._size is None else f" of {self._size:,}"
        remedy = "Try again"
        if protocol_of(self._url) in WEB:
            remedy += f", or download it first, which can be resumed: curl -L -C - -O {shlex.quote(self._url)}"
        return UserError(f"{self._url} broke off after {self._count:,}{whole} bytes: {why}. {remedy}.")


def reason(error: BaseException, protocol: str = "file") -> str:
    """Why a store does not give a file, for a message, and how to log in if that is the reason."""
    status = _status_of(error)
    if protocol == "hf" and status in (401, 404):  # also the answer for what is not public
        why = "there is no such repository or revision, or it is not public"
    elif status == HTTPStatus.PRECONDITION_FAILED:
        why = "it was changed while it was read"
    elif status:
        why = f"the server answers {status} {HTTPStatus(status).phrase}"
    else:
        cause = _chain(error)[-1]
        said = getattr(cause, "strerror", None) or getattr(cause, "message", None)
        if not said and not hasattr(cause, "message"):
            said = str(cause)
        why = " ".join(str(said or type(cause).__name__).split()).removesuffix(".")
    needs_login = status in (401, 403) or isinstance(error, PermissionError) or "Credentials" in type(error).__name__
    remedy = _CREDENTIALS.get("http" if protocol in WEB else protocol)
    return f"{why}. {remedy}" if needs_login and remedy else why


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what caused it, as Python, requests and urllib3 keep that."""
    chain = [error]
    while len(chain) < 20:
        last = chain[-1]
        causes = (last.__cause__, getattr(last, "reason", None), *last.args[:1])
        cause = next((cause for cause in causes if isinstance(cause, BaseException)), None)
        if cause is None or cause in chain:
            break
        chain.append(cause)
    return chain


def _status_of(error: BaseException) -> int | None:
    return next(filter(None, map(_status, _chain(error))), None)


def _status(error: BaseException) -> int | None:
    """The HTTP status in an error of aiohttp, requests or botocore, if it is one of failure; else None."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", None) or getattr(error, "status", None)
    return status if status in set(HTTPStatus) and status >= 400 else None
