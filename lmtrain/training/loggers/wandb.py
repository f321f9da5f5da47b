"""Figures, configuration and samples in Weights & Biases."""

from typing import Any

from lightning.pytorch.loggers import WandbLogger

from lmtrain.errors import UserError


def wandb_logger(save_dir: str, run_key: str | None, **arguments: Any) -> WandbLogger:
    """Begins a run of wandb, or goes on with it, and makes Lightning's logger of it.

    Args:
        save_dir: where wandb keeps its files.
        run_key: identifies the run; None in a process that writes nothing.
        arguments: for `wandb.init`.

    Raises:
        UserError: wandb does not begin the run.
    """
    if run_key is None:
        return WandbLogger(save_dir=save_dir)
    import wandb  # slow, and an optional package

    try:
        run = wandb.init(dir=save_dir, id=run_key, resume="allow", **arguments)
    except wandb.Error as error:
        raise UserError(
            f"wandb does not begin the run: {error} Without a network, logger.wandb.mode=offline."
        ) from None
    run.define_metric("*", step_metric="chars", step_sync=True)  # the axis on which runs of all batch sizes compare
    return WandbLogger(save_dir=save_dir, experiment=run)
