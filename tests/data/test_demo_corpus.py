"""The demo corpus: real text that is always the same, in several splits, no paragraph of which is in two parts."""

import os
import subprocess
import sys

import pytest

from lmtrain.data.corpus import find_corpus, read_text
from lmtrain.data.demo_corpus import make_demo_corpus


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def texts(cache) -> dict[str, str]:
    """The text of every file."""
    corpus = find_corpus(str(make_demo_corpus(cache)))
    return {file.name: "".join(read_text(file)) for file in corpus.files()}


def test_it_is_a_corpus_of_several_splits_of_some_megabytes(texts):
    train = [text for name, text in texts.items() if name.startswith("train/")]
    assert len(train) >= 3
    assert max(map(len, train)) < 1.5 * min(map(len, train))
    assert 1_000_000 < sum(map(len, texts.values())) < 6_000_000
    for part in ("valid.txt", "test.txt"):
        assert 0.03 < len(texts[part]) / sum(map(len, texts.values())) < 0.08


def test_no_paragraph_is_there_twice(texts):
    paragraphs = [paragraph for text in texts.values() for paragraph in text.splitlines()]
    assert len(set(paragraphs)) == len(paragraphs)


def test_it_is_english(texts):
    words = texts["train/part-1.txt"].split()
    assert words.count("the") > 0.03 * len(words)


def test_it_is_written_once(cache, texts):
    folder = make_demo_corpus(cache)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert make_demo_corpus(cache) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert len(before) == len(texts) + 1
    assert list(cache.iterdir()) == [folder]


def test_another_process_writes_the_same(texts, tmp_path):
    command = "import sys, pathlib, lmtrain.data.demo_corpus as d; print(d.make_demo_corpus(pathlib.Path(sys.argv[1])))"
    environment = {**os.environ, "PYTHONHASHSEED": "5", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", command, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    corpus = find_corpus(done.stdout.strip())
    assert {file.name: "".join(read_text(file)) for file in corpus.files()} == texts
