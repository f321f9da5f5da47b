"""Recognises texts with markup that no reader here removes (LaTeX, e-mail, ...), and names a command that does."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Foreign:
    """A known kind of file that is not read.

    Args:
        title: for messages: "a PDF document".
        remedy: a sentence with the command that makes text of the file, `{file}`.
        is_text: whether it consists of characters, so that somebody may want to train on it unchanged.
    """

    title: str
    remedy: str
    is_text: bool = False


_TAG = re.compile(r"</?(?!(?:s|unk|eos|bos|pad|num)>)[A-Za-z][\w:.-]*(?:\s[^<>]*)?/?>")  # but for tokens such as <unk>
_LATEX = re.compile(r"\s*\\(?:documentclass|usepackage|begin\{document\})")
_LATEX_LINE = re.compile(r"\s*\\(?:begin|end|(?:sub)*section|chapter|paragraph|item|label|title|author)\b")
_MAIL_BEGINS = re.compile(r"From \S+ .*\d\d:\d\d:\d\d")
_MAIL_HEADER = re.compile(
    r"(?:From|To|Received|Return-Path|Delivered-To|Subject|Date|Message-ID|MIME-Version|Content-Type): ", re.IGNORECASE
)
_FRAMES, _SCRIPT = re.compile(r"\{\d+\}\{\d+\}"), re.compile(r"\[Script Info\]")
_SONG = re.compile(r"(?:\[\d+:\d\d(?:[.:]\d+)?\])+|\[[a-z]+:.*\]\s*$")
_TREEBANK = re.compile(r"(?=.* _(?: |$))\d+(?:[-.]\d+)? +\S+(?: +\S+){8} *$")
_BOOK_OF_THE_BIBLE, _CONVERSATION = re.compile(r"\\id \w{3}\b"), re.compile(r"@(?:UTF8|Begin)\s*$")
_WIKI_LINK = re.compile(r".*\[\[[^\[\]]+\]\]")
_WIKI_LINE = re.compile(r"\{\{|==.*==\s*$|\'\'\'|\[\[\w+:|\{\|")
_BIBLIOGRAPHY = re.compile(r"@[a-zA-Z]+\{[^{},]*,\s*$")


def _share(pattern: re.Pattern[str], lines: Sequence[str]) -> float:
    return sum(map(bool, map(pattern.match, lines))) / len(lines)


def _has_tags(lines: Sequence[str]) -> bool:
    tagged = sum(map(bool, map(_TAG.search, lines)))
    is_closed = any("</" in line for line in lines) or sum(bool(_TAG.fullmatch(line.strip())) for line in lines) > 2
    return bool(_TAG.match(lines[0].strip())) and tagged > 0.3 * len(lines) and is_closed


def _is_mail(lines: Sequence[str]) -> bool:
    headers = list(map(_MAIL_HEADER.match, lines[:6]))
    return bool(headers[0]) and sum(map(bool, headers)) > 1


_BODY = '.get_body(("plain",))'
_MAILBOX = (
    "Take its text out: python -c 'import email.policy, mailbox, sys; "
    "read = lambda file: email.message_from_binary_file(file, policy=email.policy.default); "
    f"bodies = [mail{_BODY} for mail in mailbox.mbox(sys.argv[1], read)]; "
    "print(*[body.get_content() for body in bodies if body])' {file} > NEW"
)
_MAIL = (
    "Take its text out: python -c 'import email.policy, sys; "
    f'print(email.message_from_binary_file(open(sys.argv[1], "rb"), policy=email.policy.default){_BODY}.get_content())'
    "' {file} > NEW"
)


_KINDS: tuple[tuple[Callable[[Sequence[str]], bool], Foreign], ...] = (
    (
        _has_tags,
        Foreign(
            "text with tags (XML, SGML or HTML)",
            "Take them out: sed -E 's/<[^>]*>//g' {file} > NEW; HTML is read with --format html",
            True,
        ),
    ),
    (
        lambda lines: any(map(_LATEX.match, lines)) or _share(_LATEX_LINE, lines) > 0.2,
        Foreign("LaTeX", "Make text of it: pandoc --from latex --to plain --wrap none {file} --output NEW.txt", True),
    ),
    (lambda lines: bool(_MAIL_BEGINS.match(lines[0])), Foreign("a mailbox", _MAILBOX, True)),
    (_is_mail, Foreign("e-mail", _MAIL, True)),
    (
        lambda lines: _share(_FRAMES, lines) > 0.8 or bool(_SCRIPT.match(lines[0])),
        Foreign("subtitles of another kind than SubRip", "Convert them: ffmpeg -i {file} NEW.srt", True),
    ),
    (
        lambda lines: _share(_SONG, lines) > 0.8,
        Foreign("a song with times", r"Take them out: sed -E 's/^(\[[^]]*\])+//' {file} > NEW", True),
    ),
    (
        lambda lines: _share(_TREEBANK, [line for line in lines if line[0] != "#"] or lines) > 0.9,
        Foreign("CoNLL-U with spaces for tabs", r"Put tabs there: sed -E '/^#/! s/ +/\t/g' {file} > NEW.conllu", True),
    ),
    (
        lambda lines: bool(_BOOK_OF_THE_BIBLE.match(lines[0])),
        Foreign("USFM", r"Take its marks out: sed -E 's/\\[a-z0-9+]+\*? ?//g' {file} > NEW", True),
    ),
    (
        lambda lines: bool(_CONVERSATION.match(lines[0])),
        Foreign("a transcript in CHAT", r"Take what is said: grep '^\*' {file} | cut -f 2 > NEW", True),
    ),
    (
        lambda lines: min(_share(_WIKI_LINK, lines), _share(_WIKI_LINE, lines)) > max(0.1, 1 / len(lines)),
        Foreign("wikitext", "Make text of it: pandoc --from mediawiki --to plain --wrap none {file} -o NEW.txt", True),
    ),
    (lambda lines: bool(_BIBLIOGRAPHY.match(lines[0])), Foreign("a bibliography (BibTeX)", "Leave it out", True)),
)


def marked_up(lines: Sequence[str]) -> Foreign | None:
    """What kind of markup text has that begins with these lines, or None."""
    return next((kind for is_so, kind in _KINDS if lines and is_so(lines)), None)
