import json
import math

import pytest
import torch
from script_calls import call
from small_models import make_model

from lmtrain.errors import UserError
from lmtrain.inference.generation import generate
from lmtrain.model_files.flair import save_language_model

KINDS = {"LSTM": {}, "GRU": {"recurrent_type": "GRU"}, "projected": {"nlayers": 2, "nout": 11}}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
directions = pytest.mark.parametrize("is_forward_lm", [True, False], ids=["forward", "backward"])


def mean_loss_of_continuation(language_model, prefix: str, text: str) -> float:
    """The mean negative log-probability of what was generated, by the network's own forward."""
    if not language_model.is_forward_lm:
        prefix, text = prefix[::-1], text[::-1]
    ids = torch.from_numpy(language_model.dictionary.encode(text))[:, None]
    with torch.no_grad():
        output, _ = language_model.model(ids[:-1])
        losses = torch.nn.functional.cross_entropy(
            language_model.model.decoder(output)[:, 0], ids[1:, 0], reduction="none"
        )
    return losses[len(prefix) - 1 :].mean().item()


@each_kind
@directions
@pytest.mark.parametrize("prefix", ["\n", "abc de"])
def test_the_mean_is_that_of_the_networks_forward(kind, is_forward_lm, prefix):
    language_model = make_model([*"\n abcdef"], is_forward_lm=is_forward_lm, **kind)
    for text, mean in generate(language_model, prefix, 70, temperature=0.8, samples=5, seed=4):
        assert len(text) == 70 + len(prefix)
        assert text.startswith(prefix) if is_forward_lm else text.endswith(prefix)
        assert mean == pytest.approx(mean_loss_of_continuation(language_model, prefix, text), abs=1e-5)


@each_kind
def test_greedy_takes_the_most_probable_item(kind):
    language_model = make_model(**kind)
    ids = list(language_model.dictionary.encode("ab"))
    with torch.no_grad():
        for _ in range(30):
            output, _ = language_model.model(torch.tensor(ids)[:, None])
            ids.append(language_model.model.decoder(output[-1, 0]).argmax().item())
    texts = generate(language_model, "ab", 30, temperature=0, samples=3)
    assert [text for text, _ in texts] == [language_model.dictionary.decode(ids)] * 3


@pytest.mark.parametrize("temperature", [1e-45, 1e-30, 1e-8])
def test_tiny_temperatures_are_greedy(temperature):
    language_model = make_model()
    assert generate(language_model, length=50, temperature=temperature) == generate(
        language_model, length=50, temperature=0
    )


def test_huge_temperatures_are_random():
    text, mean = generate(make_model(), length=2000, temperature=1e300, seed=1)[0]
    assert len(set(text)) > 30
    assert math.isfinite(mean)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_softmax(temperature):
    language_model = make_model([*"\nabcdef"])
    count = 20000
    texts = generate(language_model, "a", 1, temperature, samples=count, seed=2)
    with torch.no_grad():
        output, _ = language_model.model(torch.from_numpy(language_model.dictionary.encode("a"))[:, None])
        shares = torch.softmax(language_model.model.decoder(output[0, 0]) / temperature, dim=0)
    for item, share in zip(language_model.dictionary.items, shares.tolist(), strict=True):
        drawn = sum(text[1] == item for text, _ in texts) / count
        assert abs(drawn - share) < 5 * math.sqrt(share * (1 - share) / count)


def test_a_seed_repeats_the_texts_and_samples_differ():
    language_model = make_model()
    texts = generate(language_model, length=40, samples=4, seed=9)
    assert texts == generate(language_model, length=40, samples=4, seed=9)
    assert texts != generate(language_model, length=40, samples=4, seed=10)
    assert len({text for text, _ in texts}) == 4


def test_the_global_generator_is_used_without_a_seed():
    language_model = make_model()
    torch.manual_seed(3)
    first, second = generate(language_model, length=40), generate(language_model, length=40)
    torch.manual_seed(3)
    assert generate(language_model, length=40) == first != second


@directions
def test_every_sample_ends_at_its_own_stop(is_forward_lm):
    language_model = make_model([*"\n abc"], is_forward_lm=is_forward_lm)
    prefix = "ab"
    texts = generate(language_model, prefix, 60, samples=40, stop="ab", seed=3)
    lengths = {len(text) for text, _ in texts}
    assert len(lengths) > 5
    for text, mean in texts:
        generated = text.removeprefix(prefix) if is_forward_lm else text.removesuffix(prefix)
        if len(generated) < 60:
            assert generated.count("ab") == 1
            assert generated.endswith("ab") if is_forward_lm else generated.startswith("ab")
        assert mean == pytest.approx(mean_loss_of_continuation(language_model, prefix, text), abs=1e-5)


def test_an_empty_prefix_is_a_line_break():
    language_model = make_model()
    assert generate(language_model, "", 20, seed=1) == generate(language_model, "\n", 20, seed=1)


def test_a_long_prefix_is_read_in_pieces():
    language_model = make_model([*"\nab"])
    prefix = "ab\n" * 1000
    text, mean = generate(language_model, prefix, 10, seed=1)[0]
    assert mean == pytest.approx(mean_loss_of_continuation(language_model, prefix, text), abs=1e-5)


def test_unknown_characters_of_the_prefix_are_read_as_unk_and_stay_in_the_text():
    language_model = make_model()
    text, _ = generate(language_model, "☃", 20, temperature=0)[0]
    other, _ = generate(language_model, "☂", 20, temperature=0)[0]
    assert text[0] == "☃"
    assert text[1:] == other[1:]


def test_words_are_separated_by_spaces():
    language_model = make_model(["<unk>", "the", "cat", "sat"], level="word")
    text, _ = generate(language_model, "the  cat\n", 5, seed=1)[0]
    assert text.startswith("the cat ")
    assert len(text.split(" ")) == 7
    backward = make_model(["<unk>", "the", "cat", "sat"], level="word", is_forward_lm=False)
    text, _ = generate(backward, "the cat", 5, seed=1)[0]
    assert text.endswith(" the cat")
    stopped, _ = generate(language_model, "\n", 500, stop="cat sat", seed=1)[0]
    assert stopped.endswith("cat sat")
    assert stopped.count("cat sat") == 1


def test_bf16_is_near():
    language_model = make_model(hidden_size=64)
    (_, exact), (_, near) = (generate(language_model, "a", 1, 0, precision=one)[0] for one in ("32", "bf16"))
    assert near == pytest.approx(exact, abs=0.05)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"length": 0}, "length is 0"),
        ({"samples": 0}, "samples is 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"precision": "8"}, "precision is '8'"),
    ],
)
def test_impossible_arguments(arguments, words):
    with pytest.raises(UserError, match=words):
        generate(make_model(), **arguments)


def test_a_model_without_decoder_cannot_generate():
    with pytest.raises(UserError, match="can embed, but not generate"):
        generate(make_model(has_decoder=False))


def test_an_unknown_character_without_unk_is_an_error():
    with pytest.raises(UserError, match="'☃' is not in the dictionary"):
        generate(make_model([*"\nab"]), "a☃")


@pytest.fixture
def model_file(tmp_path):
    save_language_model(make_model(), tmp_path / "best-lm.pt")
    return tmp_path / "best-lm.pt"


def test_script(model_file, capsys):
    arguments = [model_file, "--prefix", r"\nab", "--length", 30, "--samples", 2, "--seed", 5]
    assert call("generate", *arguments) == 0
    out, err = capsys.readouterr()
    expected = generate(make_model(), "\nab", 30, samples=2, seed=5)
    assert out == "".join(f"===== {n} of 2 =====\n{text}\n" for n, (text, _) in enumerate(expected, 1))
    assert f"text 2: {expected[1][1]:.4f} nats a character" in err
    assert call("generate", *arguments, "--json", "--stop", "a", "--temperature", 0.5) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = generate(make_model(), "\nab", 30, 0.5, samples=2, stop="a", seed=5)
    assert [(line["text"], line["negative_log_probability"]) for line in lines] == expected


def test_script_reports_mistakes(model_file, tmp_path, capsys):
    assert call("generate", model_file, "--length", 0, "--temperature", -1) == 2
    err = capsys.readouterr().err
    assert err.startswith("2 errors:\n  1. --length is 0; it must be from 1 to")
    assert call("generate", tmp_path / "none.pt") == 2
    assert "none.pt" in capsys.readouterr().err
