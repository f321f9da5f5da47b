"""Encoding: the ids are those of the text, and the cache never gives others than the text would."""

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from corpora import found, sentences
from hypothesis import given
from hypothesis import strategies as st

from lmtrain.data import corpus
from lmtrain.data.cache.text_cache import count_items, encode_file
from lmtrain.data.corpus import TextFile
from lmtrain.data.dictionary import Dictionary
from lmtrain.data.formats import streams
from lmtrain.data.id_cache import TextFormat
from lmtrain.errors import UserError

PLAIN = TextFormat()
CHARACTERS = Dictionary(["<unk>", *"\0\n abcdeABCäßéЯжщ語日本😀\N{WOMAN}\u200d"])


def written(folder: Path, text: str) -> TextFile:
    path = folder / "text.txt"
    path.write_bytes(text.encode())
    return found(path)


def state(folder: Path) -> dict[Path, int]:
    """Every file below a folder, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


# --- ids ---


@given(
    text=st.lists(st.sampled_from([*CHARACTERS.items[1:], "\n", " ", "?", "x", "Ω", "\n \n", "ab\tab"])).map("".join),
    delimiter=st.sampled_from(["\n", "ab"]),
    level=st.sampled_from(["character", "word"]),
    block=st.integers(1, 20),
)
def test_ids_and_ends_are_those_of_the_documents(text, delimiter, level, block):
    documents = [document + delimiter for document in text.split(delimiter) if document]
    if level == "character":
        dictionary = CHARACTERS
        items = [list(document) for document in documents]
    else:
        dictionary = Dictionary(["<unk>", "a", "b", "ab", "äßé", "語", "😀"])
        items = [words for words in (document.split() for document in documents) if words]
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "_DECODED_BYTES", block)
        patch.setattr(corpus, "_LONGEST_TAIL", block + 1)
        file, text_format = written(Path(name), text), TextFormat(level, delimiter)
        encoded = encode_file(file, text_format, dictionary, Path(name) / "cache")
        counts = count_items(file, text_format, Path(name) / "cache")
        assert encoded.ids().tolist() == [dictionary.ids.get(item, 0) for document in items for item in document]
        assert encoded.ends().tolist() == list(accumulate(map(len, items)))
    expected = Counter(item for document in items for item in document)
    assert counts == expected
    assert encoded.unknown == {item: count for item, count in expected.items() if item not in dictionary.ids}
    assert encoded.unknown_total == sum(encoded.unknown.values())
    assert (encoded.items, encoded.documents) == (expected.total(), len(items))


@pytest.mark.parametrize(
    "text", ["Latin é\n", "Кириллица ещё\n", "日本語のテキスト\n", "👩‍👩‍👧 😀\n", "NUL \0 character\n"]
)
def test_ids_are_what_the_dictionary_gives_for_the_text(text, tmp_path):
    dictionary = Dictionary(sorted({"<unk>", *text}))
    encoded = encode_file(written(tmp_path, text), TextFormat(), dictionary, tmp_path / "cache")
    assert encoded.ids().tolist() == dictionary.encode(text).tolist()
    assert dictionary.decode(encoded.ids()) == text


def test_large_dictionaries_get_larger_ids(tmp_path):
    words = [f"word{number}" for number in range(70_000)]
    dictionary = Dictionary(["<unk>", *words])
    encoded = encode_file(written(tmp_path, " ".join(words)), TextFormat("word"), dictionary, tmp_path / "cache")
    assert encoded.ids().tolist() == list(range(1, 70_001))


def test_a_dictionary_without_unk_is_refused_for_text_that_needs_it(tmp_path):
    file = written(tmp_path, "abcxx\n")
    with pytest.raises(UserError) as error:
        encode_file(file, TextFormat(), Dictionary("ab\n"), tmp_path / "cache")
    assert f"{file.url}: 3 items are not in the dictionary (3 items), which has no <unk>" in str(error.value)
    assert "'x' 'c'" in str(error.value)
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert encode_file(file, TextFormat(), Dictionary("abcx\n"), tmp_path / "cache").unknown_total == 0


# --- cache ---


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


def ids_and_counts(file: TextFile, cache: Path, text_format: TextFormat = PLAIN, dictionary=CHARACTERS):
    encoded = encode_file(file, text_format, dictionary, cache)
    return encoded.ids().tolist(), encoded.ends().tolist(), count_items(file, text_format, cache)


def test_text_is_encoded_once(tmp_path, cache):
    file = written(tmp_path, "abc\nabd\n")
    first = ids_and_counts(file, cache)
    before = state(cache)
    assert ids_and_counts(found(tmp_path / "text.txt"), cache) == first
    assert state(cache) == before


def test_a_changed_file_is_encoded_anew(tmp_path, cache):
    first = ids_and_counts(written(tmp_path, "abc\n"), cache)
    changed = written(tmp_path, "cba\n")
    os.utime(changed.url, ns=(1, 1))
    second = ids_and_counts(found(Path(changed.url)), cache)
    assert second[0] == first[0][2::-1] + first[0][3:]


def test_whatever_determines_the_ids_has_its_own_entry(tmp_path, cache):
    file = written(tmp_path, "ab cd\n")
    choices = [
        (TextFormat(), CHARACTERS),
        (TextFormat("word"), CHARACTERS),
        (TextFormat(document_delimiter=" "), CHARACTERS),
        (TextFormat(), Dictionary(["<unk>", *"abcd"])),
        (TextFormat(), Dictionary(["<unk>", *"dcba"])),
    ]
    alone = [ids_and_counts(file, cache / str(number), *choice) for number, choice in enumerate(choices)]
    together = [ids_and_counts(file, cache, *choice) for choice in choices * 2]
    assert together == alone * 2
    assert len(set(map(str, alone))) == len(choices)


def entry(cache: Path) -> Path:
    """The one encoded text in a cache."""
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    return folder


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("damage", ["missing", "truncated", "bit flipped", "longer"])
@pytest.mark.parametrize("name", ["ids.bin", "ends.bin", "meta.json", "counts"])
def test_a_damaged_cache_is_built_again(damage, name, tmp_path, cache):
    file = written(tmp_path, sentences(50))
    whole = ids_and_counts(file, cache)
    path = next(cache.glob("counts-*")) if name == "counts" else entry(cache) / name
    content = path.read_bytes()
    path.unlink()
    places = range(0, len(content), max(1, len(content) // 40)) if damage == "bit flipped" else [0]
    for place in places:
        if damage != "missing":
            damaged = {"truncated": content[:-1], "longer": content + b"\0", "bit flipped": flipped(content, place)}
            path.write_bytes(damaged[damage])
        assert ids_and_counts(file, cache) == whole
        assert path.read_bytes() == content


def test_what_a_killed_process_left_behind_is_no_entry(tmp_path, cache):
    file = written(tmp_path, "abc\n")
    whole = ids_and_counts(file, cache)
    folder = entry(cache)
    for unfinished in (folder, folder.with_name(f".{folder.name}.host.1.tmp")):
        if unfinished != folder:
            unfinished.mkdir()
        (unfinished / "meta.json").unlink(missing_ok=True)
        (unfinished / "ids.bin").write_bytes(b"")
        assert ids_and_counts(file, cache) == whole


ENCODE = """
import json, sys
from pathlib import Path
from lmtrain.data.corpus import TextFile
from lmtrain.data.dictionary import Dictionary
from lmtrain.data.id_cache import TextFormat
from lmtrain.data.cache.text_cache import count_items, encode_file
dictionary = Dictionary(json.loads(sys.argv[2]))
input()
for number in range(20):
    file = TextFile(sys.argv[1], "text", 0, str(number))
    encoded = encode_file(file, TextFormat(), dictionary, Path(sys.argv[3]))
    counts = count_items(file, TextFormat(), Path(sys.argv[3]))
    print(int(encoded.ids().sum()), encoded.documents, counts.total())
"""


def test_processes_that_build_the_same_entries_at_once_do_not_disturb_each_other(tmp_path, cache):
    text = sentences(20_000)
    file = written(tmp_path, text)
    command = [sys.executable, "-c", ENCODE, file.url, json.dumps(CHARACTERS.items), str(cache)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:  # they begin together
        process.stdin.write("\n")
        process.stdin.flush()
    results = [(*process.communicate(timeout=120), process.returncode) for process in processes]
    line = f"{CHARACTERS.encode(text).sum()} 20000 {len(text)}\n"
    assert results == [(line * 20, "", 0)] * 2
    assert not list(cache.glob(".*"))


def test_arrays_are_memory_mapped(tmp_path, cache):
    encoded = encode_file(written(tmp_path, "abc\n"), TextFormat(), CHARACTERS, cache)
    assert isinstance(encoded.ids(), np.memmap)
    assert isinstance(encoded.ends(), np.memmap)
