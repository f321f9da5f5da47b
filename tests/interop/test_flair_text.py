"""Text becomes the ids that Flair's own TextDataset gives for it."""

import pytest
from corpora import found
from flair.data import Dictionary as FlairDictionary
from flair.trainers.language_model_trainer import TextDataset

from lmtrain.data.cache.text_cache import encode_file
from lmtrain.data.dictionary import UNK, Dictionary
from lmtrain.data.id_cache import TextFormat
from lmtrain.data.splits import cut_splits
from lmtrain.data.stream import Stream

TEXTS = {
    "lines": b"The first line.\nthe second one\n",
    "no newline at the end": b"one line\nand a half",
    "empty lines": b"\n\none\n\n\n two  words\n \n\t\nend\n\n",
    "Windows line ends": b"one\r\ntwo\r\n\r\nthree",
    "old Mac line ends": b"one\rtwo\r\rthree\r",
    "alphabets": "Größe Łódź Ещё ὕδωρ 日本語 テキスト\n👩‍👩‍👧 e\u0301 ﬁ\n".encode(),
    "special characters": "BOM \ufeff NUL\0 \x0b\x0c\x1c\x85\u2028\u2029 spaces\u00a0\u3000.\n".encode(),
    "own delimiter": b"a document\nof lines<eod>\n<eod>another<eod><eod> the <eod last",
    "unknown items": b"QQ the Q\nQ\n",
    "nothing but delimiters": b"\n\n\n",
}


@pytest.mark.parametrize("delimiter", ["\n", "<eod>", "e"])
@pytest.mark.parametrize("level", ["character", "word"])
@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS)
def test_ids_are_those_of_flairs_text_dataset(content, level, delimiter, tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    text = path.read_text(encoding="utf-8")
    known = sorted(set(text.split() if level == "word" else text) - {"Q"})
    dictionary, flair_dictionary = Dictionary([UNK, *known]), FlairDictionary(add_unk=True)
    for item in known:
        flair_dictionary.add_item(item)
    encoded = encode_file(found(path), TextFormat(level, delimiter), dictionary, tmp_path / "cache")
    (split,) = cut_splits(encoded, 10**6)
    for forward in (True, False):
        flair_ids = TextDataset(
            path,
            flair_dictionary,
            forward=forward,
            split_on_char=level == "character",
            random_case_flip=False,
            document_delimiter=delimiter,
            shuffle=False,
        )[0]
        ids = Stream(split, backward=not forward).read(0, len(split))
        assert ids.tolist() == flair_ids.tolist()
