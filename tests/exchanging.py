"""Callbacks of a user that put other weights into the model, for a validation or for good."""

import torch
from lightning.pytorch import Callback
from torch.nn.utils import prune


class Exchange(Callback):
    """An average of the weights, validated in place of the trained ones: `put` and `back` name the hooks."""

    def __init__(self, put: str, back: str, decay: float = 0.9) -> None:
        self.decay = decay
        self.average: dict | None = None
        self.calls: list[str] = []
        setattr(self, put, lambda _, module, *__: self.exchange(module, put))
        setattr(self, back, lambda _, module, *__: self.exchange(module, back))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        now = pl_module.model.state_dict()
        if self.average is None:
            self.average = {name: weight.clone() for name, weight in now.items()}
        for name, weight in now.items():
            self.average[name].lerp_(weight, 1 - self.decay)

    def exchange(self, module, name: str) -> None:
        self.calls.append(name)
        if self.average is not None:
            weights = {name: weight.clone() for name, weight in module.model.state_dict().items()}
            module.model.load_state_dict(self.average)
            self.average = weights

    def state_dict(self) -> dict:
        return {"average": self.average, "calls": self.calls}

    def load_state_dict(self, state_dict: dict) -> None:
        self.average, self.calls = state_dict["average"], state_dict["calls"]


class AverageAtTheEnd(Callback):
    """Puts half the sum of the first and the last weights into the model when training ends."""

    def on_train_start(self, trainer, pl_module) -> None:
        self.first = {name: weight.clone() for name, weight in pl_module.model.state_dict().items()}

    def on_train_end(self, trainer, pl_module) -> None:
        with torch.no_grad():
            for name, weight in pl_module.model.state_dict().items():
                weight.lerp_(self.first[name], 0.5)


class Shrink(Callback):
    """Makes all weights smaller after every step."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        with torch.no_grad():
            for weight in pl_module.model.parameters():
                weight.mul_(0.999)


class Reorder(Callback):
    """Puts the weights of the decoder into another order within a validation: of its rows, or of its columns."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0) -> None:
        with torch.no_grad():
            weight = pl_module.model.decoder.weight
            weight.copy_(weight.roll(1, self.dim))


class Prune(Callback):
    """Prunes as torch does, which renames parameters."""

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        prune.random_unstructured(pl_module.model.decoder, "weight", 0.1)
