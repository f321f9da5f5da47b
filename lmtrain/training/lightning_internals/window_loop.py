"""Lightning's loops over the epochs and over the windows of an epoch, with less around each step."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loops import _FitLoop
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.optim import optimizer as optimizers

from lmtrain.data.windows import Window
from lmtrain.errors import UserError
from lmtrain.training.lightning_internals.attributes import annotated, own_module

_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def use_window_loop(trainer: Trainer) -> None:
    """Puts these loops into a Trainer: its `fit` then takes window after window through `WindowLoop.advance`."""
    windows = WindowLoop(trainer, trainer.min_steps, trainer.max_steps)
    trainer.fit_loop = EpochLoop(trainer, trainer.min_epochs, trainer.max_epochs)
    trainer.fit_loop.epoch_loop = windows


class EpochLoop(_FitLoop):
    """Lightning's own, which also begins when nothing is left to do but a validation that a signal interrupted."""

    @property
    def skip(self) -> bool:
        callbacks = annotated(self.trainer).callbacks
        return super().skip and not any(getattr(one, "validation_is_due", False) for one in callbacks)


class WindowLoop(_TrainingEpochLoop):
    """What Lightning's own loop does for one optimizer that steps after every window, in the same order.

    Around each step Lightning asks every callback, the module, the strategy and the profiler for some 60 hooks, most of
    which nobody has: a quarter of the time of a step of 1 ms. This one asks once an epoch which callbacks have which
    hook; of the module it calls `on_train_batch_start`, `training_step` and `configure_gradient_clipping`, the others
    that `LanguageModelModule` has no use for not at all. Where it does not know better (several ranks, accumulated or
    scaled gradients, a profiler, the first step after a restart) Lightning's own steps are made.
    """

    def _broadcast_sigterm_tensor(self) -> None:
        """Lightning's asks all ranks at every step for a SIGTERM, which costs a collective and a synchronisation with
        the host; `RunCheckpoint` asks about once a second, for all signals."""

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        super().on_run_start(data_fetcher)
        trainer = annotated(self.trainer)
        self._is_plain = (
            type(trainer.strategy) is SingleDeviceStrategy
            and trainer.accumulate_grad_batches == 1
            and getattr(trainer.precision_plugin, "scaler", None) is None
            and not trainer.lr_scheduler_configs
            and isinstance(trainer.profiler, PassThroughProfiler)
            and trainer._val_check_time_interval is None
        )
        self._hooks = {name: _overriding(trainer, name) for name in _HOOKS}
        self._module = own_module(trainer.lightning_module)
        self._is_on_cpu = trainer.strategy.root_device.type == "cpu"

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Trains on the next window.

        Raises:
            UserError: the optimizer never computed a loss.
        """
        if self.restarting or not self._is_plain:
            super().advance(data_fetcher)
            return
        batch, batch_idx = self._begin_window(data_fetcher)
        module, optimizer = self._module, self.trainer.optimizers[0]
        last_loss: Tensor | None = None

        def closure() -> Tensor:
            nonlocal last_loss
            # torch's own optimizers see to it. A closure that called itself would hold its window until a collection
            with nullcontext() if torch.is_grad_enabled() else torch.enable_grad():
                module._current_fx_name = "training_step"
                with self.trainer.precision_plugin.forward_context():
                    loss = module.training_step(batch, batch_idx)
                self._zero_grad(optimizer)
                self._make_gradients(loss, optimizer)
            last_loss = loss.detach()
            return last_loss

        progress = self.automatic_optimization.optim_progress.optimizer.step
        progress.increment_ready()
        _step(optimizer, closure)
        progress.increment_completed()
        if last_loss is None:
            raise UserError(
                f"The optimizer {type(optimizer).__name__} trains nothing: its step(closure) never calls closure(), "
                "which computes loss and gradients. Take another optimizer, or call it there."
            )
        self._end_window(last_loss, batch, batch_idx)

    def _begin_window(self, data_fetcher: _DataFetcher) -> tuple[Window, int]:
        """The window on the device, and how many of the epoch came before it."""
        trainer, progress = self.trainer, self.batch_progress
        batch = _next_window(data_fetcher)
        progress.is_last_batch = data_fetcher.done
        batch_idx = progress.current.ready
        if not self._is_on_cpu:
            batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        progress.increment_ready()
        connector = trainer._logger_connector  # takes the weight of what is logged from the window's size
        if connector._first_loop_iter is False:  # from the third window of an epoch on nothing else is done there
            self._results.batch, self._results.batch_size = batch, None
        else:
            connector.on_batch_start(batch)
        self._call("on_train_batch_start", batch, batch_idx)
        self._module.on_train_batch_start(batch, batch_idx)
        progress.increment_started()
        return batch, batch_idx

    def _end_window(self, loss: Tensor, batch: Window, batch_idx: int) -> None:
        connector, progress = self.trainer._logger_connector, self.batch_progress
        progress.increment_processed()
        self._call("on_train_batch_end", {"loss": loss}, batch, batch_idx)
        if self._results:  # somebody logged something
            connector.on_batch_end()
            connector.update_train_step_metrics()
        self._results.batch = None
        progress.increment_completed()

    def _zero_grad(self, optimizer: torch.optim.Optimizer) -> None:
        progress = self.automatic_optimization.optim_progress.optimizer.zero_grad
        progress.increment_ready()
        self._call("on_before_zero_grad", optimizer)
        progress.increment_started()
        if getattr(optimizer.zero_grad, "__func__", None) is torch.optim.Optimizer.zero_grad:
            for group in optimizer.param_groups:  # what torch's does, which also tells its profiler
                for parameter in group["params"]:
                    parameter.grad = None
        else:
            optimizer.zero_grad()
        progress.increment_completed()

    def _make_gradients(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        trainer, module = self.trainer, self._module
        self._call("on_before_backward", loss)
        module._current_fx_name = "backward"
        loss.backward()
        self._call("on_after_backward")
        self._call("on_before_optimizer_step", optimizer)
        module.configure_gradient_clipping(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)

    def _call(self, name: str, *arguments: Any) -> None:
        """Calls the hook of those callbacks that have it."""
        if hooks := self._hooks[name]:
            trainer, module = self.trainer, self._module
            attributes = module.__dict__  # torch.nn.Module takes long to see that a name is no parameter
            attributes["_current_fx_name"] = name  # for those that log something
            for hook in hooks:
                hook(trainer, module, *arguments)
            attributes["_current_fx_name"] = None

    def on_advance_end(self, data_fetcher: _DataFetcher) -> None:
        trainer = self.trainer
        is_stopping = data_fetcher.done or trainer.should_stop or trainer.received_sigterm
        if self._is_plain and trainer.val_check_batch == math.inf and not is_stopping:
            self._batches_that_stepped += 1
        else:
            super().on_advance_end(data_fetcher)


def _next_window(fetcher: _DataFetcher) -> Window:
    """What Lightning's fetcher gives, straight from the one loader below its three iterators."""
    try:
        window = next(fetcher.combined_loader._iterator.iterators[0])
    except StopIteration:
        fetcher.done = True
        raise
    fetcher.fetched += 1
    fetcher.done = fetcher.fetched >= fetcher.length
    return window


def _step(optimizer: torch.optim.Optimizer, closure: Callable[[], Any]) -> None:
    """`optimizer.step(closure)`, without what torch wraps around it for hooks and its profiler if there are none."""
    function: Any = type(optimizer).step
    has_hooks = (
        optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or optimizers._global_optimizer_pre_hooks
        or optimizers._global_optimizer_post_hooks
        or torch.autograd.profiler._is_profiler_enabled
    )
    if has_hooks or "step" in vars(optimizer) or not getattr(function, "hooked", False):
        optimizer.step(closure=closure)
    else:
        function.__wrapped__(optimizer, closure=closure)


def _overriding(trainer: Trainer, name: str) -> list[Callable[..., None]]:
    """The hook of those callbacks that have their own, from their class or as an attribute."""
    hooks = [getattr(callback, name) for callback in annotated(trainer).callbacks]
    return [hook for hook in hooks if getattr(hook, "__func__", None) is not getattr(Callback, name)]
