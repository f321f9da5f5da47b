"""Files wherever they stand: on this machine, or in a store that fsspec reaches (`s3://`, `hf://`, `https://`)."""

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
    "s3": "Say who you are (aws configure, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY); for a public bucket set "
    "FSSPEC_S3_ANON=true",
    "hf": "Ask for access on the page of the repository, and say who you are: hf auth login, or HF_TOKEN",
    "http": "Get the file with your browser or curl, and give the file",
}


def store_of(place: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a path, pattern or fsspec URL, and what it calls that place.

    Raises:
        UserError: nobody knows such addresses, or the package for them is not installed.
    """
    protocol = protocol_of(place)
    try:
        return url_to_fs(os.path.expanduser(place), **(_patient() if protocol in WEB else {}))
    except ImportError as error:
        package = _package(protocol)
        raise UserError(
            f"{place}: addresses that begin with {protocol}:// need a package. Install it: pip install {package}."
            if package
            else f"{place}: {error}."
        ) from None
    except Exception as error:  # every kind of store has exceptions of its own
        raise UserError(f"{place} cannot be read: {reason(error, protocol)}.") from None


def protocol_of(place: str) -> str:
    """What stands before `://` of an address, "file" of a path; of several in a chain, the first."""
    return place.split("://", 1)[0].split("::")[0] if "://" in place else "file"


def _patient() -> dict[str, Any]:
    """How web servers are asked: with the proxies of the environment, and as long as something comes.

    aiohttp's own limit is five minutes for a whole file.
    """
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENT_SECONDS)
    chosen = fsspec.config.conf.get("http", {}).get("client_kwargs", {})
    return {"client_kwargs": {"timeout": timeout, "trust_env": True, **chosen}}


def _package(protocol: str) -> str | None:
    """What pip installs for a kind of addresses, as far as fsspec tells."""
    known = known_implementations.get(protocol, {}).get("class", "")
    package = known.split(".")[0]
    if package != "fsspec":
        return package or None
    extra = "http" if protocol in WEB else protocol
    return shlex.quote(f"fsspec[{extra}]") if extra in metadata("fsspec").get_all("Provides-Extra", []) else None


def kind_of(filesystem: fsspec.AbstractFileSystem, path: str) -> str | None:
    """What stands at a path: "file", "directory", something else; None for nothing.

    Unlike `isfile`, `isdir` and `exists`, which take a store that does not answer for an empty one, it raises what
    the store does.
    """
    try:
        return filesystem.info(path)["type"]
    except FileNotFoundError as error:  # some stores say so whatever has happened
        if error.__cause__ is not None and _status_of(error) not in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            raise
        return None


@contextmanager
def stored(url: str) -> Iterator[BinaryIO]:
    """The bytes of a file at a path or fsspec URL, as it is stored.

    Raises:
        UserError: a store does not give the file, or less of it than there is.
        OSError: a file of this machine cannot be opened.
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
    """The bytes of a file in a store; raises `UserError` if it does not give them, or less than there are.

    Args:
        url: for messages.
    """
    try:
        stream, size = _opened(filesystem, path)
    except Exception as error:  # every kind of store has exceptions of its own
        raise UserError(f"{url} cannot be read: {reason(error, protocol_of(url))}.") from None
    with stream:
        yield io.BufferedReader(_Whole(stream, url, size), _BUFFER_BYTES)


def _opened(filesystem: fsspec.AbstractFileSystem, path: str) -> tuple[IO[bytes], int | None]:
    """A file of a store, and the bytes that it must have if nobody else sees to it."""
    size = filesystem.info(path).get("size")
    if "http" not in filesystem.protocol:
        return filesystem.open(path, "rb"), size
    # one request: in pieces, fsspec takes the beginning again and again from servers without ranges, and stops
    # where HEAD says; aiohttp sees to the length of the one answer, if that says how long it is
    stream = filesystem.open(path, "rb", block_size=0, size=size)
    headers = stream.r.headers
    return stream, None if {"Content-Length", "Transfer-Encoding"} & set(headers) else size


class _Whole(io.RawIOBase):
    """A file of a store, to its last byte: what ends before is broken off, and whatever goes wrong has a sentence."""

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
            remedy += f", or get it first, piece by piece: curl -L -C - -O {shlex.quote(self._url)}"
        return UserError(f"{self._url} broke off after {self._count:,}{whole} bytes: {why}. {remedy}.")


def reason(error: BaseException, protocol: str = "file") -> str:
    """Why a store does not give a file, in words for a sentence, and what to do if it wants to know who asks.

    Args:
        protocol: of the address.
    """
    status = _status_of(error)
    if protocol == "hf" and status in (401, 404):  # which it answers for what it does not show, too
        why = "there is no such repository or revision, or it is not for everybody"
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
    asked_who = status in (401, 403) or isinstance(error, PermissionError) or "Credentials" in type(error).__name__
    remedy = _CREDENTIALS.get("http" if protocol in WEB else protocol)
    return f"{why}. {remedy}" if asked_who and remedy else why


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what led to it, as Python, requests and urllib3 remember it."""
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
    """The status of a server's answer that an error is about: aiohttp's, requests' or botocore's."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", None) or getattr(error, "status", None)
    return status if status in set(HTTPStatus) and status >= 400 else None
