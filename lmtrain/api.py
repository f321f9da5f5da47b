"""What `import lmtrain` offers: train a model, load and save it, and generate, score and embed with it.

Functions return one result for one input, and a list for several.
"""

import reprlib
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, overload

from torch import Tensor

from lmtrain.errors import UserError
from lmtrain.inference import generation, scoring
from lmtrain.inference.embeddings import StringEmbeddings
from lmtrain.inference.scoring import Score
from lmtrain.model.language_model import LanguageModel
from lmtrain.model_files.export import load_model, save_onnx, save_safetensors, settings_path
from lmtrain.model_files.flair import save_language_model
from lmtrain.program.command import called


def train(*overrides: str) -> dict[str, Any]:
    """Trains as `python train.py OVERRIDES` does, or resumes that run where it stopped.

        results = lmtrain.train("model=base", "data=folder", "data.path=corpus", "trainer.max_epochs=2")
        model = lmtrain.load("runs/base-folder-forward")

    One call at a time, in a notebook or a script, also in a thread (where signals are not handled). The process is left
    as it was, except for torch's random state, which `seed` sets.

    Args:
        overrides: `KEY=VALUE` each, as on the command line but without a shell's quotes; docs/keys.md lists the keys.
            Sweeps (`-m`) run from the command line only.

    Returns:
        the content of the run's `results.json`: losses in nats per item (`val/loss` of the best model, `test/loss` if
        there is a test), `steps`, `epochs`, `seconds`, `ended_by` and more.

    Raises:
        UserError: all that is wrong with the overrides or the corpus, before anything is written; or training
            diverged too often.
        Interrupted: a signal, such as Ctrl-C, ended the run. It is saved, and the same call resumes it.
    """
    from lmtrain.config.compose import check_choice, compose_config
    from lmtrain.config.hydra_errors import explained
    from lmtrain.config.overrides import as_hydra_reads, explicit_keys
    from lmtrain.training.train import train as train_config  # slow to import: Lightning

    if not all(isinstance(override, str) for override in overrides):
        raise UserError('train takes texts, one for each key: train("model=base", "data.path=corpus"); train(*LIST).')
    with explained():
        config = compose_config(*overrides)
        check_choice(config, overrides)
    with called(f"lmtrain.train({', '.join(map(repr, overrides))})"):
        return train_config(config, explicit_keys(as_hydra_reads(overrides)))


def load(path: str | Path, device: str = "cpu") -> LanguageModel:
    """Reads a trained model in any of lmtrain's formats; nothing in the file can run code.

    Args:
        path: a file: Flair's and lmtrain's `.pt`, `.safetensors` (its `.json` beside it), or a checkpoint `.ckpt`; or a
            folder: of a run, whose best model is read, or one for the Hugging Face Hub.
        device: where the model computes: "cpu", "cuda", "cuda:1".

    Returns:
        the network in eval mode, with float32 weights, and its dictionary, direction, level and document delimiter.

    Raises:
        UserError: the file is missing, damaged or no model, a weight is not finite, or the device cannot be used.
    """
    return load_model(path, device)


def save(model: LanguageModel, path: str | Path, overwrite: bool = False) -> None:
    """Writes a model in the format that the suffix names; the file appears whole, or not at all.

    Args:
        model: as `load` returns it.
        path: `.pt` is Flair's format for an LSTM or GRU, read by `FlairEmbeddings` and `init_from`; `.safetensors` has
            the weights, and a `.json` file beside it the rest; `.onnx` maps ids and hidden states to embeddings and
            hidden states, and cannot be loaded by `load` (needs `pip install 'lmtrain[onnx]'`).
        overwrite: replace a file that exists.

    Raises:
        UserError: the suffix is none of these, the file exists, a folder is missing, a weight is not finite, or the
            format does not support the model's recurrent cell.
    """
    _check_models(model)
    path = Path(path)
    if path.suffix not in (".pt", ".safetensors", ".onnx"):
        raise UserError(f"{path}: the name must end in .pt (for Flair), .safetensors or .onnx.")
    written = [path, settings_path(path)] if path.suffix == ".safetensors" else [path]
    existing = [str(file) for file in written if file.exists()]
    if existing and not overwrite:
        raise UserError(f"{' and '.join(existing)} exists. Choose another name, or replace it with overwrite=True.")
    if not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: there is no folder {path.parent}. Make it first.")
    if path.suffix == ".pt":
        save_language_model(model, path)
    elif path.suffix == ".safetensors":
        save_safetensors(model, path)
    else:
        save_onnx(model, path)


@overload
def generate(
    model: LanguageModel,
    prefix: str = ...,
    length: int = ...,
    temperature: float = ...,
    *,
    samples: None = ...,
    stop: str | None = ...,
    seed: int | None = ...,
    precision: str = ...,
) -> str: ...


@overload
def generate(
    model: LanguageModel,
    prefix: str = ...,
    length: int = ...,
    temperature: float = ...,
    *,
    samples: int,
    stop: str | None = ...,
    seed: int | None = ...,
    precision: str = ...,
) -> list[str]: ...


def generate(  # noqa: PLR0913
    model: LanguageModel,
    prefix: str = "\n",
    length: int = 1000,
    temperature: float = 1.0,
    *,
    samples: int | None = None,
    stop: str | None = None,
    seed: int | None = None,
    precision: str = "32",
) -> str | list[str]:
    """Lets a model write text.

    Args:
        model: one with a decoder.
        prefix: what the text begins with, and is part of it; for a backward model, what it ends with.
        length: how many characters (of a word model: words) to write, at least 1.
        temperature: below 1 makes texts less varied, above 1 more; 0 always takes the most probable item.
        samples: None for one text; a number for a list of that many, computed together.
        stop: a text ends as soon as it contains this; None for always `length` items.
        seed: the same seed gives the same texts on the same machine; None for torch's generator.
        precision: "32", or "bf16" for products in bfloat16 where that is faster.

    Returns:
        the text, or the list of texts. Flair's `generate_text` also gives the loss, as does
        `lmtrain.inference.generation.generate`.

    Raises:
        UserError: an argument is out of range, the model has no decoder, or its dictionary lacks both a character of
            the prefix and `<unk>`.
    """
    _check_models(model)
    _check_texts([prefix or ""])
    numbers: dict[str, Any] = {"length": length, "samples": samples, "temperature": temperature, "seed": seed}
    for name, number in numbers.items():
        kind = Real if name == "temperature" else Integral
        if number is not None and (isinstance(number, bool) or not isinstance(number, kind)):
            raise UserError(f"{name} is {number!r}; it must be a {'' if kind is Real else 'whole '}number.")
    count = 1 if samples is None else samples
    written = generation.generate(model, prefix, length, temperature, count, stop, seed, precision)
    texts = [generation.readable(text) for text, _ in written]
    return texts[0] if samples is None else texts


@overload
def score(  # type: ignore[overload-overlap]  # a str is an iterable of texts, too, for Python
    model: LanguageModel, text: str, batch_size: int = ...
) -> Score: ...


@overload
def score(model: LanguageModel, text: Iterable[str], batch_size: int = ...) -> list[Score]: ...


def score(model: LanguageModel, text: str | Iterable[str], batch_size: int = 64) -> Score | list[Score]:
    """How probable a model finds a text: `loss` in nats per item, `perplexity`, `bits_per_item`, `bits_per_byte`.

    The text is read as it is, from a zero state; its first item (of a backward model: its last) is not scored, since
    nothing stands before it. `scripts/score.py` reads files and leaves out their empty lines, as training does.

    Args:
        model: one with a decoder.
        text: of any length; or several, each of which is scored by itself.
        batch_size: how many texts are computed together; fewer take less memory.

    Returns:
        the score, or a list with one for each text, in their order. Scores can be added.

    Raises:
        UserError: the model has no decoder, or its dictionary lacks both a character of the text and `<unk>`.
    """
    _check_models(model)
    if isinstance(text, str):
        return scoring.score(model, [text], batch_size)[0]
    return scoring.score(model, _check_texts(text), batch_size)


Sentence = str | Sequence[str]
"""Tokens, or a string of them with white space between."""


@overload
def embed(  # type: ignore[overload-overlap]  # a str is a sequence of sentences, too, for Python
    model: LanguageModel | Sequence[LanguageModel], sentences: str, *, is_lower: bool = ..., precision: str = ...
) -> Tensor: ...


@overload
def embed(
    model: LanguageModel | Sequence[LanguageModel],
    sentences: Sequence[Sentence],
    *,
    is_lower: bool = ...,
    precision: str = ...,
) -> list[Tensor]: ...


def embed(
    model: LanguageModel | Sequence[LanguageModel],
    sentences: str | Sequence[Sentence],
    *,
    is_lower: bool = False,
    precision: str = "32",
) -> Tensor | list[Tensor]:
    """Contextual string embeddings of tokens (Akbik et al., 2018): the vectors of Flair's `FlairEmbeddings`.

        vectors = lmtrain.embed([forward, backward], ["The cat sat .", ["It", "purred", "."]])

    `lmtrain.inference.embeddings.StringEmbeddings` has Flair's other options, and prepares the weights once for many
    calls.

    Args:
        model: of characters; or several, usually a forward and a backward one, whose vectors are joined in this order.
        sentences: a sentence, that is a string of tokens with white space between; or several, each a string or a list
            of tokens. So `["The", "cat"]` are two sentences of one token each, and `[["The", "cat"]]` is one of two.
        is_lower: the models were trained on text in lower case.
        precision: "32", or "bf16" for products in bfloat16 where that is faster.

    Returns:
        float32 `(tokens, D)` on the models' device, D the sum of the models' output sizes; or a list of them.

    Raises:
        UserError: there is no model, or one is of words.
    """
    models = list(model) if isinstance(model, Iterable) and not isinstance(model, str) else [model]
    _check_models(*models)
    embeddings = StringEmbeddings(*models, is_lower=is_lower, precision=precision)
    several: Sequence[Sentence] = [sentences] if isinstance(sentences, str) else sentences
    tokens = [one.split() if isinstance(one, str) else _check_texts(one) for one in _listed(several)]
    vectors = embeddings.embed(tokens)
    return vectors[0] if isinstance(sentences, str) else vectors


def _check_models(*models: Any) -> None:
    for model in models:
        if isinstance(model, str | Path):
            raise UserError(f"This takes a model, not the name of its file: lmtrain.load({str(model)!r}) reads it.")
        if not isinstance(model, LanguageModel):
            raise UserError(f"This takes a model as lmtrain.load gives it, not {_shown(model)}.")


def _check_texts(texts: Any) -> list[str]:
    """The texts in a list, each of them a str."""
    listed = _listed(texts)
    for text in listed:
        if not isinstance(text, str):
            raise UserError(f"A text is a str, not {_shown(text)}.")
    return listed


def _listed(several: Any) -> list[Any]:
    if isinstance(several, bytes) or not isinstance(several, Iterable):
        raise UserError(f"A text is a str, and several are a list of them, not {_shown(several)}.")
    return list(several)


def _shown(value: Any) -> str:
    return f"{reprlib.repr(value)} ({type(value).__name__})"
