"""Keeps former names of modules working, which documentation, model cards and configurations have printed.

A module that moved is found under its old name, as the same module: `from lmtrain.export import load_model`. In a
configuration, a `_target_` with an old name is read as the present one, so that old runs can be resumed and new files
have the present names.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED_MODULES = {
    "lmtrain.callbacks": "lmtrain.training.callbacks",
    "lmtrain.compose": "lmtrain.config.compose",
    "lmtrain.corpus": "lmtrain.data.corpus",
    "lmtrain.cuda_recurrence": "lmtrain.kernels.cuda",
    "lmtrain.curves": "lmtrain.runs.curves",
    "lmtrain.dictionary": "lmtrain.data.dictionary",
    "lmtrain.dropout": "lmtrain.kernels.dropout",
    "lmtrain.embeddings": "lmtrain.inference.embeddings",
    "lmtrain.export": "lmtrain.model_files.export",
    "lmtrain.flair_format": "lmtrain.model_files.flair",
    "lmtrain.generation": "lmtrain.inference.generation",
    "lmtrain.long_texts": "lmtrain.inference.long_texts",
    "lmtrain.lstm": "lmtrain.kernels.lstm",
    "lmtrain.metrics_csv": "lmtrain.training.loggers.metrics_csv",
    "lmtrain.mlflow_logger": "lmtrain.training.loggers.mlflow",
    "lmtrain.model.cpu": "lmtrain.kernels",
    "lmtrain.model.cuda": "lmtrain.kernels.cuda",
    "lmtrain.muon": "lmtrain.training.muon",
    "lmtrain.pair": "lmtrain.runs.pair",
    "lmtrain.publishing": "lmtrain.runs.publishing",
    "lmtrain.run_folder": "lmtrain.runs.run_folder",
    "lmtrain.scoring": "lmtrain.inference.scoring",
    "lmtrain.stepper": "lmtrain.inference.stepper",
    "lmtrain.sweep": "lmtrain.cli.sweep",
    "lmtrain.tensorboard_logger": "lmtrain.training.loggers.tensorboard",
    "lmtrain.trainer_arguments": "lmtrain.config.trainer_arguments",
    "lmtrain.vector_file": "lmtrain.inference.vector_file",
    "lmtrain.wandb_logger": "lmtrain.training.loggers.wandb",
    "lmtrain.workers": "lmtrain.cli.workers",
}
_PRESENT_NAMES = {"lmtrain.training.muon.Muon": "lmtrain.Muon"}  # names that `import lmtrain` offers


def present_name(name: str) -> str:
    """The name that a module, class or function has today: "lmtrain.Muon" of "lmtrain.muon.Muon"."""
    parts = name.split(".")
    for length in range(len(parts), 1, -1):
        if (moved := MOVED_MODULES.get(".".join(parts[:length]))) is not None:
            name = ".".join([moved, *parts[length:]])
            break
    return _PRESENT_NAMES.get(name, name)


class MovedModuleFinder(MetaPathFinder, Loader):
    """Finds modules by their former names; the first entry of `sys.meta_path`."""

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith("lmtrain.") or present_name(name) == name:
            return None
        return ModuleSpec(name, self)

    def create_module(self, _spec: ModuleSpec) -> None:
        """A module to be replaced by `exec_module`: Python would change one that is there already."""

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(present_name(module.__name__))
