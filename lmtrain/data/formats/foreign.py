"""Recognises files that no reader reads, so that they are not taken for text, and names a command to convert them."""

import re
from codecs import BOM_UTF8

from lmtrain.data.formats.encodings import encoding_argument, unmarked_wide
from lmtrain.data.formats.lines import head_lines
from lmtrain.data.formats.marked_up import Foreign, marked_up
from lmtrain.data.formats.streams import compression

_PANDOC = "Make text of it: pandoc --to plain --wrap none {file} --output NEW.txt"
_OFFICE = "Make text of it: libreoffice --headless --convert-to {to} {{file}}"
_UNPACK = "Unpack it first: {command} {{file}}"
_NOT_TEXT = "Leave it out"
_WORD = Foreign("a Word document", _OFFICE.format(to="txt:Text"))
_MAGIC: dict[bytes, Foreign] = {
    b"%PDF-": Foreign("a PDF document", "Make text of it: pdftotext {file} NEW.txt"),
    b"%!PS": Foreign("a PostScript document", "Make text of it: ps2ascii {file} NEW.txt"),
    b"{\\rtf": Foreign("an RTF document", _PANDOC),
    b"\xd0\xcf\x11\xe0": Foreign("an old Office document", _OFFICE.format(to="txt:Text")),
    b"SQLite format 3\0": Foreign("an SQLite database", "Write its text out: sqlite3 {file} 'SELECT text FROM TABLE'"),
    b"\x89PNG": Foreign("an image", "Read its text: tesseract {file} NEW"),
    b"\xff\xd8\xff": Foreign("an image", "Read its text: tesseract {file} NEW"),
    b"GIF8": Foreign("an image", "Read its text: tesseract {file} NEW"),
    b"II*\0": Foreign("an image", "Read its text: tesseract {file} NEW"),
    b"MM\0*": Foreign("an image", "Read its text: tesseract {file} NEW"),
    b"AT&TFORM": Foreign("a DjVu document", "Make text of it: djvutxt {file} NEW.txt"),
    b"RIFF": Foreign("a sound, image or film", _NOT_TEXT),
    b"OggS": Foreign("a sound or film", _NOT_TEXT),
    b"ID3": Foreign("a sound", _NOT_TEXT),
    b"fLaC": Foreign("a sound", _NOT_TEXT),
    b"\x7fELF": Foreign("an executable", _NOT_TEXT),
    b"MZ\x90": Foreign("an executable", _NOT_TEXT),
    b"\x93NUMPY": Foreign("a NumPy array", _NOT_TEXT),
    b"\x89HDF": Foreign("an HDF5 file", _NOT_TEXT),
    b"Obj\x01": Foreign("an Avro file", "Convert it to Parquet or JSON Lines"),
    b"ORC": Foreign("an ORC file", "Convert it to Parquet or JSON Lines"),
    b"FEA1": Foreign("an old Feather file", "Convert it to Parquet or JSON Lines"),
    b"7z\xbc\xaf'\x1c": Foreign("a 7z archive", _UNPACK.format(command="7z x")),
    b"Rar!\x1a": Foreign("a RAR archive", _UNPACK.format(command="unrar x")),
    b"\x04\x22\x4d\x18": Foreign("an lz4 file", _UNPACK.format(command="lz4 -d")),
    b"\x1f\x9d": Foreign("a file of compress", _UNPACK.format(command="gunzip")),
    b"\xff\x06\0\0sNaPpY": Foreign("a snappy file", _UNPACK.format(command="snzip -d")),
    b"filedesc://": Foreign("an ARC file", "Make WARC of it: warcio recompress {file} NEW.warc.gz"),
    b"\x80\4\x95": Foreign("a pickle", _NOT_TEXT),
    b"\x80\5\x95": Foreign("a pickle", _NOT_TEXT),
    b"!<arch>": Foreign("a package or library", _NOT_TEXT),
    b"version https://git-lfs": Foreign("a pointer of Git LFS, not the file itself", "Get the file: git lfs pull"),
}
_ZIP_ENTRY = re.compile(rb"PK\x03\x04.{22}(..)..", re.DOTALL)
_OFFICE_FOLDERS = {
    b"word/": _WORD,
    b"xl/": Foreign("an Excel table", _OFFICE.format(to="csv")),
    b"ppt/": Foreign("a PowerPoint document", _OFFICE.format(to="pdf") + " && pdftotext NEW.pdf"),
}
_OTHER_DOCUMENT = Foreign("a document of an office program, or a book", _OFFICE.format(to="txt:Text"))
_DOCUMENTS = {
    b"application/epub+zip": Foreign("an EPUB book", _PANDOC),
    b"vnd.oasis.opendocument.text": Foreign("an OpenDocument text", _PANDOC),
    b"vnd.oasis.opendocument.spreadsheet": Foreign("an OpenDocument table", _OFFICE.format(to="csv")),
}
_SQL = re.compile(
    r"\s*(?:CREATE (?:TABLE|DATABASE) (?:IF NOT EXISTS )?\S+ ?[(;]|INSERT INTO \S+ .*(?:VALUES|\()|"
    r"DROP TABLE IF EXISTS |LOAD DATA .*INFILE |LOCK TABLES |COPY .* FROM stdin;|PRAGMA \w+=)",
    re.IGNORECASE,
)
_SQL_BEGINS = re.compile(
    r"\s*(?:--|/\*|SET |INSERT |CREATE |DROP |USE |LOAD |BEGIN|START |PRAGMA |COPY )", re.IGNORECASE
)
_XML = re.compile(
    rb"\s*(?:<!--.*?-->\s*)?(?:<\?xml\b|<!DOCTYPE\s|<[\w:]+\s[^<>]*\bxmlns[:=]|<(?:rss|svg|TEI|teiCorpus)[\s>])",
    re.DOTALL,
)
_XML_FILE = Foreign(
    "XML", "Take its text out: xmlstarlet sel --text --template --match '//text()' --value-of . {file}", is_text=True
)
_SQL_DUMP = Foreign("SQL", "Load it into its database, and write the text out with a SELECT", is_text=True)
_PYTHONS_DICT = re.compile(r"\s*\{'[^']*': .*\}")
_PYTHONS_DICTS = Foreign(
    "Python's dictionaries, not JSON",
    "Make JSON Lines of it: python -c 'import ast, json, sys; [print(json.dumps(ast.literal_eval(line))) for line in "
    "sys.stdin]' < {file} > NEW.jsonl",
    is_text=True,
)
_TABLE_OF_NUMBERS = re.compile(r"\d+\t\S.*")


def foreign(head: bytes) -> Foreign | None:
    """What a file is that begins with `head`, if it is of a known kind that is not read; else None."""
    if kind := compression(head):
        return Foreign(f"{kind} data in a compressed file", "Decompress it once; then it is read")
    for magic, found in _MAGIC.items():
        if head.startswith(magic) and not (magic.isalnum() and _is_text(head)):
            return found
    if head.startswith(b"PK"):
        return _in_zip(head)
    if encoding := unmarked_wide(head) or _iso2022(head):
        return Foreign(f"text in {encoding}", f"Say so: {encoding_argument(encoding)}")
    if _is_binary(head):
        return Foreign("binary data", "See what it is: file {file}")
    if _XML.match(head.removeprefix(BOM_UTF8)):
        return _XML_FILE
    lines = head_lines(head)
    if lines and _SQL_BEGINS.match(lines[0]) and any(map(_SQL.match, lines)):
        return _SQL_DUMP
    if lines and 2 * sum(map(bool, map(_PYTHONS_DICT.fullmatch, lines))) > len(lines):
        return _PYTHONS_DICTS
    return marked_up(lines)


def _in_zip(head: bytes) -> Foreign | None:
    """What a zip archive is, if its files show that it is a document, a program or arrays; else None."""
    names = [head[found.end() : found.end() + found[1][0] + 256 * found[1][1]] for found in _ZIP_ENTRY.finditer(head)]
    if not names:
        return None
    if names[0] == b"mimetype":
        return next((found for mark, found in _DOCUMENTS.items() if mark in head[:200]), _OTHER_DOCUMENT)
    if b"[Content_Types].xml" in names:
        found = [found for folder, found in _OFFICE_FOLDERS.items() if any(name.startswith(folder) for name in names)]
        return found[0] if found else _OTHER_DOCUMENT
    return _OTHER_DOCUMENT if b"META-INF/container.xml" in names else _in_named_zip(names)


def _in_named_zip(names: list[bytes]) -> Foreign | None:
    if names[0].startswith(b"META-INF/"):
        return Foreign("a Java archive", _NOT_TEXT)
    if any(name.endswith(b"/data.pkl") for name in names):
        return Foreign("a PyTorch file", _NOT_TEXT)
    return Foreign("arrays of NumPy", _NOT_TEXT) if all(name.endswith(b".npy") for name in names) else None


def _is_text(head: bytes) -> bool:
    """Whether the beginning is text, so that what looks like a magic number is a word."""
    try:
        head[:4096].decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < min(len(head), 4096) - 3:
            return False
    return not any(head[:4096].count(byte) for byte in range(9))


def table_of_numbers(head: bytes) -> bool:
    """Whether all lines are numbered rows of a table, as in the files that accompany Leipzig's sentences."""
    lines = head_lines(head)
    return len(lines) > 1 and all(_TABLE_OF_NUMBERS.fullmatch(line) for line in lines)


TABLE_OF_NUMBERS = Foreign(
    "a table with a number in front of each row", "Say which column is the text: --format csv --field 2", is_text=True
)


def _iso2022(head: bytes) -> str | None:
    """The encoding of text that uses escape sequences, and so is valid ASCII and UTF-8; or None."""
    if re.search(rb"\x1b\$[@B]", head):
        return "iso2022_jp"
    return "iso2022_kr" if re.search(rb"\x1b\$\)C", head) else None


def _is_binary(head: bytes) -> bool:
    """Whether there are more zeros or control characters than in any text."""
    if not head:
        return False
    control = sum(head.count(byte) for byte in (*range(1, 7), *range(14, 27), *range(28, 32), 127))
    return head.count(0) > 0.01 * len(head) or control > 0.05 * len(head)
