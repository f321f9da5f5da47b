"""Dictionaries: which items they hold, and that items, ids and files agree."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtrain.data.dictionary import UNK, Dictionary, code_points
from lmtrain.errors import UserError

COUNTS = Counter({"c": 50, "b": 30, "a": 10, "d": 10})
some_items = st.lists(st.text(max_size=3), min_size=1, unique=True)

# --- counting ---


@pytest.mark.parametrize(
    ("choice", "items"),
    [
        ({}, "cbad"),
        ({"min_count": 11}, "cb"),
        ({"min_count": 51}, ""),
        ({"max_size": 1}, "c"),
        ({"coverage": 0.8}, "cb"),
        ({"coverage": 0.81}, "cba"),
        ({"coverage": 0.01}, "c"),
        ({"coverage": 0.8, "min_count": 40}, "c"),
    ],
)
def test_the_most_frequent_items_are_chosen(choice, items):
    assert Dictionary.from_counts(COUNTS, **choice).items == (UNK, *items)


@given(st.dictionaries(st.characters(), st.integers(1, 5)), st.randoms())
def test_the_order_of_counting_does_not_matter(counts, random):
    shuffled = random.sample(list(counts.items()), len(counts))
    dictionary = Dictionary.from_counts(Counter(counts))
    assert dictionary == Dictionary.from_counts(Counter(dict(shuffled)))
    assert set(dictionary.items) == {UNK, *counts}
    pairs = [(-counts[item], item) for item in dictionary.items[1:]]
    assert pairs == sorted(pairs)


def test_the_word_unk_in_a_text_is_the_unknown_item():
    dictionary = Dictionary.from_counts(Counter({"a": 1, UNK: 5}))
    assert dictionary.items == (UNK, "a")
    assert dictionary.encode_words(["a", UNK, "x"]).tolist() == [1, 0, 0]


# --- the general inventory ---


def test_the_general_inventory_covers_latin_greek_and_cyrillic_text():
    general = Dictionary.general()
    text = "Hello, World! 0123 \t\n~ÀßÿŁőſ Ωωάϊ Ђяѣ “quotes” ‘’ – — … • € £ ₴ № ™ «»\xa0"
    assert 0 not in general.encode(text)
    assert general.encode("語").tolist() == [0]
    assert general.items[0] == UNK


def test_the_general_inventory_is_the_same_everywhere():
    # models are trained with it: neither another Python nor another version of lmtrain may change it
    general = Dictionary.general()
    assert (len(general), general.fingerprint) == (865, "307fbe1b0d6c59ff")


# --- ids ---


@given(some_items)
def test_items_come_back_from_their_ids(items):
    dictionary = Dictionary(items)
    assert dictionary.decode(dictionary.encode_words(items)) == "".join(items)


@given(st.text())
def test_text_comes_back_from_its_ids(text):
    dictionary = Dictionary([UNK, *sorted(set(text))])
    assert dictionary.decode(dictionary.encode(text)) == text
    assert code_points(text).tolist() == list(map(ord, text))


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(1, np.uint8), (255, np.uint8), (256, np.uint16), (257, np.uint16), (65_535, np.uint16), (65_536, np.uint32)],
)
@pytest.mark.parametrize("first", [UNK, "\ue000"])
def test_ids_have_the_smallest_type_that_holds_them_and_one_for_what_is_missing(size, dtype, first):
    dictionary = Dictionary([first, *map(chr, range(0x10000, 0x10000 + size - 1))])
    last, unknown = dictionary.items[-1], "\U000fffff"
    ids = dictionary.encode_code_points(code_points(f"{chr(0x10000)}{unknown}"))
    assert ids.dtype == dictionary.encode_words([unknown]).dtype == dtype
    assert ids[1] == dictionary.encode_words([unknown])[0] == (0 if first == UNK else size)
    assert size == 1 or dictionary.decode(dictionary.encode(last)) == last


def test_text_with_unknown_characters_needs_unk():
    assert Dictionary([UNK, "a"]).encode("ab").tolist() == [1, 0]
    with pytest.raises(UserError, match="'b' is not in the dictionary, which has no <unk>"):
        Dictionary("a").encode("ab")


@given(some_items, some_items)
def test_only_equal_dictionaries_have_the_same_fingerprint(first, second):
    first, second = Dictionary(first), Dictionary(second)
    assert (first.fingerprint == second.fingerprint) == (first == second)


def test_fingerprints_tell_items_with_nul_characters_apart():
    assert Dictionary(["a", "\0", "b"]).fingerprint != Dictionary(["a\0\0\0b"]).fingerprint


# --- case ---


def test_the_case_of_letters_changes_where_length_and_coverage_stay():
    dictionary = Dictionary([UNK, *"aAéÉяЯıIiİßSsΣσς1 語😀"])
    lower, upper = (
        {item: dictionary.items[index] for item, index in zip(dictionary.items, table, strict=True)}
        for table in dictionary.case_tables()
    )
    assert [lower[letter] for letter in "aAÉЯ"] == list("aaéя")
    assert [upper[letter] for letter in "aAéя"] == list("AAÉЯ")
    assert (upper["ı"], lower["I"], upper["i"]) == ("I", "i", "I")
    assert lower["İ"] == "İ"  # its lower case has two characters
    assert upper["ß"] == "ß"  # SS
    assert (lower["Σ"], upper["σ"], upper["ς"], lower["ς"]) == ("σ", "Σ", "Σ", "ς")
    assert (lower[UNK], upper[UNK]) == (UNK, UNK)


def test_letters_whose_other_case_is_unknown_stay():
    dictionary = Dictionary([UNK, "a", "B"])
    lower, upper = dictionary.case_tables()
    assert lower.tolist() == upper.tolist() == [0, 1, 2]


def test_words_change_case_as_a_whole():
    dictionary = Dictionary([UNK, "the", "THE", "Straße", "STRASSE", "<UNK>"])
    lower, upper = dictionary.case_tables()
    assert lower.tolist() == [0, 1, 1, 3, 4, 0]
    assert upper.tolist() == [0, 2, 2, 4, 4, 5]


# --- the file ---


@given(items=some_items)
def test_a_dictionary_comes_back_from_its_file(items, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "dictionary.json"
    Dictionary(items).save(path)
    assert Dictionary.load(path) == Dictionary(items)


def test_lone_surrogates_come_back_from_a_file(tmp_path):
    Dictionary(["\ud83d", "\ude00", "\ud83d\ude00", "😀"]).save(tmp_path / "d.json")
    assert Dictionary.load(tmp_path / "d.json").items == ("\ud83d", "\ude00", "\ud83d\ude00", "😀")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is not a dictionary"),
        (b"\xff\xfe", "is not a dictionary"),
        (b"[]", "is not a dictionary"),
        (b"{}", "is not a dictionary"),
        (b'{"items": "abc"}', "items is not a list of strings"),
        (b'{"items": ["a", 1]}', "items is not a list of strings"),
        (b'{"items": []}', "has no items"),
        (b'{"items": ["a", "b", "a"]}', "holds 'a' more than once"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_is_no_dictionary_is_refused_by_name(content, what, tmp_path):
    path = tmp_path / "dictionary.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as error:
        Dictionary.load(path)
    assert str(path) in str(error.value)
    assert what in str(error.value)
