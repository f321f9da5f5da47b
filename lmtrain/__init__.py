"""Trains character LSTM language models whose best-lm.pt Flair loads unchanged, and works with them.

    import lmtrain

    results = lmtrain.train("model=base", "data=folder", "data.path=corpus")   # as after `python train.py`
    model = lmtrain.load("runs/base-folder-forward")
    print(lmtrain.generate(model, "The "), lmtrain.score(model, "The cat sat.").perplexity)
    vectors = lmtrain.embed(model, "The cat sat .")                            # float32 (4 tokens, hidden_size)

These names are stable; the contents of the sub-packages may move. Each name is imported when it is first used, so that
`import lmtrain` takes milliseconds.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from lmtrain.aliases import MovedModuleFinder
from lmtrain.program.starting import watch_if_command

if TYPE_CHECKING:
    from lmtrain.api import embed, generate, load, save, score, train
    from lmtrain.errors import UserError
    from lmtrain.inference.scoring import Score
    from lmtrain.model.language_model import LanguageModel
    from lmtrain.training.muon import Muon

    __version__: str

__all__ = [
    "LanguageModel",
    "Muon",
    "Score",
    "UserError",
    "__version__",
    "embed",
    "generate",
    "load",
    "save",
    "score",
    "train",
]

_PLACES = {
    **dict.fromkeys(("embed", "generate", "load", "save", "score", "train"), "lmtrain.api"),
    "LanguageModel": "lmtrain.model.language_model",
    "Muon": "lmtrain.training.muon",
    "Score": "lmtrain.inference.scoring",
    "UserError": "lmtrain.errors",
}

watch_if_command()
sys.meta_path.insert(0, MovedModuleFinder())


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from lmtrain.version import lmtrain_version

        value: Any = lmtrain_version()
    elif name in _PLACES:
        value = getattr(importlib.import_module(_PLACES[name]), name)
    else:
        raise AttributeError(f"module 'lmtrain' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
