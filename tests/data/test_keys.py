"""What names a cache entry changes with the text: each thing that matters, one at a time."""

import functools
import http.server
import os
import threading
import zipfile
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest

from lmtrain.data.cache.text_cache import count_items, encode_file
from lmtrain.data.corpus import file_at, find_corpus
from lmtrain.data.dictionary import Dictionary
from lmtrain.data.id_cache import TextFormat

KNOWN = Dictionary(["<unk>", "\n", "a", "b"])


def ids_and_counts(file, cache: Path) -> tuple[list[int], dict[str, int]]:
    cache.mkdir(exist_ok=True)
    return encode_file(file, TextFormat(), KNOWN, cache).ids().tolist(), dict(count_items(file, TextFormat(), cache))


def local(path: Path):
    return file_at(fsspec.filesystem("file"), str(path), path.name)


def replaced(path: Path, content: str) -> None:
    """The file with other content of the same size, and with its times set back, as `cp -p` and `rsync -t` do."""
    before = path.stat()
    other = path.with_name("other")
    other.write_text(content)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def rewritten(path: Path, content: str) -> None:
    before = path.stat()
    path.write_text(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [replaced, rewritten])
def test_a_local_file_of_equal_size_and_time(change, tmp_path):
    path = tmp_path / "text"
    path.write_text("aab\n")
    first = ids_and_counts(local(path), tmp_path / "cache")
    assert first == ([2, 2, 3, 1], {"a": 2, "b": 1, "\n": 1})
    entries = len(list((tmp_path / "cache").iterdir()))
    assert ids_and_counts(local(path), tmp_path / "cache") == first
    assert len(list((tmp_path / "cache").iterdir())) == entries  # found, not made again
    before = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == before:  # the system's clock of files ticks some hundred times a second
        change(path, "bba\n")
    assert ids_and_counts(local(path), tmp_path / "cache") == ([3, 3, 2, 1], {"b": 2, "a": 1, "\n": 1})


class Store(http.server.SimpleHTTPRequestHandler):
    """A server that says of its files' versions what `says` has."""

    says: ClassVar[dict[str, str]] = {}

    def send_header(self, name, value):
        if name != "Last-Modified":
            super().send_header(name, value)

    def end_headers(self):
        for name, value in self.says.items():
            super().send_header(name, value)
        super().end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served").mkdir()
    handler = functools.partial(Store, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


@pytest.mark.parametrize(
    ("before", "after", "is_read_again"),
    [
        ({"ETag": '"1"'}, {"ETag": '"2"'}, True),
        ({"Last-Modified": "Wed, 25 Nov 2026 03:00:00 GMT"}, {"Last-Modified": "Wed, 25 Nov 2026 03:00:01 GMT"}, True),
        ({}, {}, True),  # a server that says nothing: the content decides
        ({"ETag": '"1"'}, {"ETag": '"1"'}, False),
    ],
)
def test_a_file_that_changed_on_its_server(server, tmp_path, monkeypatch, before, after, is_read_again):
    filesystem, url = fsspec.filesystem("http"), f"{server}/text"
    monkeypatch.setattr(Store, "says", before)
    (tmp_path / "served/text").write_text("aab\n")
    first = ids_and_counts(file_at(filesystem, url, "text"), tmp_path / "cache")
    assert ids_and_counts(file_at(filesystem, url, "text"), tmp_path / "cache") == first
    (tmp_path / "served/text").write_text("bba\n")
    monkeypatch.setattr(Store, "says", after)
    again = ids_and_counts(file_at(filesystem, url, "text"), tmp_path / "cache")
    assert (again == ([3, 3, 2, 1], {"b": 2, "a": 1, "\n": 1})) is is_read_again


def test_a_file_in_memory_and_one_in_an_archive(tmp_path):
    memory = fsspec.filesystem("memory")
    stamps = set()
    for content in (b"aab\n", b"bba\n", b"aab"):
        memory.pipe("/keys/train/1.txt", content)
        for name in ("valid.txt", "test.txt"):
            memory.pipe(f"/keys/{name}", b"a\n")
        stamps.add(find_corpus("memory://keys").train[0].stamp)
        assert file_at(memory, "/keys/train/1.txt", "1.txt").stamp in stamps
    assert len(stamps) == 3
    memory.rm("/keys", recursive=True)
    archives = set()
    for content in ("aab\n", "bba\n"):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
            made.writestr(zipfile.ZipInfo("text"), content)
        read = fsspec.filesystem("zip", fo=str(tmp_path / "a.zip"), skip_instance_cache=True)
        archives.add(file_at(read, "text", "text").stamp)
    assert len(archives) == 2


def entries(cache: Path) -> set[Path]:
    return {path for path in cache.iterdir() if path.is_dir()}


@pytest.mark.parametrize(
    "change",
    [{"level": "word"}, {"document_delimiter": "a"}, {"errors": "replace"}],
    ids=lambda change: next(iter(change)),
)
def test_how_text_is_read_and_the_dictionary_are_in_the_key(change, tmp_path):
    path = tmp_path / "text"
    path.write_text("aab\n")
    cache = tmp_path / "cache"
    cache.mkdir()
    for text_format, dictionary in (
        (TextFormat(), KNOWN),
        (TextFormat(**change), KNOWN),
        (TextFormat(), Dictionary(["<unk>", "b"])),
    ):
        before = entries(cache)
        encode_file(local(path), text_format, dictionary, cache)
        assert len(entries(cache) - before) == 1
