"""Long texts scored in pieces, against the exact score."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import make_model

from lmtrain.errors import UserError
from lmtrain.inference import long_texts as module
from lmtrain.inference.long_texts import _Layout, score_in_lanes
from lmtrain.inference.scoring import Score, score


def text_of(length: int) -> str:
    return "".join(random.Random(length).choices("abc d\n☃ä", k=length))


@pytest.mark.parametrize("is_forward_lm", [True, False])
@pytest.mark.parametrize("length", [1999, 5000])
def test_the_score_is_as_near_as_it_says(is_forward_lm, length):
    language_model = make_model(is_forward_lm=is_forward_lm)
    exact = score(language_model, [text_of(length)])[0]
    last = None
    for context in (4, 16, 64):
        one, difference = score_in_lanes(language_model, text_of(length), lanes=8, context=context)
        assert (one.items, one.bytes, one.unknown) == (exact.items, exact.bytes, exact.unknown)
        assert abs(one.loss - exact.loss) <= difference + 1e-7
        assert difference > 0
        assert last is None or difference < last
        last = difference


def test_one_lane_short_texts_and_words_are_exact():
    language_model, text = make_model(), text_of(900)
    exact = score(language_model, [text])[0]
    one, difference = score_in_lanes(language_model, text, lanes=1)
    assert one.nats == pytest.approx(exact.nats, rel=1e-6)
    assert difference == 0
    assert score_in_lanes(language_model, text, lanes=64, context=500)[1] == 0  # pieces would be shorter than that
    assert [score_in_lanes(language_model, short)[0] for short in ("", "a")] == [Score(), Score()]
    words = make_model(["<unk>", "a", "b"], level="word")
    many = "a b <unk> c " * 300
    one, _ = score_in_lanes(words, many, lanes=4, context=50)
    assert one.unknown == score(words, [many])[0].unknown == 300
    assert one.loss == pytest.approx(score(words, [many])[0].loss, abs=1e-5)


@given(items=st.integers(2, 4000), lanes=st.integers(1, 9), context=st.integers(0, 60), window=st.integers(1, 300))
@settings(max_examples=60)
def test_every_item_but_the_first_is_scored_once(items, lanes, context, window):
    lanes = max(1, min(lanes, (items - 1) // max(2 * context, 64)))
    layout = _Layout(items, lanes, context if lanes > 1 else 0)
    scored = torch.zeros(items, dtype=torch.int64)
    for begin, ids in layout.windows(torch.arange(items).numpy(), window):
        targets = torch.from_numpy(ids[1:]).clone()
        targets[: max(0, layout.context - begin), 1:] = -1
        scored += torch.bincount(targets[targets >= 0], minlength=items)
    assert scored.tolist() == [0] + [1] * (items - 1)


def test_windows_and_progress(monkeypatch):
    language_model, text, seen = make_model(), text_of(3000), []
    expected = score_in_lanes(language_model, text, lanes=4, context=40)
    monkeypatch.setattr(module, "_WINDOW", 7)
    again = score_in_lanes(language_model, text, lanes=4, context=40, progress=seen.append)
    assert again[0].nats == pytest.approx(expected[0].nats, rel=1e-6)
    assert again[1] == pytest.approx(expected[1], rel=1e-3)
    assert sum(seen) == pytest.approx(2999, rel=1e-3)


def test_mistakes():
    with pytest.raises(UserError, match="lanes is 0 and context -1"):
        score_in_lanes(make_model(), "abc", lanes=0, context=-1)
    with pytest.raises(UserError, match="can embed, but not score"):
        score_in_lanes(make_model(has_decoder=False), "abc")


def test_threads_share_the_lanes_and_leave_the_setting_of_others_alone(monkeypatch):
    language_model, text = make_model(), text_of(9000)
    monkeypatch.setattr(module, "_LANES_OF_A_THREAD", 2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = score_in_lanes(language_model, text, lanes=9, context=30)
        torch.set_num_threads(4)
        one, difference = score_in_lanes(language_model, text, lanes=9, context=30)
        assert torch.get_num_threads() == 4
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 4  # of threads that begin afterwards
    finally:
        torch.set_num_threads(before)
    assert (one.items, one.bytes) == (expected[0].items, expected[0].bytes)
    assert one.nats == pytest.approx(expected[0].nats, rel=1e-6)
    assert difference == pytest.approx(expected[1], rel=1e-2)


@pytest.mark.parametrize("recurrent_type", ["LSTM", "GRU"])
def test_what_a_gpu_reads_with_is_as_near(monkeypatch, recurrent_type):
    language_model, text = make_model(recurrent_type=recurrent_type), text_of(5000)
    expected = score_in_lanes(language_model, text, lanes=8, context=32)
    monkeypatch.setattr(module, "_StepReader", module._LayersReader)
    one, difference = score_in_lanes(language_model, text, lanes=8, context=32)
    assert one.nats == pytest.approx(expected[0].nats, rel=1e-6)
    assert difference == pytest.approx(expected[1], rel=1e-2)


def test_a_context_of_nothing_leaves_nothing_to_compare_and_is_refused():
    with pytest.raises(UserError, match="context 0; they must be at least 1"):
        score_in_lanes(make_model(), text_of(900), lanes=4, context=0)
