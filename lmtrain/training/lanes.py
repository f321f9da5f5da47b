"""How many lanes a run has, where that depends on the number of devices."""

from collections.abc import Collection

from lmtrain.config.schema import Config
from lmtrain.errors import UserError
from lmtrain.runs.run_folder import RunFolder


def with_lanes(config: Config, devices: int, explicit: Collection[str], folder: RunFolder) -> Config:
    """Gives a configuration with `data.lanes_per_device` the `data.batch_size` that it means.

    A run that goes on keeps the lanes it began with, whatever the number of devices is now.

    Args:
        config: of the run.
        devices: on which the run is now.
        explicit: the keys that the user set.
        folder: of the run.

    Raises:
        UserError: `data.batch_size` is given, too.
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
