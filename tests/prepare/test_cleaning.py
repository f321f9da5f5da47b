"""What each step of the preparation does to documents."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtrain.data.corpus import document_blocks
from lmtrain.prepare.cleaning import BOILERPLATE, Cleaning


@pytest.mark.parametrize(
    ("cleaning", "before", "after"),
    [
        (Cleaning(), "e\u0301te\u0301", "été"),
        (Cleaning(normalize=None), "e\u0301te\u0301", "e\u0301te\u0301"),
        (Cleaning(normalize="NFKC"), "ﬁn\u2003Ａ", "fin A"),
        (Cleaning(), "\ufeffa\x00b\x1bc\x9fd\ufffee\tf", "abcde\tf"),
        (Cleaning(), "one\u2028two\x0cthree\x85four", "one two three four"),
        (Cleaning(remove_control=False), "a\x1bb", "a\x1bb"),
        (Cleaning(), " \u3000 indented \t", "indented"),
        (Cleaning(trim=False), " indented ", " indented "),
        (Cleaning(), "क्षत्रिय ไทย ZWJ\u200d", "क्षत्रिय ไทย ZWJ\u200d"),
        (Cleaning(min_length=3), "ab", None),
        (Cleaning(max_length=3), "abcd", None),
        (Cleaning(min_letters=0.6), "12.5 | 13.0 | 14,200 | x", None),
        (Cleaning(min_letters=0.6), "हिन्दी में लिखा हुआ वाक्य।", "हिन्दी में लिखा हुआ वाक्य।"),
        (Cleaning(min_letters=0.6), "日本語の文です。", "日本語の文です。"),
        (Cleaning(max_repeats=0.2), "Contents ................ 12", None),
        (Cleaning(max_repeats=0.2), "Balloons will keep floating.", "Balloons will keep floating."),
        (Cleaning(max_markup=0.2), '<a href="x.html">Home</a> &nbsp; next', None),
        (Cleaning(max_markup=0.2), "https://example.org/a/long/address see", None),
        (Cleaning(max_markup=0.2), "<br>words", None),
        (Cleaning(max_markup=0), "a text of some length with one &amp; in it", None),
        (Cleaning(max_markup=0), "a text of some length", "a text of some length"),
        (Cleaning(max_repeats=0), "a text of some lenggth", None),
        (Cleaning(max_repeats=0), "a text of some length", "a text of some length"),
        (
            Cleaning(max_markup=0.5),
            "详见https://a.cn。中文里链接后面没有空格，文字直接接着写",
            "详见https://a.cn。中文里链接后面没有空格，文字直接接着写",
        ),
        (
            Cleaning(max_markup=0.7),
            '<a href="https://example.org">ten or more</a>',
            None,
        ),
        (
            Cleaning(max_markup=0.8),
            '<a href="https://example.org">ten or more</a>',
            '<a href="https://example.org">ten or more</a>',
        ),
        (
            Cleaning(max_markup=0.2),
            "x < y and y > z, as https://a.de says to all who read it now",
            "x < y and y > z, as https://a.de says to all who read it now",
        ),
    ],
)
def test_steps(cleaning: Cleaning, before: str, after: str | None) -> None:
    documents = ["wor", before, "ds"] if cleaning.max_length else ["words before", before, "words after"]
    first, *_, last = documents
    for _, step in cleaning.steps("\n"):
        documents = step(documents)
    assert documents == [first, *([] if after is None else [after]), last]


def test_filters_judge_each_document_by_itself() -> None:
    steps = Cleaning(**BOILERPLATE).steps("\n")
    documents = [*(f"{'-' * length}{'words of text ' * 3}" for length in range(60)), "a", "b", "<br>", "-"]

    def clean(some: list[str]) -> list[str]:
        for _, step in steps:
            some = step(some)
        return some

    assert clean(documents) == [kept for document in documents for kept in clean([document])]
    assert 5 < len(clean(documents)) < 60


@given(
    st.lists(st.text("ab\n| ", max_size=8), max_size=6), st.sampled_from(["\n", "\n\n", "|", "ab", "a a", " ", "\n \n"])
)
def test_written_documents_are_read_as_they_were_written(documents: list[str], delimiter: str) -> None:
    for trim in (True, False):
        cleaned = documents
        for _, step in Cleaning(trim=trim).steps(delimiter):
            cleaned = step(cleaned)
        text = "".join(document + delimiter for document in cleaned)
        read = [document for block in document_blocks([text], delimiter) for document in block]
        assert read == [document + delimiter for document in cleaned]
