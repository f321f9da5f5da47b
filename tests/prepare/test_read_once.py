"""Standard input and pipes as the texts of scripts that read them several times."""

import bz2
import gzip
import io
import json
import os
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from preparing import lines, options, prepare, texts
from script_calls import call

from lmtrain.data.corpus import TextFile
from lmtrain.data.dictionary import Dictionary
from lmtrain.data.formats.reader import Tally
from lmtrain.data.id_cache import TextFormat
from lmtrain.inference.text_input import input_lines, size_as_stored
from lmtrain.prepare import positions
from lmtrain.prepare.corpus_scan import scan_corpus
from lmtrain.prepare.dictionary_counts import count_texts
from lmtrain.prepare.sources import Block, find_sources, read_block

TEXT = ("\n".join(lines(400)) + "\n").encode()

SHARES = ("--valid=0.1", "--test=0.1", "--workers=1")


@pytest.fixture
def piped(monkeypatch, tmp_path):
    """Writes to standard input, and to a named pipe, whose path it gives."""

    def write(standard: bytes, named: bytes) -> Path:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(standard)))
        pipe = tmp_path / f"pipe-{len(list(tmp_path.iterdir()))}"
        os.mkfifo(pipe)
        threading.Thread(target=lambda: pipe.write_bytes(named), daemon=True).start()  # waits for who reads
        return pipe

    return write


def test_a_corpus_of_pipes_is_that_of_the_files(piped, tmp_path):
    whole = tmp_path / "whole.txt"
    whole.write_bytes(TEXT + TEXT.upper())
    prepare([whole], tmp_path / "expected", options())
    pipe = piped(gzip.compress(TEXT), bz2.compress(TEXT.upper()))
    assert call("prepare_corpus", "-", pipe, "--output", tmp_path / "out", *SHARES) == 0
    assert texts(tmp_path / "out") == texts(tmp_path / "expected")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert sorted(source["url"] for source in manifest["sources"]) == sorted(["Standard input", str(pipe)])
    assert not list(tmp_path.glob(".*"))


def test_a_dictionary_of_pipes(piped, tmp_path):
    cache, dictionary = tmp_path / "cache", tmp_path / "dictionary.json"
    pipe = piped(b"aab\n", gzip.compress("語 a\n".encode()))
    assert call("build_dictionary", "-", pipe, "--output", dictionary, "--cache-dir", cache) == 0
    assert Dictionary.load(dictionary) == Dictionary.from_counts(Counter("aab\n語 a\n"))
    assert not list(cache.iterdir())


@pytest.mark.parametrize("script", ["prepare_corpus", "build_dictionary"])
def test_what_is_wrong_names_the_pipe_and_leaves_nothing(script, piped, tmp_path, capsys):
    pipe, output = piped(b"caf\xe9\n" * 9, b"{\\rtf1\\ansi}"), tmp_path / "out"
    more = ["--cache-dir", tmp_path / "cache"] if script == "build_dictionary" else ["--workers=1"]
    assert call(script, "-", "--output", output, *more) == 2
    assert "Standard input: byte 0xe9 at offset 3" in capsys.readouterr().err
    assert call(script, pipe, "--output", output, *more) == 2
    assert f"Error: {pipe} is " in capsys.readouterr().err
    assert not output.exists()
    assert not list(tmp_path.glob(".*"))
    assert not list(tmp_path.glob("cache/*"))


def test_an_interruption_while_a_pipe_is_read_leaves_nothing(tmp_path, monkeypatch):
    class Interrupted(io.BytesIO):
        def read(self, *_):
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Interrupted()))
    for work in (
        lambda: prepare(["-"], tmp_path / "out", options()),
        lambda: count_texts(["-"], TextFormat(), tmp_path / "cache"),
    ):
        with pytest.raises(KeyboardInterrupt):
            work()
    assert [path.name for path in tmp_path.rglob("*")] == ["cache"]


def compressed(folder: Path) -> Path:
    path = folder / "text.gz"
    path.write_bytes(gzip.compress(b"".join(os.urandom(5000).hex().encode() + b"\n" for _ in range(900)), 1))
    return path


def test_progress_within_a_compressed_file(tmp_path, monkeypatch):
    path, seen = compressed(tmp_path), []
    size = path.stat().st_size
    count_texts([path], TextFormat(), tmp_path / "cache", progress=lambda *now: seen.append(now))
    assert {(what, total) for what, _, total in seen} == {("Counting", size)}
    assert any(0 < done < size for _, done, _ in seen)

    file, parts = TextFile(str(path), "text", size, ""), []
    scan_corpus({"train": [file], "valid": [], "test": []}, TextFormat(), parts.append)
    assert len(parts) > 2
    assert sum(parts) == size

    (source,), _ = find_sources([path])
    places = []
    list(read_block(Block(source), options().wanted(), Tally(), places.append))
    assert any(0 < place < size for place in places)
    shown = []
    monkeypatch.setattr(positions, "_EVERY", 0)
    prepare([path], tmp_path / "out", options(), progress=lambda *now: shown.append(now))
    assert ("Reading", size, size) in shown
    with positions.reporting_position(tmp_path, 3) as report, positions.reporting_position(tmp_path, 5) as other:
        report(7), other(9), report(8)
        assert positions.positions(tmp_path) == 17
    assert positions.positions(tmp_path) == 0


def test_progress_of_lines_is_within_the_file(tmp_path):
    path, places = compressed(tmp_path), []
    assert len(list(input_lines(str(path), progress=places.append))) == 900
    assert places == sorted(places)
    assert len({place for place in places if 0 < place < size_as_stored(str(path))}) > 1
