"""Computes `data.batch_size` from `data.lanes_per_device`, once the number of devices is known."""

from lmtrain.config.schema import Config
from lmtrain.runs.run_folder import RunFolder


def with_lanes(config: Config, devices: int, folder: RunFolder) -> Config:
    """The configuration with the `data.batch_size` that `data.lanes_per_device` means.

    A run that goes on keeps the lanes it began with, whatever the number of devices is now.

    Args:
        config: of the run.
        devices: their number in all processes of this start.
        folder: of the run.
    """
    lanes = config.data.lanes_per_device
    if lanes is None:
        return config
    before = {} if config.overwrite else folder.began_with()
    begun = before.get("data.batch_size") if before.get("data.lanes_per_device") == lanes else None
    return config.changed({"data.batch_size": begun or lanes * devices})
