"""Computes `data.batch_size` from `data.lanes_per_device`, once the number of devices is known."""

from collections.abc import Collection

from lmtrain.config.schema import Config
from lmtrain.errors import UserError
from lmtrain.runs.run_folder import RunFolder


def with_lanes(config: Config, devices: int, explicit: Collection[str], folder: RunFolder) -> Config:
    """The configuration with the `data.batch_size` that `data.lanes_per_device` means.

    A run that goes on keeps the lanes it began with, whatever the number of devices is now.

    Args:
        config: of the run.
        devices: their number in all processes of this start.
        explicit: the keys that the user set.
        folder: of the run.

    Raises:
        UserError: the user gave `data.batch_size`, too.
    """
    lanes = config.data.lanes_per_device
    if lanes is None:
        return config
    if "data.batch_size" in explicit:
        raise UserError(
            f"data.batch_size={config.data.batch_size} and data.lanes_per_device={lanes} both say how many lanes "
            "there are: on all devices together, and on each. Give one of them."
        )
    before = {} if config.overwrite else folder.began_with()
    begun = before.get("data.batch_size") if before.get("data.lanes_per_device") == lanes else None
    return config.changed({"data.batch_size": begun or lanes * devices})
