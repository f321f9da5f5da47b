"""Corpora and sources on a web server, whose listings link to more than the files of a folder."""

import io
import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from corpora import write_corpus

from lmtrain.data.corpus import find_corpus, read_text
from lmtrain.errors import UserError
from lmtrain.prepare.folder import prepare_corpus
from lmtrain.prepare.sources import find_sources

OTHER_LINKS = ("?C=N;O=D", "?C=M;O=A", "../", "/icons/")


def _names(files) -> list[str]:
    return [file.name for file in files]


@pytest.fixture
def web(tmp_path):
    """Serves a folder with listings as Apache writes them; gives its address and what was asked for."""
    asked = []

    class Server(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def list_directory(self, path):
            names = sorted(os.listdir(path))
            links = "".join(
                f'<a href="{name}">{name}</a>\n' for name in ["?C=N;O=D", "?C=M;O=A", "../", "/icons/", *names]
            )
            body = f"<html><head><title>Index of {self.path}</title></head><body>{links}</body></html>".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            return io.BytesIO(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_links_of_a_listing_that_are_no_files_are_not_believed(web, tmp_path):
    address, asked = web
    linked = 'a text with <a href="b.txt">a link</a> in it\n'
    write_corpus(tmp_path / "corpus", train={"a.txt": linked, "b.txt": "text\n"}, valid=linked)
    found = find_corpus(f"{address}/corpus")
    assert _names(found.files()) == ["train/a.txt", "train/b.txt", "valid.txt", "test.txt"]
    assert "".join(read_text(found.train[0])) == linked
    assert asked.count("/corpus/train/a.txt") <= 3  # its beginning, for the format, and the text
    assert _names(find_corpus(f"{address}/corpus", valid="valid.txt").valid) == ["valid.txt"]
    (tmp_path / "corpus" / "train" / "sub").mkdir()
    (tmp_path / "corpus" / "train" / "c.jsonl").write_text('{"text": "one"}\n')
    with pytest.raises(UserError) as error:
        find_corpus(f"{address}/corpus")
    assert [problem.split(" only ")[0].split(". Make")[0] for problem in error.value.problems] == [
        f"{address}/corpus/train/sub is a folder;",
        f"{address}/corpus/train/c.jsonl is JSON Lines, not plain text",
    ]


def test_the_page_of_a_listing_is_no_source(web, tmp_path):
    address, _ = web
    write_corpus(tmp_path / "corpus", train={"a.txt": "text\n", "b.txt": "more\n"})
    with pytest.raises(UserError, match=r"is the listing of a folder, not a text\. Name its files"):
        prepare_corpus([f"{address}/corpus/train/"], tmp_path / "out", workers=1)
    sources, _ = find_sources([f"{address}/corpus/train/*"])
    assert [source.url for source in sources] == [f"{address}/corpus/train/{name}.txt" for name in "ab"]
