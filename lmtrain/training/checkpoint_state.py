"""The content of a checkpoint, its version, and the only code that writes and reads lmtrain's part of it.

A checkpoint is the dict that Lightning makes, saved by torch; `torch.load(path, weights_only=True)` reads it.

| entry | what it holds |
|---|---|
| `state_dict` | the weights, named `model.` and Flair's name |
| `optimizer_states`, `loops`, `global_step` | Lightning's: the optimizer's state, counters, optimizer steps done |
| `lmtrain` | `RunState`, and with it all that is needed to use the model without its run |
| `WindowDataModule` | `Position` |
| `callbacks` | a dict for each callback with a state: `OWN_CALLBACKS`, and those of the user's callbacks |
| `epoch` | whole passes over the training text |

There is nothing else: the text of an epoch and dropout's random state are functions of the seed and the position.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmtrain.errors import UserError
from lmtrain.model_files.checkpoint_version import CHECKPOINT_VERSION, check_version
from lmtrain.program.shell import override_of
from lmtrain.runs.run_folder import RunFolder

POSITION = "WindowDataModule"
OWN_CALLBACKS = {
    "AnnealOverRun": "the highest rate of the run's length then",
    "AnnealOnPlateau": "the losses that `ReduceLROnPlateau` has seen: best, num_bad_epochs, last_epoch",
    "BestModel": "the lowest validation loss, in nats per item, and its step",
    "Ending": "what an EarlyStopping monitored at the last validation",
    "RunCheckpoint": "whether a validation is due before anything else",
}
"""lmtrain's own callbacks that have a state, by the name under which Lightning keeps it → what it is."""


@dataclass(frozen=True)
class Position:
    """The position of a run in the training text, between two windows.

    Args:
        epoch: whole passes over the text that are done.
        window: windows of the present pass that are done.
    """

    epoch: int
    window: int


@dataclass(frozen=True)
class RunState:
    """The state of a run besides weights, optimizer and callbacks.

    Args:
        description: the model's items, direction, level, document delimiter and sizes.
        position: in the training text.
        items_seen: characters or words trained on, by all ranks.
        seconds: that the run has taken, over all its starts.
        train_mean: the negative log-likelihood in nats since the last report, and its number of items.
        hidden: each part of the hidden state `(L, B, H)`, with the lanes of all ranks in their order, on the CPU; None
            at a split's start, and on ranks other than 0, which write no file.
    """

    description: dict[str, Any]
    position: Position
    items_seen: int
    seconds: float
    train_mean: tuple[float, int]
    hidden: tuple[Tensor, ...] | None

    def write(self, checkpoint: dict[str, Any]) -> None:
        """Puts the state into a checkpoint, except the position, which Lightning takes from the datamodule."""
        checkpoint["epoch"] = self.position.epoch  # Lightning's own number depends on the hook that saves
        checkpoint["lmtrain"] = {
            "version": CHECKPOINT_VERSION,
            **self.description,
            "items_seen": self.items_seen,
            "seconds": self.seconds,
            "train_mean": self.train_mean,
            "hidden": self.hidden,
        }

    @classmethod
    def read(cls, checkpoint: dict[str, Any]) -> "RunState":
        """The state in a checkpoint of this version or of an earlier one.

        Raises:
            UserError: a later lmtrain wrote it.
        """
        check_version(checkpoint["lmtrain"])
        entry = {name: value for name, value in checkpoint["lmtrain"].items() if name != "version"}
        parts = {name: entry.pop(name) for name in ("items_seen", "seconds", "train_mean", "hidden")}
        return cls(description=entry, position=Position(**checkpoint[POSITION]), **parts)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint whose tensors stay in the file until they are used."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return content


def check_is_not_later(folder: RunFolder) -> None:
    """Raises `UserError` if a later lmtrain wrote the checkpoint that a run would go on from."""
    for path in folder.checkpoint_files.present():
        try:
            entry = read_checkpoint(path)["lmtrain"]
        except Exception:  # damaged, which `RunFolder.last_checkpoint` sees
            continue
        try:
            check_version(entry)
        except UserError as error:
            raise UserError(
                f"{path} cannot be gone on from. {error} Or begin anew in another folder with name=NAME, or fine-tune "
                f"its best model there: {override_of('init_from', folder.best)}"
            ) from None
        return
