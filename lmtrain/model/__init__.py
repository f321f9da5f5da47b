"""The network in plain torch, and what makes it fast on CPUs and right on GPUs."""

from typing import Any


def __getattr__(name: str) -> Any:
    """`lmtrain.model` was the module of these classes, and pickled embeddings look for them there."""
    if name not in ("CharLM", "LanguageModel"):
        raise AttributeError(f"module 'lmtrain.model' has no attribute {name!r}")
    from lmtrain.model import language_model

    return getattr(language_model, "RecurrentLM" if name == "CharLM" else name)
