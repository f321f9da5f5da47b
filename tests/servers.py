"""Web servers with the faults of real ones, an S3 store and a Hugging Face Hub, on this machine."""

import gzip
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

Files = dict[str, bytes]
"""What a server has, by path."""


class _Server(ThreadingHTTPServer):
    def __init__(self, handler: type, files) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.files, self.asked = files, []
        self.goes_on = threading.Event()  # with what it has sent a half of

    def handle_error(self, *_) -> None:  # who has seen enough of a file hangs up
        pass


@contextmanager
def served(handler: type, files) -> Iterator[tuple[str, list[str]]]:
    """Serves files; gives the server's address, and what was asked for, as "GET /path"."""
    with _Server(handler, files) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", server.asked
        finally:
            server.goes_on.set()
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    do_GET = do_POST = do_HEAD

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length)
        self.server.asked.append(f"{self.command} {self.path}")
        url = urlsplit(self.path)
        self.answer(unquote(url.path), url.query)

    def answer(self, path: str, query: str) -> None:
        raise NotImplementedError

    def send(self, status: int, body: bytes = b"", length: int | None = -1, **headers: str) -> None:
        """Sends a body, which need not have the length that is announced; None announces none."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = length is None or length >= 0

    def send_file(self, data: bytes) -> None:
        """Sends a file, or the range of it that was asked for."""
        headers = {"ETag": f'"{hashlib.md5(data).hexdigest()}"', "Last_Modified": "Wed, 25 Nov 2026 03:00:00 GMT"}
        if self.headers.get("If-Match", headers["ETag"]) != headers["ETag"]:
            self.send(412)
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            self.send(200, data, Accept_Ranges="bytes", **headers)
            return
        start, stop = int(asked[1]), min(int(asked[2] or len(data)) + 1, len(data))
        if start >= len(data):
            self.send(416)
            return
        self.send(206, data[start:stop], Content_Range=f"bytes {start}-{stop - 1}/{len(data)}", **headers)


class Web(_Handler):
    """A server whose manners the first part of a path names: /cut/a.txt is a.txt, broken off in the middle."""

    def answer(self, path: str, query: str) -> None:  # noqa: ARG002
        _, manner, name = path.split("/", 2)
        if manner.isdigit():
            self.send(int(manner), b"no\n")
        elif manner == "redirected":
            self.send(302, Location=f"/ranges/{name}")
        elif name in self.server.files:
            getattr(self, manner)(self.server.files[name])
        else:
            self.send(404)

    def ranges(self, data: bytes) -> None:
        self.send_file(data)

    def plain(self, data: bytes) -> None:
        self.send(200, data)

    def cut(self, data: bytes) -> None:
        self.send(200, data[: len(data) // 2], length=len(data))

    def halting(self, data: bytes) -> None:
        """Sends a half, and the other when the server is closed."""
        self.send(200, data[: len(data) // 2], length=len(data))
        if self.command == "GET":
            self.server.asked.append("a half is sent")
            self.server.goes_on.wait()

    def cut_ranges(self, data: bytes) -> None:
        """All that lies behind the middle is out of its range."""
        if "Range" not in self.headers:
            self.cut(data)
        else:
            self.send_file(data[: len(data) // 2])

    def cut_without_length(self, data: bytes) -> None:
        """HEAD says how long it is, and GET does not."""
        if self.command == "HEAD":
            self.send(200, data)
        else:
            self.send(200, data[: len(data) // 2], length=None)

    def cut_chunks(self, data: bytes) -> None:
        self.send(200, b"%x\r\n" % len(data) + data + b"\r\n", length=None, Transfer_Encoding="chunked")

    def chunks(self, data: bytes) -> None:
        self.send(200, b"%x\r\n" % len(data) + data + b"\r\n0\r\n\r\n", length=None, Transfer_Encoding="chunked")

    def without_length(self, data: bytes) -> None:
        self.send(200, data, length=None)

    def head_says_less(self, data: bytes) -> None:
        self.send(200, data, length=len(data) // 2 if self.command == "HEAD" else -1)

    def head_says_more(self, data: bytes) -> None:
        self.send(200, data, length=2 * len(data) if self.command == "HEAD" else -1)

    def head_says_nothing(self, data: bytes) -> None:
        self.send(200, data, length=0 if self.command == "HEAD" else -1)

    def without_head(self, data: bytes) -> None:
        self.send(405) if self.command == "HEAD" else self.send(200, data)

    def packed(self, data: bytes) -> None:
        self.send(200, gzip.compress(data), Content_Encoding="gzip")


class S3(_Handler):
    """Buckets of files; only "public" is for those who do not say who they are, and "private" for nobody."""

    def answer(self, path: str, query: str) -> None:
        bucket, _, key = path.lstrip("/").partition("/")
        files = self.server.files.get(bucket)
        if bucket == "private" or (bucket != "public" and "Authorization" not in self.headers):
            self._refuse(403, "AccessDenied")
        elif files is None:
            self._refuse(404, "NoSuchBucket")
        elif key and key not in files:
            self._refuse(404, "NoSuchKey")
        elif key:
            self.send_file(files[key])
        else:
            self._list(bucket, files, dict(parse_qsl(query)))

    def _refuse(self, status: int, code: str) -> None:
        self.send(status, f"<Error><Code>{code}</Code></Error>".encode(), Content_Type="application/xml")

    def _list(self, bucket: str, files: Files, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        keys = [key for key in sorted(files) if key.startswith(prefix)]
        deeper = [key for key in keys if delimiter and delimiter in key[len(prefix) :]]
        folders = sorted({prefix + key[len(prefix) :].split(delimiter)[0] + delimiter for key in deeper})
        body = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(files[key])}</Size>"
            f"<ETag>&quot;{hashlib.md5(files[key]).hexdigest()}&quot;</ETag>"
            "<LastModified>2026-11-25T03:00:00.000Z</LastModified></Contents>"
            for key in keys
            if key not in deeper
        )
        body += "".join(f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in folders)
        head = '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        text = f"{head}<Name>{bucket}</Name><IsTruncated>false</IsTruncated>{body}</ListBucketResult>"
        self.send(200, text.encode(), Content_Type="application/xml")


class Hub(_Handler):
    """Repositories of data sets, with the branches main and refs/convert/parquet; "gated/data" shows no files."""

    _API = re.compile(
        r"/api/datasets/([\w-]+/[\w-]+)(?:/(revision|tree|paths-info)/(refs/convert/parquet|[^/]+)(?:/(.*))?)?"
    )
    _FILE = re.compile(r"/datasets/([\w-]+/[\w-]+)/resolve/(?:refs/convert/parquet|[^/]+)/(.+)")

    def answer(self, path: str, query: str) -> None:
        if found := self._FILE.fullmatch(path):
            repository, name = found.groups()
            if repository == "gated/data":
                self._refuse(403, "GatedRepo")
            else:
                self.send_file(self.server.files[repository][name])
        elif not (found := self._API.fullmatch(path)) or found[1] not in self.server.files:
            self._refuse(401, "RepoNotFound")
        elif found[3] not in (None, "main", "refs/convert/parquet"):
            self._refuse(404, "RevisionNotFound")
        else:
            self._describe(self.server.files[found[1]], *found.group(1, 2, 4), dict(parse_qsl(query)))

    def _refuse(self, status: int, code: str) -> None:
        self.send(status, b"{}", X_Error_Code=code, X_Error_Message=code, Content_Type="application/json")

    def _describe(self, files: Files, repository: str, what: str, folder: str, query: dict[str, str]) -> None:
        folders = {"/".join(name.split("/")[:depth]) for name in files for depth in range(1, name.count("/") + 1)}
        entries = [{"type": "directory", "path": name, "oid": "0"} for name in sorted(folders)]
        entries += [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for name, data in sorted(files.items())
        ]
        if what == "paths-info":
            wanted = parse_qs(self.body.decode())["paths"]
            self._json([entry for entry in entries if entry["path"] in wanted])
        elif what == "tree":
            within, deep = f"{folder}/" if folder else "", query.get("recursive") in ("True", "true", "1")
            found = [entry for entry in entries if entry["path"].startswith(within)]
            if not found:
                self._refuse(404, "EntryNotFound")
                return
            self._json([entry for entry in found if deep or "/" not in entry["path"][len(within) :]])
        else:
            self._json({"id": repository, "sha": "a" * 40, "siblings": [{"rfilename": name} for name in files]})

    def _json(self, value) -> None:
        self.send(200, json.dumps(value).encode(), Content_Type="application/json")
