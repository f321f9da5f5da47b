"""The LightningModule: truncated backpropagation through time over windows."""

import hashlib
import inspect
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor

from lmtrain.data.windows import Window
from lmtrain.model.language_model import Hidden, RecurrentLM, detach
from lmtrain.training.checkpoint_state import Position, RunState
from lmtrain.training.clipping import clip_norm
from lmtrain.training.divergence import raise_if_diverged
from lmtrain.training.lightning_internals.attributes import annotated
from lmtrain.training.running_mean import RunningMean
from lmtrain.training.weight_traces import same_traces, traces
from lmtrain.units import perplexity

_PLAIN_ATTRIBUTES = frozenset({"_current_fx_name", "hidden", "items_seen", "grad_norm", "_begin", "_is_counted"})


class LanguageModelModule(LightningModule):
    """Trains a `RecurrentLM` by truncated BPTT with automatic optimization.

    The hidden state after a window is detached and carried to the next one; it is zero at a split's start. Each rank
    holds the state of its own lanes; a checkpoint holds that of all lanes, in the order of the lanes. An optimizer that
    computes a window several times (LBFGS) sees the same hidden state and the same dropout each time; the first loss
    is reported, and the last hidden state is carried on.

    Logs `val/loss` (mean nats per item over all ranks), `val/ppl` and `val/bpc`, likewise `test/...`, for callbacks.

    Args:
        model: the network.
        optimizer: makes the optimizer from the named parameters.
        seed: dropout's random state is set from (seed, epoch, window, rank) whenever a window is computed, so that a
            resumed run needs no saved random state.
        description: plain values that go into checkpoints as `lmtrain`, to use the model without the run.
        is_compiled: let `torch.compile` fuse what surrounds the recurrence in training.
    """

    def __init__(
        self,
        model: RecurrentLM,
        optimizer: Callable[..., torch.optim.Optimizer],
        seed: int = 1,
        description: dict[str, Any] | None = None,
        is_compiled: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.training_loss = torch.compile(model.loss) if is_compiled else model.loss
        self.make_optimizer = optimizer
        self.seed = seed
        self.description = description or {}
        self.hidden: Hidden | None = None
        self._begin: Hidden | None = None  # the state before the window
        self._is_counted = False  # whether the window's loss and items are
        self.items_seen = 0
        self.seconds = 0.0  # of this run's earlier parts
        self._began = time.monotonic()
        self.train_mean = RunningMean()
        self.grad_norm: Tensor | None = None
        self._evaluation_hidden: Hidden | None = None
        self._evaluation_mean = RunningMean()
        self._evaluated: Tensor | None = None  # the traces of the weights that the latest evaluation began with
        self.trained: Tensor | None = None  # the traces of the weights that training went on with after the latest one
        self.weights_to_test: dict[str, Tensor] | None = None  # None for those that are there

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning sets `_current_fx_name` at every hook of every step, and torch.nn.Module looks long for a parameter
        if name in _PLAIN_ATTRIBUTES:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def seconds_so_far(self) -> float:
        """How long the run has taken, its earlier parts included."""
        return self.seconds + time.monotonic() - self._began

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The configured optimizer, in its fused form if that exists and is faster.

        The fused form is not used if gradients are scaled or the configuration asks for another form, nor for plain SGD
        on CPUs, where it takes a fifth longer.
        """
        make, device = self.make_optimizer, self.device.type
        kind, given = getattr(make, "func", make), getattr(make, "keywords", {})
        is_plain_sgd = kind is torch.optim.SGD and not (given.get("momentum") or given.get("weight_decay"))
        is_fused = (
            "fused" in inspect.signature(kind).parameters
            and not given.keys() & {"fused", "foreach", "differentiable"}
            and self.trainer.precision != "16-mixed"
            and (device == "cuda" or (device == "cpu" and not is_plain_sgd))
        )
        return make(self.model.named_parameters(), **({"fused": True} if is_fused else {}))

    def on_train_batch_start(self, batch: Window, batch_idx: int) -> None:
        self._begin = None if batch.starts_split else self.hidden
        self._is_counted = False

    def training_step(self, batch: Window, batch_idx: int) -> Tensor:
        trainer, model = self.trainer, self.model  # looked up once: both attributes are slow properties
        if model.sizes.dropout > 0:
            place = f"{self.seed} {trainer.current_epoch} {batch_idx} {trainer.global_rank}"
            _seed(self.device, int.from_bytes(hashlib.blake2b(place.encode(), digest_size=8).digest(), "little"))
        loss, hidden = self.training_loss(batch.inputs, batch.targets, self._begin)
        self.hidden = detach(hidden)
        length, lanes = batch.inputs.shape
        all_lanes = annotated(trainer).datamodule.batch_size
        if not self._is_counted:
            self._is_counted = True
            self.train_mean.add(loss, length * lanes)
            self.items_seen += length * all_lanes
        # strategies average gradients over ranks, as if all had equally many lanes
        share = lanes * trainer.world_size / all_lanes
        return loss if share == 1 else loss * share

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips the norm as `torch.nn.utils.clip_grad_norm_` does, or each value, and keeps the norm from before for
        the log."""
        is_by_value = gradient_clip_algorithm is not None and gradient_clip_algorithm == GradClipAlgorithmType.VALUE
        limit = math.inf if gradient_clip_val is None or is_by_value else gradient_clip_val
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.grad_norm = clip_norm(parameters, limit)
        if is_by_value and gradient_clip_val is not None:
            torch.nn.utils.clip_grad_value_(parameters, gradient_clip_val)

    def reduced(self, mean: RunningMean) -> list[float]:
        """Total in nats and number of items over all ranks; called on every rank."""
        return self.trainer.strategy.reduce(mean.sums(self.device), reduce_op="sum").tolist()

    def _evaluation_start(self) -> None:
        self._evaluation_hidden = None
        self._evaluation_mean = RunningMean()
        self._evaluated = None

    def _evaluation_step(self, batch: Window) -> None:
        if self._evaluated is None:
            self._evaluated = traces(self.model)
        loss, self._evaluation_hidden = self.model.loss(batch.inputs, batch.targets, self._evaluation_hidden)
        self._evaluation_mean.add(loss, batch.inputs.numel())

    def evaluation_loss(self) -> float:
        """The mean over the windows evaluated so far, on all ranks; called on every rank."""
        total, items = self.reduced(self._evaluation_mean)
        return total / items

    def has_evaluated_these_weights(self) -> bool:
        """Whether the weights are those with which the latest evaluation began."""
        return self._evaluated is not None and same_traces(self._evaluated, traces(self.model))

    def has_unmeasured_weights(self) -> bool:
        """Whether a callback has changed the weights since the latest validation; called when training has ended."""
        if self._evaluated is None or self.trained is None:
            return False
        now = traces(self.model)
        return not (same_traces(now, self._evaluated) or same_traces(now, self.trained))

    def _evaluation_end(self, stage: str) -> None:
        loss = self.evaluation_loss()
        if stage == "val":
            raise_if_diverged(loss, self.grad_norm, self.trainer)
        figures = {f"{stage}/loss": loss, f"{stage}/ppl": perplexity(loss), f"{stage}/bpc": loss / math.log(2)}
        self.log_dict(figures, logger=False, rank_zero_only=False)
        self._evaluation_hidden = None

    def on_validation_epoch_start(self) -> None:
        self._evaluation_start()

    def validation_step(self, batch: Window, batch_idx: int) -> None:
        self._evaluation_step(batch)

    def on_validation_epoch_end(self) -> None:
        self._evaluation_end("val")

    def on_test_epoch_start(self) -> None:
        if self.weights_to_test is not None:
            self.model.load_state_dict(self.weights_to_test)  # a callback may have exchanged them
        self._evaluation_start()

    def test_step(self, batch: Window, batch_idx: int) -> None:
        self._evaluation_step(batch)

    def on_test_epoch_end(self) -> None:
        self._evaluation_end("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the hidden state of all lanes, on the first rank, which writes the file; called on every rank."""
        total, items = self.reduced(self.train_mean)
        raise_if_diverged(total, self.grad_norm, self.trainer)
        RunState(
            description=self.description,
            position=Position(**annotated(self.trainer).datamodule.state_dict()),
            items_seen=self.items_seen,
            seconds=self.seconds_so_far(),
            train_mean=(total, int(items)),
            hidden=self._hidden_of_all_lanes(),
        ).write(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = RunState.read(checkpoint)
        self.items_seen = state.items_seen
        self.seconds = state.seconds
        if self.trainer.is_global_zero:
            self.train_mean = RunningMean(*state.train_mean)
        if state.hidden is not None:
            lanes = annotated(self.trainer).datamodule.lanes_of_rank(self.global_rank, self.trainer.world_size)
            self.hidden = tuple(part[:, lanes.start : lanes.stop].contiguous() for part in state.hidden)

    def on_fit_start(self) -> None:
        """Moves a loaded hidden state to the device and dtype of the weights, which may have been others when saved."""
        if self.hidden is not None:
            self.hidden = tuple(part.to(self.model.encoder.weight) for part in self.hidden)

    def _hidden_of_all_lanes(self) -> tuple[Tensor, ...] | None:
        """Each part `(L, B, H)`, on the CPU; None at a split's start and on ranks other than 0.

        Rank 0 alone gathers the lanes, since it writes the file: sending all lanes to every rank would cost more.
        """
        if self.hidden is None:
            return None
        parts = [self._gathered(part) for part in self.hidden]
        return tuple(part for part in parts if part is not None) or None

    def _gathered(self, part: Tensor) -> Tensor | None:
        """This rank's `(L, B of this rank, H)` → `(L, B, H)` of all ranks on rank 0, None on the others."""
        if self.trainer.world_size == 1:
            return part.cpu()
        data, world_size = annotated(self.trainer).datamodule, self.trainer.world_size
        shares = [len(data.lanes_of_rank(rank, world_size)) for rank in range(world_size)]
        padded = torch.nn.functional.pad(part, (0, 0, 0, max(shares) - part.shape[1])).contiguous()
        parts = [torch.empty_like(padded) for _ in shares] if self.trainer.is_global_zero else None
        torch.distributed.gather(padded, parts)
        if parts is None:
            return None
        return torch.cat([part[:, :share] for part, share in zip(parts, shares, strict=True)], dim=1).cpu()


def _seed(device: torch.device, seed: int) -> None:
    """Seeds the device's default generator only: `torch.manual_seed` costs a millisecond where there is no GPU."""
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
