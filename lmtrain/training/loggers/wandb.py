"""Figures, configuration and samples in Weights & Biases."""

from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

from lmtrain.errors import UserError
from lmtrain.training.loggers.run_logger import RunInfo, RunLogger


class Wandb(WandbLogger, RunLogger):
    """Begins a run of wandb, or goes on with the one that this run began; its files are in the run folder.

    Args:
        run: the run.
        arguments: for `wandb.init`.

    Raises:
        UserError: wandb does not begin the run.
    """

    packages = ("wandb",)
    extra = "wandb"
    takes_text = True

    def __init__(self, run: RunInfo, **arguments: Any) -> None:
        if run.key is None:
            super().__init__(save_dir=str(run.folder))
            return
        import wandb  # slow, and an optional package

        try:
            begun = wandb.init(dir=str(run.folder), id=run.key, resume="allow", **arguments)
        except wandb.Error as error:
            raise UserError(
                f"wandb does not begin the run: {error} Without a network, logger.wandb.mode=offline."
            ) from None
        # the axis on which runs of all batch sizes compare
        begun.define_metric("*", step_metric="chars", step_sync=True)
        super().__init__(save_dir=str(run.folder), experiment=begun)

    def add_text(self, name: str, text: str, step: int) -> None:
        self.log_text(name, ["text"], [[text]], step=step)

    @rank_zero_only
    def close(self) -> None:
        """Ends wandb's run: the next one of this process would be taken for a part of it."""
        self.experiment.finish()


wandb_logger = Wandb  # its name in configurations of before
