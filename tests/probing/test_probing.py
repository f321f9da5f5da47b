"""What embeddings are worth: tagged text read, entities counted, and probes whose right answer is known."""

import gzip
import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from script_calls import call
from seqeval.metrics import f1_score
from small_models import make_model
from tagged import BOTH_MODELS, FILES, read, tagged_by_what_stands_before, write_columns, write_models_and_files

from lmtrain.errors import UserError
from lmtrain.inference.embeddings import StringEmbeddings
from lmtrain.model_files.flair import save_language_model
from lmtrain.probing.entities import are_entity_tags, entities_of, entity_f1
from lmtrain.probing.experiment import (
    BOTH,
    EMBEDDINGS,
    EMBEDDINGS_AROUND,
    MAJORITY,
    NGRAMS,
    NGRAMS_AROUND,
    curve,
)
from lmtrain.probing.features import components, with_neighbours
from lmtrain.probing.material import Material, drawn, read_material
from lmtrain.probing.tagged_text import TaggedSentence, read_tagged_sentences


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        ("O B-PER I-PER O", [("PER", 1, 2)]),
        ("B-PER B-PER", [("PER", 0, 0), ("PER", 1, 1)]),
        ("I-PER I-PER O I-LOC", [("PER", 0, 1), ("LOC", 3, 3)]),  # IOB1, or what a probe may find
        ("B-PER I-LOC", [("PER", 0, 0), ("LOC", 1, 1)]),
        ("S-LOC B-PER E-PER E-PER", [("LOC", 0, 0), ("PER", 1, 2), ("PER", 3, 3)]),
        ("S-LOC I-LOC", [("LOC", 0, 0), ("LOC", 1, 1)]),
        ("U-LOC B-PER L-PER U-PER", [("LOC", 0, 0), ("PER", 1, 2), ("PER", 3, 3)]),
        ("B-A-B I-A-B", [("A-B", 0, 1)]),
        ("O O", []),
        ("", []),
    ],
)
def test_entities(tags, entities):
    assert entities_of(tags.split()) == entities


def test_the_f1_of_entities_counted_by_hand():
    truth = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "O"]]
    found = [["B-PER", "I-PER", "O", "B-ORG"], ["B-LOC", "I-LOC"]]
    assert entity_f1(truth, found) == pytest.approx(2 * 1 / (3 + 3))  # only Peter Pan: a type and an end are wrong
    assert entity_f1(truth, truth) == 1
    assert entity_f1([["O"]], [["O"]]) == entity_f1([["O"]], [["B-LOC"]]) == 0
    assert entity_f1([["O", "I-LOC"], ["I-LOC"]], [["O", "B-LOC"], ["B-LOC"]]) == 1  # none goes over a sentence's end


TAGS = st.sampled_from(["O", *(f"{place}-{kind}" for place in "BIES" for kind in ("LOC", "PER", "A-B"))])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning", "ignore:invalid value")
@given(st.lists(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=8), min_size=1, max_size=4))
def test_the_f1_is_seqevals(sentences):
    truth, found = ([[pair[side] for pair in one] for one in sentences] for side in (0, 1))
    assert entity_f1(truth, found) == pytest.approx(f1_score(truth, found, zero_division=0))


def test_which_tags_are_of_entities():
    assert are_entity_tags(["O", "B-LOC", "I-LOC", "S-a-b"])
    assert not are_entity_tags(["O"])
    assert not are_entity_tags(["O", "B-LOC", "NOUN"])
    assert not are_entity_tags(["B", "I", "O"])


CONLLU = """\
# text = We don't know.
1\tWe\twe\tPRON\tPRP\t_\t4\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
3.1\tnothing\t_\tX\t_\t_\t_\t_\t4:obj\t_
4\tknow\tknow\tVERB\tVB\t_\t0\troot\t_\tSpaceAfter=No
5\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_

# text = vámonos
1-2\tvámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tvamos\tir\tVERB\tV\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\tP\t_\t1\tobj\t_\t_
"""


def test_conllu_has_the_tags_of_words_and_not_of_ranges_and_empty_nodes(tmp_path):
    (tmp_path / "a.conllu.gz").write_bytes(gzip.compress(CONLLU.encode()))
    first, second = read_tagged_sentences(tmp_path / "a.conllu.gz")
    assert first == TaggedSentence(
        ["We", "do", "n't", "know", "."], [1, 0, 1, 0, 1], ["PRON", "AUX", "PART", "VERB", "PUNCT"]
    )
    assert (second.tokens, second.tags) == (["vamos", "nos"], ["VERB", "PRON"])
    assert read_tagged_sentences(tmp_path / "a.conllu.gz", 4)[0].tags == ["PRP", "VBP", "RB", "VB", "."]
    assert read_tagged_sentences(tmp_path / "a.conllu.gz", -3)[1].tags == ["root", "obj"]


@pytest.mark.parametrize(
    ("text", "options", "tokens", "tags"),
    [
        ("-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\n", {}, "EU rejects", "B-ORG O"),
        ("EU NNP B-ORG\n# NN O\n", {"column": 1}, "EU #", "NNP NN"),
        ("1\tEU\tB-ORG\tO\n2\ta b\tO\tO\n", {"column": 2, "token_column": 1}, "EU|a b", "B-ORG O"),
        ("de:EU\tB-ORG\nde:lehnt\tO\n", {}, "EU lehnt", "B-ORG O"),
        ("de:EU\tB-ORG\nlehnt\tO\n", {}, "de:EU lehnt", "B-ORG O"),
        ("# newdoc id = x y\n#EU\tB-ORG\n#\tO\n", {}, "#EU #", "B-ORG O"),
        ("% a b\nEU B\nis O\n", {"comment": "%"}, "EU is", "B O"),
        ("\ufeffEU B\r\nis O\r\n", {}, "EU is", "B O"),
    ],
)
def test_columns(text, options, tokens, tags, tmp_path):
    (tmp_path / "a").write_text(text, encoding="utf-8", newline="")
    (sentence,) = read_tagged_sentences(tmp_path / "a", **options)
    assert sentence.tokens == (tokens.split("|") if "|" in tokens else tokens.split())
    assert sentence.tags == tags.split()


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("", {}, "has no sentences"),
        (
            "EU\nrejects\n",
            {},
            "line 1: the token and its tag would be the same column: the line has 1 column, 0: 'EU'.",
        ),
        ("EU B\nis O\n", {"column": 2}, "line 1: --column 2: the line has 2 columns, 0: 'EU', 1: 'B'."),
        ("EU B\nis O\n", {"column": -2}, "would be the same column"),
        ("EU B\nis O\n", {"token_column": -3}, "--token-column -3"),
        ("EU B\nis O x\nGB\n", {"column": 1}, "line 3: --column 1: the line has 1 column"),
        ("EU O\nis O\n", {}, "column -1 is 'O' everywhere, so there is nothing to learn. Choose another column"),
        ("EU _\nis _\n", {}, "column -1 has no tags"),
        ("EU\tB\n\tO\n", {}, "line 2: a token or its tag is empty"),
        (CONLLU, {"column": 10}, "--column 10: CoNLL-U has 10 columns"),
        (CONLLU + "3\tx\n", {}, "is not CoNLL-U, which the lines before are"),
        ("".join(f"a w{number}\n" for number in range(300)), {}, "300 different values in 300 tokens, such as 'w0'"),
    ],
)
def test_what_is_no_tagged_text_is_refused_by_line_and_column(text, options, words, tmp_path):
    (tmp_path / "a").write_text(text)
    with pytest.raises(UserError) as caught:
        read_tagged_sentences(tmp_path / "a", **options)
    assert words in str(caught.value)
    assert str(tmp_path / "a") in str(caught.value)


def test_both_files_are_looked_at_together(tmp_path):
    def material(train: str, test: str) -> Material:
        (tmp_path / "train").write_text(train)
        (tmp_path / "test").write_text(test)
        return read_material(tmp_path / "train", tmp_path / "test")

    with pytest.raises(UserError) as caught:
        material("", "EU O\nis O\n")
    assert len(caught.value.problems) == 2
    with pytest.raises(UserError, match="train has one sentence"):
        material("EU B-ORG\nis O\n", "GB B-ORG\n\nx O\n")
    with pytest.raises(UserError, match=r"All sentences of .*test are in .*train, too"):
        material("EU B-ORG\nis O\n\nx O\n", "EU B-ORG\nis O\n")
    with pytest.raises(UserError, match="have no tag in common: B-ORG and B-Organisation"):
        material("EU B-ORG\nis O\n\nx O\n", "GB B-Organisation\nis O\n")
    found = material("EU B-ORG\nis O\n\nx O\n", "GB B-ORG\nby B-LOC\n\nx O\n")
    assert found.has_entities
    assert [remark.partition(f"{tmp_path}/test")[0] for remark in found.remarks] == [
        "1 tags of ",
        "1 of 2 sentences of ",
    ]


def probe(material: Material, *models, sizes=(100,), seeds=(1,)) -> dict[str, float]:
    results = list(curve(material, StringEmbeddings(*models), sizes, seeds, 60))
    return {one.features: one.figures.accuracy for one in results if one.sentences == sizes[-1]}


@pytest.mark.parametrize("distance", [2, -2])
def test_what_stands_further_away_is_seen_by_the_model_that_has_read_it_and_by_no_ngrams(distance):
    """The tag is a function of the letter two places before (after), which the n-grams of neighbours do not reach."""
    parts = (read(tagged_by_what_stands_before(200, seed, distance)) for seed in (1, 2))
    material = Material(*parts, has_entities=False, remarks=[])
    forward, backward = (make_model(is_forward_lm=direction, hidden_size=96) for direction in (True, False))
    knows, knows_not = (forward, backward) if distance > 0 else (backward, forward)
    most = probe(material, knows)
    none = probe(material, knows_not)
    assert min(most[EMBEDDINGS], most[EMBEDDINGS_AROUND], most[BOTH]) > 0.9
    chance = 5 / 8  # of 8 letters two have nothing there, which n-grams may see at one, and of the others guess half
    assert max(most[NGRAMS], most[NGRAMS_AROUND], none[EMBEDDINGS]) < chance + 0.1
    assert none[NGRAMS_AROUND] == most[NGRAMS_AROUND]


def test_the_word_before_is_seen_by_ngrams_of_neighbours_and_by_the_vector_itself():
    parts = (read(tagged_by_what_stands_before(100, seed, 1)) for seed in (1, 2))
    found = probe(Material(*parts, has_entities=False, remarks=[]), make_model(hidden_size=96))
    assert min(found[NGRAMS_AROUND], found[EMBEDDINGS]) > 0.95
    assert found[NGRAMS] < 0.7


def test_neighbours_are_those_of_the_sentence():
    sentences = [TaggedSentence(tokens, [], []) for tokens in (["a", "b"], ["c"], ["d", "e"])]
    vectors = np.arange(1, 6, dtype=np.float32)[:, None]
    assert with_neighbours(vectors, sentences).tolist() == [[0, 1, 2], [1, 2, 0], [0, 3, 0], [0, 4, 5], [4, 5, 0]]


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    write_models_and_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_script_writes_what_it_prints(files, capsys):
    options = ("--sizes", "10,20", "--seeds", 2, "--json", "a.json", "--plot", "a.png")
    assert call("probe", *BOTH_MODELS, *FILES, *options) == 0
    printed = capsys.readouterr().out
    found = json.loads((files / "a.json").read_text())
    results = found["results"]
    assert {(one["features"], one["sentences"], one["seed"]) for one in results} == {
        (features, size, seed)
        for features in (MAJORITY, NGRAMS, NGRAMS_AROUND, EMBEDDINGS, EMBEDDINGS_AROUND, BOTH)
        for size in (10, 20)
        for seed in (1, 2)
    }
    assert found["options"]["models"] == list(BOTH_MODELS)
    assert (files / "a.png").read_bytes().startswith(b"\x89PNG")
    of_ngrams = [one["f1"] for one in results if one["features"] == NGRAMS and one["sentences"] == 20]
    assert min(of_ngrams) > 0
    assert "tested on 40 of 40 sentences of test.tsv" in printed
    blocks = printed.split("\n\n")
    assert [block.split("\n")[0] for block in blocks[1:3]] == ["entity F1", "accuracy"]
    row = next(line for line in blocks[1].split("\n") if line.startswith("n-grams"))
    mean, deviation = statistics.mean(of_ngrams), statistics.stdev(of_ngrams)
    assert row.split()[-3:] == [f"{mean:.3f}", "±", f"{deviation:.3f}"]
    assert printed.rstrip().split("\n")[-1].startswith("With 20 training sentences embeddings are ")
    assert call("probe", *BOTH_MODELS, *FILES, "--json", "a.json") == 2
    assert "a.json exists" in capsys.readouterr().err


def test_the_same_command_gives_the_same_figures(files):
    for name in ("a", "b"):
        options = ("--sizes", "20", "--seeds", 1, "--json", f"{name}.json")
        assert call("probe", "backward/best-lm.pt", *FILES, *options) == 0
    one, other = (json.loads((files / f"{name}.json").read_text())["results"] for name in "ab")
    assert one == other


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["forward/best-lm.pt", "forward/best-lm.pt", *FILES], "are both forward models; give one of each direction"),
        ([*BOTH_MODELS, "forward/best-lm.pt", *FILES], "3 models were given"),
        (["words.pt", *FILES], "words.pt is a model of words"),
        (
            [*BOTH_MODELS, "--train", "train.tsv", "--test", "train.tsv"],
            "a probe would be tested on what it has learned",
        ),
        ([*BOTH_MODELS, "--train", "-", "--test", "test.tsv"], "--train is -; a probe reads files"),
        ([*BOTH_MODELS, *FILES, "--column", "4"], "train.tsv, line 1: --column 4: the line has 2 columns"),
        ([*BOTH_MODELS, *FILES, "--sizes", "1,10"], "--sizes is 1,10; each must be from 2 to the 40 of train.tsv"),
        ([*BOTH_MODELS, *FILES, "--sizes", "10,41"], "from 2 to the 40"),
        ([*BOTH_MODELS, *FILES, "--sizes", "ten"], "--sizes is ten; it must be numbers"),
        ([*BOTH_MODELS, *FILES, "--seeds", "0"], "--seeds is 0; it must be from 1"),
        ([*BOTH_MODELS, *FILES, "--plot", "a.gif"], "--plot is a.gif; it must end in .png or .pdf"),
        ([*BOTH_MODELS, *FILES, "--epochs", "3"], "--epochs is for --tagger"),
        ([*BOTH_MODELS, *FILES, "--tagger", "--lower"], "leave them out with --tagger"),
        ([*BOTH_MODELS, "--train", "nothing", "--test", "nothing.gz"], "2 errors:"),
    ],
)
def test_mistakes_are_named_before_anything_is_measured(typed, words, files, capsys):
    save_language_model(make_model(["<unk>", "a", "b"], level="word"), files / "words.pt")
    before = sorted(files.iterdir())
    assert call("probe", *typed) == 2
    assert words in capsys.readouterr().err
    assert sorted(files.iterdir()) == before


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("package", "options", "words"),
    [
        ("sklearn", (), "needs scikit-learn. Install it: pip install 'lmtrain[probe]'."),
        ("flair", ("--tagger",), "--tagger needs Flair. Install it: pip install 'lmtrain[flair]'."),
    ],
)
def test_a_package_that_is_not_installed_has_a_sentence(package, options, words, monkeypatch, capsys):
    for module in ("material", "flair_tagger"):
        monkeypatch.setattr(f"lmtrain.probing.{module}.find_spec", lambda name: None if name == package else name)
    assert call("probe", *BOTH_MODELS, *FILES, *options) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_a_draw_with_one_tag_only_is_named(files, capsys):
    rare = [[("a", "O"), ("b", "O")]] * 39 + [[("C", "B-LOC"), ("d", "O")]]
    write_columns(files / "train.tsv", rare)
    assert call("probe", *BOTH_MODELS, *FILES, "--sizes", "2") == 2
    assert "The 2 training sentences that seed 1 draws have one tag only, 'O': take more." in capsys.readouterr().err


def test_smaller_training_sets_are_parts_of_larger_ones():
    sentences = read(tagged_by_what_stands_before(30, 1))
    assert drawn(sentences, 10, 3) == drawn(sentences, 30, 3)[:10]
    assert drawn(sentences, 30, 3) != drawn(sentences, 30, 4) != sentences


def test_files_in_another_encoding(files, capsys):
    for name in ("train.tsv", "test.tsv"):
        (files / name).write_text((files / name).read_text().replace("a\t", "ä\t"), encoding="cp1252")
    assert call("probe", *BOTH_MODELS, *FILES, "--seeds", 1) == 2
    assert "train.tsv" in capsys.readouterr().err
    assert call("probe", *BOTH_MODELS, *FILES, "--seeds", 1, "--sizes", 20, "--encoding", "cp1252") == 0


def test_long_vectors_are_reduced_to_components_that_keep_what_differs():
    draw = np.random.default_rng(1)
    hidden, mixing = draw.normal(size=(600, 20)), draw.normal(size=(20, 300))
    vectors = (hidden @ mixing).astype(np.float32)
    reduced, others = components(vectors[:500], vectors[500:])
    assert (reduced.shape, others.shape) == ((500, 256), (100, 256))
    apart, kept = vectors[500] - vectors[501], others[0] - others[1]
    assert np.linalg.norm(kept) == pytest.approx(np.linalg.norm(apart), rel=1e-3)
    assert components(vectors[:100], vectors[:5])[0].shape == (100, 300)
