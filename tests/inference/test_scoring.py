import io
import json
import math
import random
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from script_calls import call
from small_models import make_model

from lmtrain.errors import UserError
from lmtrain.inference import scoring
from lmtrain.inference.scoring import Score, score, score_lines
from lmtrain.model_files.flair import save_language_model

directions = pytest.mark.parametrize("is_forward_lm", [True, False], ids=["forward", "backward"])


def expected_nats(language_model, items) -> float:
    """By the network's own loss, in one go, of items in reading order."""
    ids = torch.tensor([language_model.dictionary.ids.get(item, 0) for item in items])[:, None]
    with torch.no_grad():
        loss, _ = language_model.model.loss(ids[:-1], ids[1:])
    return loss.item() * (len(items) - 1)


@directions
@pytest.mark.parametrize("kind", [{}, {"recurrent_type": "GRU", "nlayers": 2}, {"nout": 7}])
def test_equals_the_networks_loss(is_forward_lm, kind):
    language_model = make_model(is_forward_lm=is_forward_lm, **kind)
    text = "Some text, with things änd ☃ 😀 unknown.\n" * 5
    one = score(language_model, [text])[0]
    items = text if is_forward_lm else text[::-1]
    assert one.nats == pytest.approx(expected_nats(language_model, items), rel=1e-5)
    assert one.items == len(text) - 1
    assert one.bytes == len(items[1:].encode())
    assert one.unknown == sum(item not in language_model.dictionary.ids for item in items[1:])


def test_figures():
    one = Score(items=10, nats=20.0, bytes=16, unknown=1)
    assert one.loss == 2
    assert one.log_probability == -20
    assert math.isnan(Score().log_probability)  # 0 would be the most probable of all
    assert one.perplexity == pytest.approx(math.exp(2))
    assert one.bits_per_item == pytest.approx(2 / math.log(2))
    assert one.bits_per_byte == pytest.approx(20 / math.log(2) / 16)
    assert one.unknown_rate == 0.1
    assert one + Score(5, 1.0, 5, 2) == Score(15, 21.0, 21, 3)
    assert Score(1, 1000.0, 1, 0).perplexity == math.inf
    assert math.isnan(Score().loss)
    assert math.isnan(Score().perplexity)


@directions
@given(texts=st.lists(st.text(alphabet="ab \n.ä☃😀", max_size=60), max_size=12), batch_size=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_a_batch_gives_what_each_text_gives_by_itself(is_forward_lm, texts, batch_size):
    language_model = make_model(is_forward_lm=is_forward_lm)
    together = score(language_model, texts, batch_size)
    for text, one in zip(texts, together, strict=True):
        alone = score(language_model, [text])[0]
        assert (one.items, one.bytes, one.unknown) == (alone.items, alone.bytes, alone.unknown)
        assert one.nats == pytest.approx(alone.nats, rel=1e-6, abs=1e-6)
        if len(text) < 2:
            assert one == Score()


@directions
def test_windows_and_chunks_change_nothing(monkeypatch, is_forward_lm):
    language_model = make_model(is_forward_lm=is_forward_lm)
    choose = random.Random(0)
    texts = ["".join(choose.choices("abc ä☃.\n", k=choose.randint(0, 400))) for _ in range(9)]
    expected = score(language_model, texts)
    monkeypatch.setattr(scoring, "_WINDOW_ELEMENTS", 32 * 20)  # windows of 20 items down to 2
    monkeypatch.setattr(scoring, "_LOGIT_ELEMENTS", 100)
    monkeypatch.setattr(scoring, "_CHUNK", 7)
    for one, other in zip(score(language_model, texts, 8), expected, strict=True):
        assert (one.items, one.bytes, one.unknown) == (other.items, other.bytes, other.unknown)
        assert one.nats == pytest.approx(other.nats, rel=1e-6)


def test_memory_does_not_grow_with_the_text(monkeypatch):
    """No tensor that the network sees or makes is longer than a window."""
    language_model = make_model()
    monkeypatch.setattr(scoring, "_WINDOW_ELEMENTS", 32 * 50)
    seen = []
    language_model.model.register_forward_hook(lambda *arguments: seen.append(len(arguments[2][0])))
    assert score(language_model, ["ab " * 1000])[0].items == 2999
    assert max(seen) == 50


@directions
def test_words(is_forward_lm):
    language_model = make_model(["<unk>", "the", "cat", "sät"], level="word", is_forward_lm=is_forward_lm)
    text = " the  cat\nsät\ton the cat "
    one = score(language_model, [text])[0]
    words = text.split() if is_forward_lm else text.split()[::-1]
    assert one.nats == pytest.approx(expected_nats(language_model, words), rel=1e-5)
    assert (one.items, one.unknown) == (5, 1)
    assert one.bytes == sum(len(word.encode()) + 1 for word in words[1:])


def test_what_cannot_be_scored():
    with pytest.raises(UserError, match="can embed, but not score"):
        score(make_model(has_decoder=False), ["ab"])
    with pytest.raises(UserError, match="'☃' is not in the dictionary"):
        score(make_model([*"\nab"]), ["ab", "a☃b"])
    assert score(make_model([*"\nab"]), ["abba\n"])[0].unknown == 0
    assert score(make_model(), []) == []


def test_lines_keep_their_order():
    language_model = make_model()
    lines = [f"line {'b' * (number * 7 % 30)}" for number in range(50)]
    scored = list(score_lines(language_model, iter(lines), 8))
    assert [line for line, _ in scored] == lines
    assert scored[13][1].nats == pytest.approx(score(language_model, [lines[13]])[0].nats, rel=1e-6)


@pytest.fixture
def model_file(tmp_path):
    save_language_model(make_model(), tmp_path / "best-lm.pt")
    return tmp_path / "best-lm.pt"


def test_script(model_file, tmp_path, capsys):
    texts = ["A text.\nOf two lines ☃.\n", "Another bbb"]
    paths = [tmp_path / "one.txt", tmp_path / "two.txt"]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text.replace("\n", "\r\n").encode())
    expected = score(make_model(), texts)
    assert call("score", model_file, *paths, "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == [*map(str, paths), "total"]
    assert [row["loss"] for row in rows[:2]] == pytest.approx([one.loss for one in expected], rel=1e-6)
    assert rows[2]["bits_per_byte"] == pytest.approx((expected[0] + expected[1]).bits_per_byte, rel=1e-6)
    assert rows[0].keys() == {
        "text", "characters", "loss", "ppl", "bits_per_character", "bits_per_byte", "unknown_rate"
    }  # fmt: skip
    assert call("score", model_file, paths[0]) == 0
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["characters", "loss", "ppl", "bits/character", "bits/byte", "unknown", "text"]
    assert row.split()[0] == "23"
    assert float(row.split()[2]) == pytest.approx(expected[0].perplexity, abs=1e-4)


def test_a_bias_is_not_rounded_to_bfloat16():
    model = make_model().model
    with torch.no_grad():
        model.decoder.weight.zero_()
        model.decoder.bias.uniform_(-5, 5)
    output, targets = torch.randn(50, model.decoder.in_features), torch.randint(model.sizes.vocabulary_size, (50,))
    expected = -model.decoder.bias.detach().double().log_softmax(0)[targets]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        losses = scoring.losses_of(model, output, targets)
    torch.testing.assert_close(losses, expected, rtol=0, atol=1e-5)


def test_script_ranks_lines_of_standard_input(model_file, capsys, monkeypatch):
    lines = ["First line", "", "b", "tab\there"]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO("\n".join(lines).encode())))
    assert call("score", model_file, "--per-line") == 0
    rows = [row.split("\t", 2) for row in capsys.readouterr().out.splitlines()]
    assert [row[2] for row in rows] == lines
    one = score(make_model(), [lines[0]])[0]
    assert [float(cell) for cell in rows[0][:2]] == pytest.approx([one.bits_per_item, -one.nats], abs=1e-5)
    assert rows[1][:2] == rows[2][:2] == ["nan", "nan"]


def test_script_reports_mistakes(model_file, tmp_path, capsys):
    (tmp_path / "latin1.txt").write_bytes(b"gr\xfcn")
    (tmp_path / "short.txt").write_text("a")
    for arguments, words in [
        ([tmp_path / "none.txt"], "none.txt cannot be read: No such file"),
        ([tmp_path / "latin1.txt"], "latin1.txt: byte 0xfc at offset 2 is not UTF-8"),
        ([tmp_path / "latin1.txt", "--per-line"], "latin1.txt: byte 0xfc at offset 2 is not UTF-8"),
        ([tmp_path / "short.txt"], "short.txt is too short"),
        ([tmp_path / "short.txt", "--batch-size", 0], "--batch-size is 0; it must be from 1 to"),
    ]:
        assert call("score", model_file, *arguments) == 2
        assert words in capsys.readouterr().err
