"""Tables in which a quotation mark is never closed: the row is counted, and no other is lost."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from preparing import everything, options, prepare
from script_calls import call

from lmtrain.data.formats import tables
from lmtrain.data.formats.reader import Tally
from lmtrain.data.formats.table_rows import rows_of

UNCLOSED = "a row with a quotation mark that is never closed"


def table(rows: list[str], delimiter: str, quoted: bool) -> list[str]:
    quote = '"' if quoted else ""
    return [f"id{delimiter}text\n", *(f"{n}{delimiter}{quote}{row}{quote}\n" for n, row in enumerate(rows, 1))]


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize("broken", [40, 199, 200])
def test_one_mark_swallows_no_other_row(tmp_path: Path, delimiter: str, quoted: bool, broken: int) -> None:
    rows = [f"sentence number {number}" for number in range(1, 201)]
    rows[150] = 'he said it is 12" wide'.replace('"', '""' if quoted else '"')
    lines = table(rows, delimiter, quoted)
    lines[broken] = f'{broken}{delimiter}"sentence that never ends\n'
    (tmp_path / "table.csv").write_text("".join(lines))
    manifest = prepare([tmp_path / "table.csv"], tmp_path / "corpus", options())
    left = [row.replace('""', '"') for number, row in enumerate(rows, 1) if number != broken]
    if not quoted or broken == 200:  # in such a table marks are text; and at its end one swallows nothing
        assert everything(tmp_path / "corpus") == sorted([*left, '"sentence that never ends'[quoted:]])
        return
    assert everything(tmp_path / "corpus") == sorted(left)
    assert manifest["sources"][0]["left_out"] == {UNCLOSED: 1}
    example = f"line {broken + 1}: {lines[broken].strip()}"
    assert manifest["sources"][0]["examples"] == {UNCLOSED: example}


def test_the_line_is_said(tmp_path: Path, capsys) -> None:
    lines = table([f"sentence {number}" for number in range(300)], ",", True)
    lines[6] = '6,"and so on\n'
    (tmp_path / "table.csv").write_text("".join(lines))
    arguments = ("--valid", "0.1", "--test", "0.1", "--workers", "1", "--output", tmp_path / "corpus")
    assert call("prepare_corpus", tmp_path / "table.csv", *arguments) == 0
    assert f'Passed over (csv): 1 × {UNCLOSED} (line 7: 6,"and so on)' in capsys.readouterr().out
    assert json.loads((tmp_path / "corpus/manifest.json").read_text())["sources"][0]["documents"] == 299


CELLS = st.text('ab"\n, \r', max_size=8)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6), st.sampled_from([",", "\t"]))
def test_what_the_csv_module_writes_is_read_as_it_reads_it(rows, delimiter) -> None:
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    text, tally = written.getvalue().replace("\r", "\n"), Tally()
    how = {"delimiter": delimiter, "quoting": csv.QUOTE_MINIMAL}
    read = list(rows_of(iter(text.splitlines(keepends=True)), how, "table", tally))
    assert read == list(csv.reader(text.splitlines(keepends=True), **how))
    assert not tally.left_out


def test_a_poem_in_a_cell_stays_whole() -> None:
    verses = "Roses are red,\nviolets are blue,\nsugar is sweet,\nand so are you."
    text = f'id,text,by\n1,"{verses}",me\n2,"{verses}",you\n'
    rows = list(rows_of(iter(text.splitlines(keepends=True)), {"delimiter": ","}, "table", Tally()))
    assert [row[1] for row in rows] == ["text", verses, verses]


CELLS = st.text('ab ".', max_size=8)


@given(
    rows=st.lists(st.lists(CELLS, min_size=1, max_size=3), min_size=5, max_size=8),
    delimiter=st.sampled_from("\t,;|"),
)
def test_what_begins_as_no_table_is_none_as_a_whole(rows, delimiter):
    text = "".join(f"{delimiter.join(row)}\n" for row in rows) * 200
    head = text.encode()[:5000]
    dialect = tables._dialect(head)
    if dialect is not None and dialect.regular() == 1:
        assert not tables._begins_irregularly(head)
