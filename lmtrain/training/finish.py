"""The end of a run: the best model is tested, and the results are written."""

import logging
import math
from typing import Any

from lmtrain.errors import RunFailed, UserError
from lmtrain.model_files.flair import load_language_model
from lmtrain.runs.report import write_report
from lmtrain.training.announcements import log_end, loss_figures
from lmtrain.training.callbacks.ending import CALLBACKS, limits
from lmtrain.training.hardware import hardware_in_use
from lmtrain.training.lightning_internals.attributes import annotated
from lmtrain.training.precision import choose_precision
from lmtrain.training.run import Run

log = logging.getLogger(__name__)


def finish(run: Run) -> dict[str, Any]:
    """Tests the best model and writes the results.

    Raises:
        UserError: the run's end could not be saved.
    """
    if not run.trainer.strategy.broadcast(run.saving.is_saved):
        raise UserError(
            f"The run is at its end, but its last checkpoint could not be saved in {run.folder.checkpoints}. "
            "Make room there; the same command goes on from the checkpoint before."
        )
    cause = run.ending.cause(run.trainer)
    if cause == CALLBACKS and not run.ending.has_trained(run.trainer):
        _say_that_nothing_was_trained(run)
        results = run.folder.read_results()
        if results is not None and results["steps"] == run.trainer.global_step:
            return results
    is_removed = not run.trainer.strategy.broadcast(run.folder.best.exists())
    if is_removed or run.module.has_unmeasured_weights():  # a callback made them when training ended
        run.validate()
        log.info("The weights at the end: %s", loss_figures(run.module.evaluation_loss()))
        run.saving.replace_state(run.trainer, run.best)
    results = {
        "epochs": run.trainer.fit_loop.epoch_progress.current.ready,  # begun
        "steps": run.trainer.global_step,
        "chars": run.module.items_seen,
        "seconds": run.module.seconds_so_far(),
        "best_step": run.best.step,
        "val/loss": run.best.loss,
        "limits": limits(run.config),
        "ended_by": cause,
        **hardware_in_use(run.trainer),
        "precision_reason": choose_precision(run.config).reason,
        "lr": run.peak_rate.value,  # the highest
        "lr_reason": run.peak_rate.reason,
    }
    if run.config.test:
        run.module.weights_to_test = load_language_model(run.folder.best).model.state_dict()
        run.trainer.test(run.module, datamodule=run.data, verbose=False)
        run.saving.let_signals_act(run.trainer)
        figures = run.trainer.callback_metrics
        results |= {name: value.item() for name, value in figures.items() if name.startswith("test/")}
    if run.trainer.is_global_zero:
        write_report(run.folder, run.config, results)
        run.folder.write_results(results)  # last: until it is there the same command does all of this
        if not annotated(run.trainer).fast_dev_run:
            log_end(run.config, results, run.folder)
        run.ending.log_way_on(run.trainer, cause, run.config)
    return results


def _say_that_nothing_was_trained(run: Run) -> None:
    """Raises `RunFailed` if there is no model from before, either."""
    reason = run.ending.why_nothing_was_trained(run.trainer, run.folder.path)
    if math.isinf(run.best.loss):
        raise RunFailed(reason)
    log.warning("%s", reason)
