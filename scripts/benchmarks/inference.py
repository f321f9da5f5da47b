"""Measures how fast a trained model embeds and generates, beside Flair."""

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def benchmark_embed(sentences: int = 64, hidden_size: int = 1024, rounds: int = 5) -> dict:
    """Embeds the same sentences with each contestant, one after the other in every round."""
    import torch

    from lmtrain.inference.embeddings import StringEmbeddings

    ours, theirs = same_models(hidden_size)
    texts = _sentences(sentences)
    embeddings = {precision: StringEmbeddings(ours, precision=precision) for precision in ("32", "bf16")}
    lengths = sorted((sum(map(len, tokens)) + len(tokens) + 1 for tokens in texts), reverse=True)
    contestants = {
        **_flair_embedding(theirs, texts),
        **_bare_layers(ours, _batches(lengths)),
        "lmtrain, float32": lambda: embeddings["32"].embed(texts),
        "lmtrain, bf16": lambda: embeddings["bf16"].embed(texts),
    }
    exact = torch.cat(embeddings["32"].embed(texts))
    near = torch.cat(embeddings["bf16"].embed(texts))
    return {
        "task": "embedding",
        "size": f"H{hidden_size}, {sentences} sentences",
        "unit": "sentences/s",
        "ours": "lmtrain, float32",
        "rates": rates_of(contestants, dict.fromkeys(contestants, sentences), rounds),
        "reference": "Flair, batches of 32",
        "notes": {
            "characters of a sentence, on average": sum(lengths) / sentences,
            "characters of a sentence, at most": lengths[0],
            'what precision="bf16" computes in here': str(embeddings["bf16"].dtype),
            "1 - smallest cosine to float32": 1 - torch.cosine_similarity(exact, near, dim=1).min().item(),
        },
    }


def _batches(order: list) -> list[list]:
    return [order[begin : begin + 32] for begin in range(0, len(order), 32)]


def _flair_embedding(theirs, texts: list[list[str]]) -> dict[str, Callable[[], object]]:
    """Flair's own embeddings of the sentences: in batches as they come, sorted by length, and in one batch."""
    from flair.data import Sentence
    from flair.embeddings import FlairEmbeddings

    embeddings = FlairEmbeddings(theirs)
    sentences = [Sentence(tokens) for tokens in texts]
    by_length = sorted(sentences, key=lambda sentence: -len(sentence.to_tokenized_string()))

    def embed(batches: list[list[Sentence]]) -> None:
        for batch in batches:
            embeddings.embed(batch)
            for sentence in batch:
                sentence.clear_embeddings()

    return {
        "Flair, batches of 32": lambda: embed(_batches(sentences)),
        "Flair, batches of 32 sorted by length": lambda: embed(_batches(by_length)),
        "Flair, one batch": lambda: embed([sentences]),
    }


def _bare_layers(ours, lengths: list[list[int]]) -> dict[str, Callable[[], object]]:
    """The bare limit, nn.LSTM over batches of these lengths and nothing else; and onnxruntime, if it is installed.

    The latter gets batches of ids and returns the hidden states of all characters.
    """
    import numpy as np
    import torch

    sizes = ours.model.sizes
    inputs = [torch.randn(max(batch), len(batch), sizes.embedding_size) for batch in lengths]

    @torch.no_grad()
    def bare() -> None:
        for batch in inputs:
            ours.model.rnn(batch, ours.model.zero_hidden(batch.shape[1]))

    session = _onnx_session(ours)
    ids = [torch.randint(sizes.vocabulary_size, batch.shape[:2]).numpy() for batch in inputs]

    def onnx() -> None:
        for batch in ids:
            zeros = np.zeros((sizes.nlayers, batch.shape[1], sizes.hidden_size), np.float32)
            session.run(["output"], {"ids": batch, "h": zeros, "c": zeros})

    with_onnx = {"onnxruntime, batches of 32 sorted by length": onnx} if session else {}
    return {"bare nn.LSTM, batches of 32 sorted by length": bare, **with_onnx}


def benchmark_generate(length: int = 1000, hidden_size: int = 1024, rounds: int = 5) -> dict:
    """Generates texts with each contestant, one after the other in every round.

    The bare limit is the product of one state with the recurrent weights, nothing else.
    """
    import torch

    from lmtrain.inference.generation import generate
    from lmtrain.inference.stepper import product_dtype

    ours, theirs = same_models(hidden_size)
    weight, state = torch.randn(4 * hidden_size, hidden_size).t().contiguous(), torch.randn(1, hidden_size)

    @torch.no_grad()
    def bare() -> None:
        for _ in range(length):
            torch.mm(state, weight)

    contestants = {
        "Flair": lambda: theirs.generate_text(number_of_characters=length),
        "bare matrix product, 1 sample": bare,
        "lmtrain, 1 sample": lambda: generate(ours, length=length),
        "lmtrain, 1 sample, bf16": lambda: generate(ours, length=length, precision="bf16"),
        "lmtrain, 32 samples": lambda: generate(ours, length=length, samples=32),
        "lmtrain, 32 samples, bf16": lambda: generate(ours, length=length, samples=32, precision="bf16"),
    }
    amounts = {name: length * (32 if "32" in name else 1) for name in contestants}
    return {
        "task": "generating",
        "size": f"H{hidden_size}, {length} characters a sample",
        "unit": "characters/s",
        "ours": "lmtrain, 1 sample",
        "rates": rates_of(contestants, amounts, rounds),
        "reference": "Flair",
        "notes": {
            f"what bf16 computes in here, {count} samples": str(product_dtype("bf16", ours.model, count))
            for count in (1, 32)
        },
    }


def rates_of(
    contestants: Mapping[str, Callable[[], object]], amounts: dict[str, int], rounds: int
) -> dict[str, list[float]]:
    """Amount per second over rounds in which every contestant runs once, in changing order."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for contestant in contestants.values():
        contestant()
    order = list(contestants)
    for number in range(rounds):
        random.Random(number).shuffle(order)
        for name in order:
            started = time.perf_counter()
            contestants[name]()
            rates[name].append(amounts[name] / (time.perf_counter() - started))
    return rates


def same_models(hidden_size: int) -> tuple:
    """The same model with random weights, for lmtrain and for Flair."""
    import tempfile

    import torch
    from flair.models import LanguageModel as FlairLanguageModel

    from lmtrain.data.dictionary import Dictionary
    from lmtrain.model.language_model import LanguageModel, RecurrentLM, Sizes
    from lmtrain.model_files.flair import save_language_model

    torch.manual_seed(1)
    dictionary = Dictionary(["<unk>", "\n", *map(chr, range(32, 127)), *map(chr, range(160, 338))])  # 275 items
    ours = LanguageModel(RecurrentLM(Sizes(len(dictionary), hidden_size)).eval(), dictionary)
    with torch.no_grad():  # as large as after training: with smaller weights bf16 would look more exact than it is
        ours.model.encoder.weight.mul_(9)
        for parameter in ours.model.rnn.parameters():
            parameter.mul_(4)
    with tempfile.TemporaryDirectory() as folder:
        save_language_model(ours, Path(folder, "best-lm.pt"))
        return ours, FlairLanguageModel.load_language_model(Path(folder, "best-lm.pt"))


def _onnx_session(language_model):
    """A session of onnxruntime with as many threads as torch has; None if it is not installed."""
    import tempfile

    import torch

    try:
        import onnxruntime
    except ImportError:
        return None
    from lmtrain.model_files.export import save_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        save_onnx(language_model, Path(folder, "model.onnx"))
        model = Path(folder, "model.onnx").read_bytes()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _sentences(count: int) -> list[list[str]]:
    """Random words in sentences about as long as those of newspapers: 21 tokens, give or take 11."""
    choose = random.Random(1)
    letters = "etaoinshrdlucmfwypvbgk"
    lengths = [max(1, round(choose.gammavariate(3.6, 21 / 3.6))) for _ in range(count)]
    return [["".join(choose.choices(letters, k=1 + int(choose.expovariate(0.24)))) for _ in range(n)] for n in lengths]
