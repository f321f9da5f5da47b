import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from script_calls import call
from small_models import make_model

from lmtrain.errors import UserError
from lmtrain.inference import embeddings as embeddings_module
from lmtrain.inference.embeddings import StringEmbeddings, _Lanes, spaces_after
from lmtrain.inference.vector_file import read_conll_sentences, read_text_sentences, read_vectors, write_vectors
from lmtrain.model_files.flair import save_language_model

SENTENCES = [["The", "cat", "sat", "."], [], ["☃", "x" * 90, "ab"], ["a"], ["b", " ", "c"], ["an", "😀", "жя"]]


def expected_vectors(language_model, tokens: list[str], with_whitespace: bool = True) -> torch.Tensor:
    """By the network's own forward over one sentence, from the definition in the paper."""
    text, begin, ends = " ".join(tokens), 0, []
    for token in tokens:
        ends.append((begin, begin + len(token)))
        begin += len(token) + 1
    read = "\n" + (text if language_model.is_forward_lm else text[::-1]) + " "
    ids = torch.tensor([language_model.dictionary.ids.get(character, 0) for character in read])[:, None]
    with torch.no_grad():
        output = language_model.model(ids)[0][:, 0]
    if language_model.is_forward_lm:
        positions = [1 + end for _, end in ends]
    else:
        positions = [1 + len(text) - begin for begin, _ in ends]
    return output[[position - (not with_whitespace) for position in positions]]


@pytest.mark.parametrize("is_forward_lm", [True, False], ids=["forward", "backward"])
@pytest.mark.parametrize("kind", [{}, {"recurrent_type": "GRU", "nlayers": 2}, {"nout": 7}])
@pytest.mark.parametrize("with_whitespace", [True, False])
def test_equals_the_networks_forward(is_forward_lm, kind, with_whitespace):
    language_model = make_model(is_forward_lm=is_forward_lm, **kind)
    embeddings = StringEmbeddings(language_model, with_whitespace=with_whitespace)
    for _ in range(2):  # the second call begins with the state that the first one left
        vectors = embeddings.embed(SENTENCES)
        assert [len(rows) for rows in vectors] == [len(tokens) for tokens in SENTENCES]
        assert all(rows.dtype == torch.float32 and rows.shape[1] == embeddings.embedding_length for rows in vectors)
        for tokens, rows in zip(SENTENCES, vectors, strict=True):
            torch.testing.assert_close(
                rows, expected_vectors(language_model, tokens, with_whitespace), atol=2e-6, rtol=0
            )


@pytest.mark.parametrize("is_forward_lm", [True, False], ids=["forward", "backward"])
@pytest.mark.parametrize("kind", [{}, {"recurrent_type": "GRU", "nlayers": 2}, {"nout": 7}])
def test_long_strings_are_embedded_like_short_ones(is_forward_lm, kind, monkeypatch):
    monkeypatch.setattr("lmtrain.inference.embeddings._LONG", 20)
    monkeypatch.setattr("lmtrain.inference.embeddings._MIN_WINDOW", 3)
    monkeypatch.setattr("lmtrain.inference.embeddings._WINDOW_ELEMENTS", 32 * 7)  # of 7 steps, of 3 for 3 strings
    monkeypatch.setitem(embeddings_module._MAX_LANES, "cpu", 3)
    language_model = make_model(is_forward_lm=is_forward_lm, **kind)
    long = [["ab" * 15, "c"], ["a"] * 30, ["ä☃" * 40], ["b c" * 9, "", "d"], ["x" * 19]]
    sentences = [*SENTENCES, *long]
    for model_is_training in (False, True):  # dropout must not change a vector, whatever runs
        language_model.model.train(model_is_training)
        vectors = StringEmbeddings(language_model).embed(sentences)
        language_model.model.eval()
        for tokens, rows in zip(sentences, vectors, strict=True):
            kept = [index for index, token in enumerate(tokens) if token]
            right = expected_vectors(language_model, [tokens[index] for index in kept])
            torch.testing.assert_close(rows[kept], right, atol=2e-6, rtol=0)


def test_forward_and_backward_are_stacked_in_their_order():
    models = [make_model(), make_model(is_forward_lm=False, seed=1, nout=5)]
    both = torch.cat(StringEmbeddings(*models).embed(SENTENCES))
    apart = [torch.cat(StringEmbeddings(model).embed(SENTENCES)) for model in models]
    assert both.shape[1] == StringEmbeddings(*models).embedding_length == 37
    torch.testing.assert_close(both, torch.cat(apart, dim=1), atol=0, rtol=0)


@given(sentences=st.lists(st.lists(st.text("ab☃", min_size=1, max_size=9), max_size=6), max_size=20))
@settings(max_examples=25, deadline=None)
def test_a_batch_gives_what_each_sentence_gives_by_itself(sentences):
    embeddings = StringEmbeddings(make_model(), make_model(is_forward_lm=False))
    together = embeddings.embed(sentences)
    for tokens, rows in zip(sentences, together, strict=True):
        torch.testing.assert_close(rows, embeddings.embed([tokens])[0], atol=2e-6, rtol=0)


def test_progress_adds_up_to_all_of_the_work():
    embeddings = StringEmbeddings(make_model(), make_model(is_forward_lm=False))
    shares: list[float] = []
    embeddings.embed([["ab"] * 900, ["c"], ["ab"] * 100], progress=shares.append)
    assert sum(shares) == pytest.approx(1)
    assert len(shares) >= 10
    embeddings.embed([[], []], progress=shares.append)


def test_nothing_to_embed():
    embeddings = StringEmbeddings(make_model())
    assert embeddings.embed([]) == []
    assert [rows.shape for rows in embeddings.embed([[], []])] == [(0, 32), (0, 32)]


def test_an_empty_token_gets_zeros_and_changes_nothing_else():
    embeddings = StringEmbeddings(make_model(), tokenized_lm=True)
    with_it, without = embeddings.embed([["", "a", "", "b", ""], ["a", "b"]])
    assert not with_it[[0, 2, 4]].any()
    torch.testing.assert_close(with_it[[1, 3]], without, atol=1e-6, rtol=0)


def test_vectors_can_be_trained_on():
    vectors = StringEmbeddings(make_model()).embed([["a", "b"]])[0]
    layer = torch.nn.Linear(32, 2)
    layer(vectors).sum().backward()
    assert layer.weight.grad is not None


def test_lower_case_and_spaces():
    models = make_model(), make_model(is_forward_lm=False)
    lower = StringEmbeddings(*models, is_lower=True).embed([["ABC", "Ab"]])[0]
    assert torch.equal(lower, StringEmbeddings(*models).embed([["abc", "ab"]])[0])
    plain = StringEmbeddings(*models, tokenized_lm=False)
    assert torch.equal(plain.embed([["ab", "c"]])[0], StringEmbeddings(*models).embed([["ab", "c"]])[0])
    text = "ab(c, d)  e"
    tokens = ["ab", "(", "c", ",", "d", ")", "e"]
    assert spaces_after(tokens, text) == [0, 0, 0, 1, 0, 2, 0]
    forward, backward = plain.embed([tokens], [spaces_after(tokens, text)])[0].split(32, dim=1)
    read = torch.from_numpy(models[0].dictionary.encode("\n" + text + " "))[:, None]
    with torch.no_grad():
        torch.testing.assert_close(forward[1], models[0].model(read)[0][4, 0])  # reads "\nab(c"
        read = torch.from_numpy(models[0].dictionary.encode("\n" + text[::-1] + " "))[:, None]
        torch.testing.assert_close(backward[4], models[1].model(read)[0][6, 0])  # reads "\ne  )d "


def test_bf16_is_near_where_it_is_used():
    embeddings = StringEmbeddings(make_model(hidden_size=128), precision="bf16")
    exact = torch.cat(StringEmbeddings(*embeddings.language_models).embed(SENTENCES))
    embeddings.dtype = torch.bfloat16  # even where float32 is faster
    near = torch.cat(embeddings.embed(SENTENCES))
    assert near.dtype == torch.float32
    assert torch.cosine_similarity(exact, near, dim=1).min() > 0.99


def test_mistakes():
    language_model = make_model()
    with pytest.raises(UserError, match="no model to embed with"):
        StringEmbeddings()
    with pytest.raises(UserError, match="model of words"):
        StringEmbeddings(make_model(["a"], level="word"))
    with pytest.raises(UserError, match="chars_per_chunk is 0"):
        StringEmbeddings(language_model, chars_per_chunk=0)
    with pytest.raises(UserError, match="precision is '16'"):
        StringEmbeddings(language_model, precision="16")
    with pytest.raises(UserError, match="list of tokens, not a string"):
        StringEmbeddings(language_model).embed(["A sentence."])
    with pytest.raises(UserError, match="one number for every token"):
        StringEmbeddings(language_model).embed([["a", "b"]], [[1]])
    with pytest.raises(UserError, match="'c' is not in the text"):
        spaces_after(["a", "c"], "a b")


@given(lengths=st.lists(st.integers(0, 50), min_size=1, max_size=60).filter(any), max_lanes=st.integers(1, 9))
def test_lanes_hold_every_string_once_and_are_about_even(lengths, max_lanes):
    lengths = np.array(lengths)
    lanes = _Lanes(lengths, max_lanes)
    assert lanes.count <= max_lanes
    assert lanes.steps <= lengths.sum() / lanes.count + lengths.max()
    table = lanes.lay_out(np.arange(1, lengths.sum() + 1))
    assert sorted(table[table > 0]) == list(range(1, lengths.sum() + 1))
    for begin, lane, length, end in zip(lanes.begins, lanes.lane, lengths, np.cumsum(lengths), strict=True):
        assert list(table[begin : begin + length, lane]) == list(range(end - length + 1, end + 1))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("sentences", [SENTENCES, [[]], [], [["\ud800", "\0", "ä"]]])
def test_vector_files(tmp_path, suffix, sentences):
    path = tmp_path / f"vectors{suffix}"
    counts = [len(tokens) for tokens in sentences]
    vectors = np.arange(3 * sum(counts), dtype=np.float32).reshape(-1, 3)
    write_vectors(path, sentences, [vectors[:1], vectors[1:]], 3)
    read, tokens = read_vectors(path)
    assert tokens == sentences
    assert [len(rows) for rows in read] == counts
    assert all(rows.shape[1] == 3 and rows.dtype == np.float32 for rows in read)
    np.testing.assert_array_equal(np.concatenate([np.zeros((0, 3)), *read]), vectors)


def test_sentence_files(tmp_path):
    (tmp_path / "text").write_text("The cat\n\n a  b \nno\xa0break", encoding="utf-8")
    sentences = [sentence.tokens for sentence in read_text_sentences(tmp_path / "text")]
    assert sentences == [["The", "cat"], [], ["a", "b"], ["no\xa0break"]]
    (tmp_path / "conll").write_text("# id = 1\n1\tIt\t_\n2\t's\tSpaceAfter=No\n\n\n# x\n1\tso it\tA=b|SpaceAfter=No\n")
    sentences = list(read_conll_sentences(tmp_path / "conll", column=1, comment="#"))
    assert [sentence.tokens for sentence in sentences] == [["It", "'s"], ["so it"]]
    assert [sentence.whitespace_after for sentence in sentences] == [[1, 0], [0]]
    (tmp_path / "conll").write_text("EU NNP B-ORG\nrejects VBZ O\n")
    assert [sentence.tokens for sentence in read_conll_sentences(tmp_path / "conll", -1)] == [["B-ORG", "O"]]
    with pytest.raises(UserError, match="line 1: there is no column 3"):
        list(read_conll_sentences(tmp_path / "conll", 3))


@pytest.fixture
def model_files(tmp_path):
    save_language_model(make_model(), tmp_path / "forward.pt")
    save_language_model(make_model(is_forward_lm=False), tmp_path / "backward.pt")
    return tmp_path / "forward.pt", tmp_path / "backward.pt"


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_script(model_files, tmp_path, capsys, suffix):
    output = tmp_path / f"vectors{suffix}"
    (tmp_path / "text").write_text("The cat\n\nAn ABC\n")
    assert call("embed", *model_files, tmp_path / "text", "--output", output) == 0
    assert "4 vectors of 3 sentences" in capsys.readouterr().err
    read, tokens = read_vectors(output)
    assert tokens == [["The", "cat"], [], ["An", "ABC"]]
    expected = StringEmbeddings(make_model(), make_model(is_forward_lm=False)).embed(tokens)
    for rows, vectors in zip(read, expected, strict=True):
        np.testing.assert_allclose(rows, vectors.numpy(), atol=1e-6)
    assert call("embed", *model_files, tmp_path / "text", "--output", output) == 2
    assert "--overwrite" in capsys.readouterr().err
    (tmp_path / "conll").write_text("1 AB SpaceAfter=No\n2 c _\n")
    options = ["--format", "conll", "--column", 1, "--untokenized", "--lower", "--without-whitespace"]
    assert call("embed", model_files[0], tmp_path / "conll", "--output", output, "--overwrite", *options) == 0
    embeddings = StringEmbeddings(make_model(), with_whitespace=False, tokenized_lm=False, is_lower=True)
    expected = embeddings.embed([["AB", "c"]], [[0, 1]])[0]
    np.testing.assert_allclose(read_vectors(output)[0][0], expected.numpy(), atol=1e-6)


def test_script_reports_mistakes_and_leaves_no_file(model_files, tmp_path, capsys):
    (tmp_path / "latin1").write_bytes(b"gr\xfcn")
    for name, output, words in [
        ("none", "v.npz", "none cannot be read: No such file"),
        ("latin1", "v.npz", "latin1: byte 0xfc at offset 2 is not UTF-8"),
        ("latin1", "v.txt", "must end in .safetensors or .npz"),
        ("latin1", "", "is a folder"),
    ]:
        assert call("embed", *model_files, tmp_path / name, "--output", tmp_path / output) == 2
        assert words in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backward.pt", "forward.pt", "latin1"]
