"""The network in plain torch.

- A `RecurrentLM` (`language_model.py`) is made of its `Sizes`. Ids `(T, B)` go through embedding, dropout, recurrent
  layers, an optional projection, and dropout to the output `(T, B, D)`, from which embeddings are taken.
  `RecurrentLM.loss` adds the decoder's logits and their cross entropy (`loss.py`). A `LanguageModel` is a trained
  network with its dictionary and what it read.
- The model keeps no state between calls: the hidden state, a tuple of `(L, B, H)`, is an argument and a result. It is
  zero at the beginning of a text, and training carries it from window to window.
- The recurrent layers are one of `CELLS` (`cells.py`). Its entry has everything that differs between LSTM, GRU and
  minGRU, so that no other code asks which one it is.
- LSTM, GRU and dropout come from `lmtrain.kernels`, which computes what torch's own modules compute.
- Nothing here knows of Lightning, of a configuration, or of files.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """`lmtrain.model` was the module of these classes, and pickled embeddings look for them there."""
    if name not in ("CharLM", "LanguageModel"):
        raise AttributeError(f"module 'lmtrain.model' has no attribute {name!r}")
    from lmtrain.model import language_model

    return getattr(language_model, "RecurrentLM" if name == "CharLM" else name)
