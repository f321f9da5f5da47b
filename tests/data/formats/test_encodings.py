"""Text that is not UTF-8: read as what it is said to be, by all readers alike, and else refused with a guess."""

import gzip
import io
import json
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from corpora import sentences
from preparing import options, prepare, texts
from running import compose
from script_calls import call
from small_models import make_model

from lmtrain.config.saved import as_saved
from lmtrain.config.schema import check_config
from lmtrain.data.cache.text_cache import count_items
from lmtrain.data.corpus import find_corpus
from lmtrain.data.id_cache import TextFormat
from lmtrain.errors import UserError
from lmtrain.inference.scoring import score
from lmtrain.model_files.flair import save_language_model
from lmtrain.prepare.corpus_scan import scan_corpus
from lmtrain.training.text import prepare_text

RUSSIAN = "".join(f"Съешь же ещё этих мягких французских булок, {number}.\n" for number in range(300))
FRENCH = "".join(f"Voix ambiguë d'un été très chaud à Paris, {number}.\n" for number in range(300))
JAPANESE = "".join(f"今日は天気がいいので散歩に行きました {number}。\n" for number in range(300))
CHINESE = "".join(f"今天天气很好，我们一起去公园散步吧 {number}。\n" for number in range(300))
WRITTEN = [
    *((RUSSIAN, name) for name in ("windows-1251", "koi8-r", "utf-16-le", "utf-16-be")),
    *((FRENCH, name) for name in ("latin-1", "windows-1252")),
    *((JAPANESE, name) for name in ("shift_jis", "euc-jp", "iso2022_jp")),
    (CHINESE, "gb18030"),
]
MARKED = ["utf-8-sig", "utf-16", "utf-32"]


def prepared(text: str, folder: Path) -> dict[str, bytes]:
    (folder / "utf-8").write_text(text, encoding="utf-8")
    prepare([folder / "utf-8"], folder / "expected", options())
    return texts(folder / "expected")


@pytest.mark.parametrize(("text", "encoding"), WRITTEN)
def test_an_encoding_is_refused_until_it_is_said_and_then_read(text, encoding, tmp_path):
    expected = prepared(text, tmp_path)
    (tmp_path / "raw.txt").write_bytes(text.encode(encoding))
    (tmp_path / "raw.txt.gz").write_bytes(gzip.compress(text.encode(encoding)))
    for name in ("raw.txt", "raw.txt.gz"):
        with pytest.raises(UserError, match=r"raw\.txt.*(?:is not UTF-8|is text in).* --encoding ") as error:
            prepare([tmp_path / name], tmp_path / "corpus", options())
        assert not (tmp_path / "corpus").exists()
        if text != FRENCH:  # Latin letters fit several
            (said,) = [word for word in str(error.value).split("--encoding ")[1].split()[:1]]
            assert text.encode(encoding).decode(said) == text
        prepare([tmp_path / name], tmp_path / "read", options(encoding=encoding, block_size=1000), overwrite=True)
        assert texts(tmp_path / "read") == expected


def test_of_latin_letters_the_possible_words_are_shown(tmp_path):
    (tmp_path / "raw.txt").write_bytes(b"plain\n" * 20_000 + FRENCH.encode("latin-1"))
    place = 120_000 + FRENCH.index("ë")
    with pytest.raises(
        UserError, match=rf"byte 0xeb at offset {place} is not UTF-8 .*ambiguë d'un\" in windows-1252, "
    ):
        prepare([tmp_path / "raw.txt"], tmp_path / "corpus", options())
    (tmp_path / "raw.txt").write_bytes((RUSSIAN * 2).encode() + b"caf\xe9\n")
    with pytest.raises(UserError, match="The text around it is UTF-8, so it is damaged there"):
        prepare([tmp_path / "raw.txt"], tmp_path / "corpus", options())


@pytest.mark.parametrize("encoding", MARKED)
def test_a_byte_order_mark_says_what_a_file_is(encoding, tmp_path):
    expected = prepared(RUSSIAN, tmp_path)
    (tmp_path / "raw").write_bytes(RUSSIAN.replace("\n", "\r\n").encode(encoding))
    for chosen in (None, "windows-1251"):
        prepare([tmp_path / "raw"], tmp_path / "corpus", options(encoding=chosen, block_size=777), overwrite=True)
        assert texts(tmp_path / "corpus") == expected


def _formats(text: str, encoding: str) -> dict[str, bytes]:
    """Files of several formats that hold the lines of a text."""
    rows = text.splitlines()
    page = "".join(f"<p>{row}</p>\n" for row in rows)
    forms = {
        "records": "".join(json.dumps({"text": row}, ensure_ascii=False) + "\n" for row in rows),
        "array": json.dumps([{"text": row} for row in rows], ensure_ascii=False, indent=1),
        "table.csv": "id,text\n" + "".join(f'{number},"{row}"\n' for number, row in enumerate(rows)),
        "table.tsv": "id\ttext\n" + "".join(f"{number}\t{row}\n" for number, row in enumerate(rows)),
        "sentences": "".join(f"{number}\t{row}\n" for number, row in enumerate(rows, 1)),
        "wiki_00": f'<doc id="1" url="x" title="Т">\nТ\n{text}</doc>\n',
        "page": f"<!DOCTYPE html><html><head><title>x</title></head><body><article>{page}</article></body></html>",
        "trees": "".join(
            f"# text = {row}\n1\t{row.split()[0]}" + "\t_" * 4 + "\t0" + "\t_" * 3 + "\n\n" for row in rows
        ),
    }
    files = {name: form.encode(encoding) for name, form in forms.items()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("in/text.txt", text.encode(encoding))
    return files | {"packed.zip": packed.getvalue()}


@pytest.mark.parametrize("encoding", ["windows-1251", "utf-16"])
def test_every_format_is_read_in_the_encoding(encoding, tmp_path):
    expected = prepared(RUSSIAN, tmp_path)
    for name, content in _formats(RUSSIAN, encoding).items():
        (tmp_path / name).write_bytes(content)
        chosen = options(encoding=None if encoding == "utf-16" else encoding)
        manifest = prepare([tmp_path / name], tmp_path / "corpus", chosen, overwrite=True)
        assert texts(tmp_path / "corpus") == expected, name
        own = name in ("page", "packed.zip")
        assert manifest["sources"][0].get("encoding") == (
            None if own else {"windows-1251": "cp1251"}.get(encoding, encoding)
        )


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (RUSSIAN.encode(), "windows-1251", r"raw is UTF-8, not .*1251\. Read it by itself, without --encoding"),
        (FRENCH.encode("shift_jis", "replace") + b"\x81\n", "shift_jis", r"byte 0x81 at offset \d+ is not shift_jis"),
        (b"he said \x93yes\x94\n", "iso8859-1", r"byte 0x93 at offset 8 is a control character .* windows-1252"),
        (RUSSIAN.encode("utf-16-le"), "utf-16", r"no byte-order mark, so utf-16 .* utf-16-le or utf-16-be"),
        (b"PAR1" + bytes(200), "windows-1251", r"is Parquet, which states its encoding"),
    ],
)
def test_an_encoding_that_cannot_be_is_refused(content, encoding, message, tmp_path):
    (tmp_path / "raw").write_bytes(content)
    with pytest.raises(UserError, match=message):
        prepare([tmp_path / "raw"], tmp_path / "corpus", options(encoding=encoding))
    assert not (tmp_path / "corpus").exists()


@pytest.fixture
def in_1251(corpus_folder) -> tuple[Path, Path]:
    """A corpus in UTF-8, and the same in windows-1251."""
    parts = {"train": {"1.txt": RUSSIAN}, "valid": RUSSIAN[:4000], "test": RUSSIAN[:3000]}
    folder = corpus_folder(**parts)
    other = folder.with_name("other")
    for file in ("train/1.txt", "valid.txt", "test.txt"):
        (other / file).parent.mkdir(parents=True, exist_ok=True)
        (other / file).write_bytes((folder / file).read_text().encode("windows-1251"))
    return folder, other


def test_training_and_checking_read_a_corpus_in_its_encoding(in_1251, tmp_path):
    made = []
    for folder, more in zip(in_1251, ([], ["data.encoding=windows-1251"]), strict=True):
        values = compose(
            *("data=folder", f"data.path={folder}", f"data.cache_dir={tmp_path}/cache", "data.batch_size=2", *more)
        )
        text = prepare_text(check_config(values), 1)
        made.append((text.dictionary.items, [split.read()[0].tolist() for split in text.train]))
    assert made[0] == made[1]
    values = compose("data=folder", f"data.path={in_1251[1]}", f"data.cache_dir={tmp_path}/cache", "data.batch_size=2")
    with pytest.raises(
        UserError, match=r"train/1\.txt: byte 0xd1 at offset 0 .* data\.encoding=windows-1251 for train"
    ):
        prepare_text(check_config(values), 1)
    files = {"train": find_corpus(str(in_1251[1]), encoding="cp1251").train}
    assert scan_corpus(files, TextFormat(encoding="cp1251"))["train"].codes[ord("ё")] == 300
    (in_1251[1] / "train" / "1.txt").write_bytes(JAPANESE.encode("iso2022_jp"))
    with pytest.raises(UserError, match=r"train/1\.txt is text in iso2022_jp, .* data\.encoding=iso2022_jp"):
        find_corpus(str(in_1251[1]))
    with pytest.raises(UserError, match="is UTF-8, not cp1251"):
        find_corpus(str(in_1251[0]), encoding="cp1251")


def test_scripts_read_text_in_the_encoding_that_is_said(in_1251, tmp_path, capsys, monkeypatch):
    model = make_model()
    save_language_model(model, tmp_path / "best-lm.pt")
    right = score(model, [RUSSIAN[:3000]])[0].loss
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(RUSSIAN[:3000].encode("windows-1251"))))
    for file in (in_1251[1] / "test.txt", "-"):
        assert call("score", tmp_path / "best-lm.pt", file, "--json", "--encoding", "windows-1251") == 0
        assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(right)
    assert call("score", tmp_path / "best-lm.pt", in_1251[1] / "test.txt") == 2
    assert "It looks like windows-1251: 'Съешь же" in capsys.readouterr().err
    vectors = ("--output", tmp_path / "vectors.npz", "--encoding", "windows-1251")
    assert call("embed", tmp_path / "best-lm.pt", in_1251[1] / "valid.txt", *vectors) == 0
    for folder, more in zip(in_1251, ((), ("--encoding", "windows-1251")), strict=True):
        output = tmp_path / f"{folder.name}.json"
        assert call("build_dictionary", folder, *more, "--output", output, "--cache-dir", tmp_path / "cache") == 0
    assert (tmp_path / "corpus.json").read_bytes() == (tmp_path / "other.json").read_bytes()
    for name in ("windows-12511", "rot13", "idna"):
        with pytest.raises(SystemExit):
            call("score", tmp_path / "best-lm.pt", in_1251[1] / "test.txt", "--encoding", name)
        assert f"there is no encoding '{name}'; there are, for example, windows-1251" in capsys.readouterr().err


def test_the_same_text_as_before_has_the_same_place_in_the_cache(tmp_path):
    (tmp_path / "text").write_text(sentences(9))
    (file,) = find_corpus(str(tmp_path), train="text", valid="text", test="text").train
    count_items(file, TextFormat(), tmp_path / "cache")
    count_items(file, TextFormat(encoding="cp1251"), tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("counts-*"))) == 2


def test_a_run_that_began_before_there_was_the_key_goes_on() -> None:
    values = compose("data=demo")
    before = {**values, "data": {key: value for key, value in values["data"].items() if key != "encoding"}}
    assert as_saved(before) == as_saved(values)


def test_bytes_that_are_replaced_are_counted_and_said(tmp_path, capsys):
    (tmp_path / "raw.txt").write_bytes(FRENCH.encode("latin-1"))
    arguments = (tmp_path / "raw.txt", "--errors", "replace", "--valid", "0.1", "--test", "0.1", "--workers", "1")
    assert call("prepare_corpus", *arguments, "--output", tmp_path / "corpus") == 0
    lost = sum(not character.isascii() for character in FRENCH)
    assert f"Not in the encoding, and read as U+FFFD: {lost:,} times" in capsys.readouterr().out
    assert json.loads((tmp_path / "corpus/manifest.json").read_text())["sources"][0]["replaced"] == lost
