"""All that lmtrain knows of the inside of Lightning: every private name, and why it is needed.

Nothing else in lmtrain touches one, which ruff (SLF001) and tests/test_architecture.py hold; the test also says which
of them a new version of Lightning does not have any more. `loggers/tensorboard.py` has those of TensorBoard's writers.

- `window_loop.py`: Lightning's loops with less around each step; `run.py` puts them in.
- `loop_state.py`: what Lightning saves of its loops, and how a fit goes on from that.
- `attributes.py`: types of what Lightning sets at run time only.
- `processes.py`: signals and the processes of other ranks.
- `callback_defaults.py`: when Lightning's own callbacks look at a figure.
- `importing.py`: imports Lightning without the slow packages that only its metrics need.
"""

# of a module, or of an object: a Trainer, a LightningModule, an optimizer of torch; and what it is needed for
PRIVATE_NAMES = {
    "lightning.pytorch.loops._FitLoop": "the loop over epochs, which also begins if only a validation is left to do",
    "lightning.pytorch.loops.training_epoch_loop._TrainingEpochLoop": "the loop over the windows of an epoch",
    "lightning.pytorch.loops.fetchers._DataFetcher": "what gives that loop its windows",
    "lightning.pytorch.loops.progress._ProcessedTracker": "how many windows are processed: the type of that counter",
    "lightning.pytorch.trainer.call._call_callback_hooks": "the end of an epoch whose last validation is made again",
    "lightning.pytorch.strategies.launchers.subprocess_script._launch_process_observer": "sees ranks end",
    "early_stopping._check_on_train_epoch_end": "looks after validations",
    "model_checkpoint._save_on_train_epoch_end": "likewise",
    "module._current_fx_name": "which hook runs, for what is logged in it",
    "lightning_utilities.core.imports._version": "hides slow packages from torchmetrics",
    "lightning_utilities.core.imports.package_available": "likewise",
    "trainer._signal_connector.register_signal_handlers": "lmtrain follows signals itself",
    "trainer._checkpoint_connector.dump_checkpoint": "what is in a checkpoint, before it is written",
    "trainer._logger_connector.on_batch_start": "notes a batch, for what is logged in a step",
    "trainer._logger_connector.on_batch_end": "likewise",
    "trainer._logger_connector.update_train_step_metrics": "likewise",
    "trainer._val_check_time_interval": "whether validations are due by the clock: then Lightning's own loop runs",
    "trainer._logger_connector._first_loop_iter": "whether there is more to note than a batch's size",
    "combined_loader._iterator": "the one loader below Lightning's three iterators; None before the first window",
    "optimizer._optimizer_step_pre_hooks": "whether a step of torch's optimizer needs what torch wraps around it",
    "optimizer._optimizer_step_post_hooks": "likewise",
    "torch.optim.optimizer._global_optimizer_pre_hooks": "likewise",
    "torch.optim.optimizer._global_optimizer_post_hooks": "likewise",
    "torch.autograd.profiler._is_profiler_enabled": "likewise",
    "trainer.fit_loop._can_stop_early": "whether `trainer.should_stop` ends training here",
    "trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor": "a collective at each step, which lmtrain does not need",
    "trainer.fit_loop.epoch_loop._batches_that_stepped": "the step by which figures are logged",
    "trainer.fit_loop.epoch_loop._results": "what was logged in a step",
}
