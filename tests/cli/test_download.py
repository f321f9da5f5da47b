"""Downloads that break off go on, and only what is whole, right and safe is unpacked."""

import hashlib
import io
import random
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from running import compose
from script_calls import call

from lmtrain.data.corpus import find_corpus
from lmtrain.errors import UserError
from lmtrain.prepare.download import download, download_billion, unpack

CONTENT = random.Random(1).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one file and breaks connections off.

    `breaks` are the bytes after which the next answers end; `seen` are the ranges that were asked for.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.breaks, self.statuses, self.seen = CONTENT, '"1"', [], [], []
        self.ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.seen.append(asked)
        if server.statuses:
            self.send_error(server.statuses.pop(0))
            return
        begin = 0
        if asked and server.ranges and self.headers.get("If-Range") == server.etag:
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(server.content) - begin))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        self.wfile.write(server.content[begin:][: server.breaks.pop(0) if server.breaks else None])
        self.close_connection = True

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server():
    server = Server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_download_that_breaks_off_goes_on(server: Server, tmp_path: Path) -> None:
    server.breaks = [100_000, 50_000, 0, 7]
    progress = []
    path = download(
        server.url, tmp_path / "file", size=300_000, sha256=SHA256, show=lambda *call: progress.append(call), wait=0
    )
    assert path.read_bytes() == CONTENT
    assert server.seen == [None, "bytes=100000-", "bytes=150000-", "bytes=150000-", "bytes=150007-"]
    assert [what for what, _, _ in progress[-2:]] == ["Downloading", "Checking"]
    loaded = [done for what, done, _ in progress if what == "Downloading"]
    assert loaded == sorted(loaded)
    assert progress[-1][1:] == progress[-2][1:] == (300_000, 300_000)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_later_call_goes_on(server: Server, tmp_path: Path) -> None:
    server.breaks = [120_000]

    def interrupt(_: str, done: int, __: int) -> None:
        if done >= 120_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(server.url, tmp_path / "file", show=interrupt)
    assert not (tmp_path / "file").exists()
    download(server.url, tmp_path / "file", sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.seen == [None, "bytes=120000-"]


@pytest.mark.parametrize("change", ["other file", "no ranges", "no version"])
def test_what_cannot_be_continued_begins_anew(server: Server, tmp_path: Path, change: str) -> None:
    server.breaks = [200_000]
    if change == "no version":
        server.etag = None

    def change_now(*_) -> None:
        if change == "other file":
            server.content, server.etag = CONTENT[::-1], '"2"'
        server.ranges = change != "no ranges"

    download(server.url, tmp_path / "file", show=change_now, wait=0)
    assert (tmp_path / "file").read_bytes() == server.content
    assert len(server.seen) == 2


def test_errors_of_the_server(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 503, 429]
    assert download(server.url, tmp_path / "file", wait=0).read_bytes() == CONTENT
    server.statuses = [404]
    with pytest.raises(UserError, match=r"file\.tar\.gz: the server answers 404 Not Found"):
        download(server.url, tmp_path / "other", wait=0)
    server.statuses = [503] * 100
    with pytest.raises(UserError, match=r"cannot be downloaded: 503 .* it goes on where it broke off"):
        download(server.url, tmp_path / "other", wait=0)
    assert len(server.statuses) == 92
    with pytest.raises(UserError, match="Connection refused"):
        download("http://127.0.0.1:9/file", tmp_path / "other", wait=0)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"size": 300_001}, "has 300,000 bytes, and must have 300,001"),
        ({"sha256": "0" * 64}, f"has the SHA-256 {SHA256}, and must have 0000"),
    ],
)
def test_another_file_is_refused(server: Server, tmp_path: Path, expected: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        download(server.url, tmp_path / "file", **expected)
    assert not list(tmp_path.iterdir())


def archive(files: dict[str, bytes], *members: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in members:
            tar.addfile(member)
    return buffer.getvalue()


def _link() -> tarfile.TarInfo:
    member = tarfile.TarInfo("top/link")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc"
    return member


@pytest.mark.parametrize(
    "data",
    [
        archive({"../outside.txt": b"x"}),
        archive({"top/../../outside.txt": b"x"}),
        archive({"top/a.txt": b"x"}, _link()),
        archive({"top/a.txt": random.Random(1).randbytes(5000)})[:-2000],
        b"no archive",
    ],
)
def test_unsafe_and_damaged_archives_leave_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tar.gz").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.tar\.gz cannot be unpacked"):
        unpack(tmp_path / "in" / "a.tar.gz", tmp_path / "in" / "out")
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.tar.gz"]
    assert not (tmp_path / "outside.txt").exists()


@pytest.fixture
def billion(server: Server) -> Server:
    """The published archive's layout."""
    top = "1-billion-word-language-modeling-benchmark-r13output"
    files = {f"{top}/README": b"about\n", f"{top}/.svn/x": b""}
    for number in range(1, 4):
        files[f"{top}/training-monolingual.tokenized.shuffled/news.en-{number:05}-of-00100"] = (
            b"A sentence .\n" * number
        )
    for number in range(3):
        name = f"news.en.heldout-{number:05}-of-00050"
        files[f"{top}/heldout-monolingual.tokenized.shuffled/{name}"] = b"Another one .\n" * (number + 1)
    server.content = archive(files)
    server.breaks = [len(server.content) // 2]
    return server


def test_billion_is_what_data_billion_reads(billion: Server, tmp_path: Path) -> None:
    output = tmp_path / "data" / "billion"
    sha256 = hashlib.sha256(billion.content).hexdigest()
    shown = {}
    told = {"show": lambda what, done, total: shown.update({what: (done, total)})}
    assert download_billion(output, url=billion.url, size=len(billion.content), sha256=sha256, **told) == output
    assert shown == dict.fromkeys(["Downloading", "Checking", "Unpacking"], (len(billion.content),) * 2)
    assert len(billion.seen) == 2
    data = compose("data=billion", f"data.path={output}")["data"]
    corpus = find_corpus(data["path"], data["train"], data["valid"], data["test"])
    assert len(corpus.train) == 3
    assert [file.size for file in (*corpus.valid, *corpus.test)] == [28, 14]
    assert [path.name for path in output.parent.iterdir()] == ["billion"]


def test_script(billion: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "billion"
    arguments = ("download_billion", "--url", billion.url, "--output", output)
    assert call(*arguments, "--sha256", "0" * 64) == 2
    assert "must have 0000" in capsys.readouterr().err
    assert call(*arguments, "--keep-archive") == 0
    assert capsys.readouterr().out == f"Train:  python train.py data=billion data.path={output}\n"
    assert (tmp_path / "billion.tar.gz").read_bytes() == billion.content
    assert call(*arguments) == 2
    assert capsys.readouterr().err == f"Error: --output {output} exists. Name another folder, or remove it.\n"
    asked = len(billion.seen)
    assert call(*arguments[:-1], tmp_path / "billion2", "--size", "5") == 2
    (tmp_path / "billion3.tar.gz").write_bytes(b"an old one")
    assert call(*arguments[:-1], tmp_path / "billion3", "--size", "5") == 2
    assert "billion3.tar.gz has 10 bytes, and must have 5. Remove it" in capsys.readouterr().err
    assert len(billion.seen) == asked + 1
    assert (tmp_path / "billion3.tar.gz").exists()


def test_too_little_room_is_said_before_the_download(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"GB free; about .* GB are needed"):
        download_billion(tmp_path / "billion", url=server.url, size=10**18)
    assert not server.seen
