"""Formats in which each line is a document or record: plain text, JSON Lines, the sentences of a Leipzig corpus."""

import json
import re

from lmtrain.data.formats.reader import TEXT_FIELDS, LineReader, Tally, Wanted, beginning, field_of

_NUMBERED = re.compile(r"(\d+)\t(.*)")
_NO_SENTENCE = re.compile(r"[\d.,\s]*|[a-z]+://\S+")


def head_lines(head: bytes, most: int = 50) -> list[str]:
    """The first lines that are not blank, without the last line of `head`, which may be cut off."""
    text = head.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line for line in (lines[:-1] if len(lines) > 1 else lines) if line.strip()][:most]


class Text(LineReader):
    """Documents between separators, by default lines; also for collections such as CC-100."""

    name, title = "text", "plain text"

    def recognises(self, head: bytes, name: str) -> bool:
        return True

    def cuts_lines(self, wanted: Wanted) -> bool:
        return self.separator(wanted) == "\n"

    def separator(self, wanted: Wanted) -> str:
        return wanted.separator()

    def of_lines(self, lines: list[str], wanted: Wanted, tally: Tally) -> list[str]:
        return lines


class JsonLines(LineReader):
    """A JSON object a line: OSCAR, C4, mC4, CulturaX, HPLT, WikiExtractor's --json, and CirrusSearch's dumps.

    Of CirrusSearch, in which a line about an article and the article alternate, articles (namespace 0) are read.
    """

    name, title = "jsonl", "JSON Lines"

    def recognises(self, head: bytes, name: str) -> bool:
        lines = head_lines(head)
        if lines and lines[0].startswith('"') and any("\\" in line for line in lines):
            return all(isinstance(_record(line), str) for line in lines)  # a text a line
        if not lines or not lines[0].lstrip().startswith("{"):
            return False
        records = [record for record in map(_record, lines) if isinstance(record, dict) and record]
        if len(lines) == 1 and records and not set(TEXT_FIELDS) & records[0].keys():
            return not any(isinstance(value, dict | list) for value in records[0].values())  # else it holds records
        return 2 * len(records) >= len(lines)

    def of_lines(self, lines: list[str], wanted: Wanted, tally: Tally) -> list[str]:
        documents = []
        for line in lines:
            if not line or line.isspace():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                tally.leave_out("a line is not JSON", f"{beginning(str(error))}: {beginning(line)}")
                continue
            if isinstance(record, dict):
                if len(record) == 1 and "index" in record:  # CirrusSearch's line about the next one
                    continue
                if record.get("namespace", 0) != 0 and "wiki" in record:
                    tally.leave_out("in another namespace than articles")
                    continue
            documents += field_of(record, wanted, tally)
        return documents


def _record(line: str):
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


class Leipzig(LineReader):
    """Sentences of the Leipzig Corpora Collection: number, tab, sentence. Other files of its archives are tables."""

    name, title = "leipzig", "numbered sentences (number, tab, sentence)"

    def recognises(self, head: bytes, name: str) -> bool:
        lines = head_lines(head)
        found = [match for match in map(_NUMBERED.fullmatch, lines) if match]
        sentences = [match for match in found if "\t" not in match[2] and not _NO_SENTENCE.fullmatch(match[2])]
        numbers = [int(match[1]) for match in found]
        if not lines or not _NUMBERED.fullmatch(lines[0]):  # the names of a table's columns
            return False
        if len(lines) < 2 or len(found) < 0.9 * len(lines) or numbers != sorted(set(numbers)):
            return False
        return len(sentences) >= 0.6 * len(lines)

    def of_lines(self, lines: list[str], wanted: Wanted, tally: Tally) -> list[str]:
        documents = []
        for line in filter(None, lines):
            number, tab, sentence = line.partition("\t")
            if tab and number.strip().isdigit():
                documents.append(sentence)
            elif line.strip():
                tally.leave_out("a line without number and tab", beginning(line))
        return documents
