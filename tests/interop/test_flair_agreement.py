"""The same vectors, texts and perplexities as real Flair from the same file."""

import itertools
import random

import pytest
import torch
from flair.data import Dictionary as FlairDictionary
from flair.data import Sentence, Token
from flair.embeddings import FlairEmbeddings, StackedEmbeddings
from flair.models import LanguageModel as FlairLanguageModel

from lmtrain.data.dictionary import UNK, Dictionary
from lmtrain.inference.embeddings import StringEmbeddings, spaces_after
from lmtrain.inference.generation import generate
from lmtrain.inference.scoring import score
from lmtrain.model_files.flair import load_language_model

torch.set_num_threads(1)  # tensors are so small here that threads only cost, many times over on a busy machine

CHARACTERS = "\n \tabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,'-äöüßİıΣσςабвгдежзик日本語א0123456789"
KINDS = {
    "LSTM": {},
    "GRU of two layers": {"recurrent_type": "GRU", "nlayers": 2},
    "projected LSTM of two layers": {"nlayers": 2, "nout": 20},
}
TRICKY = [
    [],
    ["a"],
    ["\u200b"],
    ["\xa0", "a"],
    ["a", " ", "b"],
    ["\ufeff", "\u200d", "\u2060x"],
    ["", "empty", "", "ones"],
    ["x" * 700, "after", "y" * 300],
    ["日本語", "の", "文章", "です", "。"],
    ["שלום", "עולם"],
    ["Привет", ",", "мир"],
    ["İstanbul", "İİ", "ıI", "ΟΔΟΣ", "ΣΑΣ", "ẞß"],
    ["👩‍👩‍👧‍👦", "🙂", "x🙂y", "\U0010ffff"],
    ["☃", "꙳꙳꙳", "⟦⟧"],
    ["e\u0301", "\u0301", "नमस्ते"],
    ["line\nbreak", "tab\tstop", "\n", "end"],
]


def sentences(count: int = 230) -> list[list[str]]:
    """The tricky ones and random ones of all lengths."""
    choose = random.Random(7)
    alphabet = CHARACTERS.strip() + "☃🙂ñ"
    result = list(TRICKY)
    while len(result) < count:
        lengths = [min(1 + int(choose.expovariate(0.22)), 40) for _ in range(choose.randint(1, 30))]
        result.append(["".join(choose.choices(alphabet, k=length)) for length in lengths])
    return result


def make_flair_model(is_forward_lm: bool = True, items: str = CHARACTERS, add_unk: bool = True, **sizes):
    dictionary = FlairDictionary(add_unk=add_unk)
    for character in items:
        dictionary.add_item(character)
    torch.manual_seed(5)
    sizes = {"hidden_size": 32, "nlayers": 1, "embedding_size": 12, **sizes}
    model = FlairLanguageModel(dictionary, is_forward_lm, **sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)  # further from the even distribution of an untrained model
    return model.eval()


def saved_by_flair(folder, **settings):
    """A model as Flair has it and as lmtrain reads its file."""
    model = make_flair_model(**settings)
    model.save(folder / "best-lm.pt")
    return model, load_language_model(folder / "best-lm.pt")


def flair_vectors(embeddings, tokens: list[list[str]], spaces: list[list[int]]) -> list[torch.Tensor]:
    """What Flair embeds in one batch, without the empty tokens, which it drops."""
    batch = [
        Sentence([Token(token, whitespace_after=count) for token, count in zip(*row, strict=True)])
        for row in zip(tokens, spaces, strict=True)
    ]
    embeddings.embed(batch)
    return [torch.stack([token.get_embedding() for token in sentence]) for sentence in batch if len(sentence)]


def assert_same(ours: list[torch.Tensor], theirs: list[torch.Tensor], tokens: list[list[str]]) -> None:
    kept = [vectors[[bool(token) for token in row]] for vectors, row in zip(ours, tokens, strict=True)]
    kept = [vectors for vectors in kept if len(vectors)]
    assert len(kept) == len(theirs)
    assert [vectors.shape for vectors in kept] == [vectors.shape for vectors in theirs]
    assert max((one - other).abs().max().item() for one, other in zip(kept, theirs, strict=True)) <= 1e-5


@pytest.mark.parametrize("is_forward_lm", [True, False], ids=["forward", "backward"])
@pytest.mark.parametrize("chars_per_chunk", [512, 61])
def test_embeddings_with_every_option(tmp_path, is_forward_lm, chars_per_chunk):
    theirs, ours = saved_by_flair(tmp_path, is_forward_lm=is_forward_lm)
    tokens = sentences()
    choose = random.Random(1)
    spaces = [[choose.choice([0, 0, 1, 1, 1, 2, 5]) for _ in row] for row in tokens]
    for with_whitespace, tokenized_lm, is_lower in itertools.product([True, False], repeat=3):
        options = {"with_whitespace": with_whitespace, "tokenized_lm": tokenized_lm, "is_lower": is_lower}
        options["chars_per_chunk"] = chars_per_chunk
        expected = flair_vectors(FlairEmbeddings(theirs, **options), tokens, spaces)
        assert_same(StringEmbeddings(ours, **options).embed(tokens, spaces), expected, tokens)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("is_forward_lm", [True, False], ids=["forward", "backward"])
@pytest.mark.parametrize("document_delimiter", ["\n", "<end>", ""])
def test_embeddings_of_every_kind_of_model(tmp_path, kind, is_forward_lm, document_delimiter):
    settings = {"is_forward_lm": is_forward_lm, "document_delimiter": document_delimiter, **kind}
    theirs, ours = saved_by_flair(tmp_path, **settings)
    tokens = sentences(60)
    expected = flair_vectors(FlairEmbeddings(theirs), tokens, [[1] * len(row) for row in tokens])
    assert_same(StringEmbeddings(ours).embed(tokens), expected, tokens)


def test_embeddings_stacked_from_one_call(tmp_path):
    forward, our_forward = saved_by_flair(tmp_path)
    backward, our_backward = saved_by_flair(tmp_path, is_forward_lm=False, hidden_size=40)
    tokens = sentences(50)
    stacked = StackedEmbeddings([FlairEmbeddings(forward, name="f"), FlairEmbeddings(backward, name="g")])
    embeddings = StringEmbeddings(our_forward, our_backward)
    assert embeddings.embedding_length == stacked.embedding_length == 72
    assert_same(embeddings.embed(tokens), flair_vectors(stacked, tokens, [[1] * len(row) for row in tokens]), tokens)


def test_embeddings_of_a_dictionary_without_unk_give_unknown_characters_id_0(tmp_path):
    theirs, ours = saved_by_flair(tmp_path, add_unk=False)
    tokens = sentences(60)
    assert not ours.dictionary.has_unk
    expected = flair_vectors(FlairEmbeddings(theirs), tokens, [[1] * len(row) for row in tokens])
    assert_same(StringEmbeddings(ours).embed(tokens), expected, tokens)


def test_embeddings_of_white_space_that_flair_cuts_off(tmp_path):
    theirs, ours = saved_by_flair(tmp_path)
    tokens = [["ab", "\xa0", "\u3000"], ["\n"], ["a longer one so that Flair has something to read there", "."]]
    spaces = [[1] * len(row) for row in tokens]
    expected = flair_vectors(FlairEmbeddings(theirs, tokenized_lm=False), tokens, spaces)
    assert_same(StringEmbeddings(ours, tokenized_lm=False).embed(tokens, spaces), expected, tokens)


@pytest.mark.parametrize("text", ["The (brown) fox,  it's said, jumps.", "a", "Ein   langer   Abstand", "日本 語"])
def test_spaces_are_counted_as_flair_counts_them(text):
    sentence = Sentence(text)
    tokens = [token.text for token in sentence]
    assert spaces_after(tokens, text) == [token.whitespace_after for token in sentence]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("is_forward_lm", [True, False], ids=["forward", "backward"])
@pytest.mark.parametrize("prefix", ["\n", "", "The ", "☃ a"])
def test_greedy_text_and_its_log_probability(tmp_path, kind, is_forward_lm, prefix):
    theirs, ours = saved_by_flair(tmp_path, is_forward_lm=is_forward_lm, **kind)
    expected = theirs.generate_text(prefix if is_forward_lm else prefix[::-1], 120, temperature=1e-5)
    for text, mean in generate(ours, prefix, 120, temperature=0.0, samples=6):
        assert text == expected[0]
        assert mean == pytest.approx(expected[1], abs=1e-5)


def test_greedy_text_ends_where_flairs_does(tmp_path):
    theirs, ours = saved_by_flair(tmp_path)
    whole, _ = generate(ours, length=40, temperature=0)[0]
    stop = whole[20:22]
    expected = theirs.generate_text("\n", 40, temperature=1e-5, break_on_suffix=stop)
    text, mean = generate(ours, length=40, temperature=0, stop=stop)[0]
    assert (text, mean) == (expected[0], pytest.approx(expected[1], abs=1e-5))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_distribution_of_generated_characters(tmp_path, temperature):
    theirs, ours = saved_by_flair(tmp_path, items="\nabcdef")
    torch.manual_seed(0)
    count = 400
    expected = [theirs.generate_text("a", 3, temperature) for _ in range(count)]
    actual = generate(ours, "a", 3, temperature, samples=20 * count, seed=1)
    for position in (1, 2, 3):
        one, other = ([text.replace(UNK, "?")[position] for text, _ in texts] for texts in (expected, actual))
        for character in "?\nabcdef":
            share = other.count(character) / len(other)
            deviation = (share * (1 - share) / count) ** 0.5
            assert abs(one.count(character) / count - share) < 4 * deviation + 1e-9
    means = [torch.tensor([mean for _, mean in texts]).mean().item() for texts in (expected, actual)]
    assert means[0] == pytest.approx(means[1], abs=0.1)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("is_forward_lm", [True, False], ids=["forward", "backward"])
def test_perplexity(tmp_path, kind, is_forward_lm):
    theirs, ours = saved_by_flair(tmp_path, is_forward_lm=is_forward_lm, **kind)
    texts = [" ".join(row) for row in sentences(60)]
    texts = [text for text in texts if len(text) > 1]
    expected = [theirs.calculate_perplexity(text) for text in texts]
    assert [item.perplexity for item in score(ours, texts)] == pytest.approx(expected, rel=1e-5)


def test_dictionary_items_are_those_of_flair(tmp_path):
    theirs, ours = saved_by_flair(tmp_path)
    assert ours.dictionary == Dictionary(theirs.dictionary.get_items())
