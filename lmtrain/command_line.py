"""`train.py` and `lmtrain-train`: Hydra composes the configuration, mistakes become one message and exit status 2."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmtrain.command import program
from lmtrain.errors import UserError

_HERE = Path(__file__).resolve().parent
# within the package where it is installed, beside it in a checkout
CONFIG_FOLDER = _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parent / "conf"


def main() -> None:
    """Runs the command line; exits with 0 only if the run did its work, with 2 for a user's mistake."""
    OmegaConf.register_new_resolver("program", program, replace=True)  # for --help
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises, and the message is ours
    try:
        hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="config")(_job)()
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(_say(_explain(error)))
    except ValueError as error:
        if "Config group override" not in str(error):
            raise
        sys.exit(_say(f"Error: a group such as model=OPTION takes the name of an option. {error}."))
    except KeyboardInterrupt:
        sys.exit(130)


def compose_values(*overrides: str) -> dict[str, Any]:
    """The values that `train.py OVERRIDES` trains with, outside a run of Hydra."""
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return OmegaConf.to_container(hydra.compose("config", list(overrides)), resolve=True)


def _say(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


def _job(config: DictConfig) -> None:
    """One run; in a sweep, one of several. Mistakes end it here, for Hydra would print more than their message."""
    try:
        _run(OmegaConf.to_container(config, resolve=True))
    except UserError as error:
        sys.exit(_say(error.report()))
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(_say(_explain(error)))


def _run(values: dict[str, Any]) -> None:
    choice = HydraConfig.get()
    if choice.mode == RunMode.MULTIRUN and values["trainer"]["devices"] != 1:
        # the processes of one job share what a process can have only once
        command = [sys.executable, sys.argv[0], *choice.overrides.task]
        status = subprocess.run(command, check=False).returncode
        if status:
            sys.exit(status)
        return
    # Lightning starts the other ranks with this process's own arguments, unless it sees that Hydra is running
    HydraConfig.instance().cfg = None
    from lmtrain.quick_start import without_unused_packages  # slow to import, all of these, and not needed for --help

    with without_unused_packages():
        from lmtrain.callbacks.signals import Interrupted
        from lmtrain.interruption import stop
        from lmtrain.training import train

    try:
        train(values, {override.lstrip("+~").split("=")[0] for override in choice.overrides.task})
    except Interrupted as interruption:
        sys.exit(stop(interruption, values))


def _explain(error: Exception) -> str:
    """What Hydra says, shorter, with the nearest key or option where there is one."""
    from lmtrain.config import hint, most_like  # slow to import, like training

    if isinstance(error, OverrideParseException):
        reason = error.message.replace(f"Error parsing override '{error.override}'", "").split("See https:")[0]
        return (
            f"Error: {error.override!r} on the command line is not KEY=VALUE ({' '.join(reason.split())}). "
            "A value with special characters needs quotes that the shell leaves: 'KEY=\"VALUE\"'."
        )
    if isinstance(error, MissingConfigException) and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        nearest = most_like(option, error.options)
        meant = f"Did you mean {' or '.join(nearest)}? " if nearest else ""
        return f"Error: {group}={option} is no option. {meant}The options are {', '.join(error.options)}."
    cause = error.__cause__ or error
    key = getattr(cause, "full_key", None)
    if key and "not in struct" in str(cause):
        groups = most_like(key, ["experiment"])
        return f"Error: there is no key {key}. " + (f"Did you mean {groups[0]}?" if groups else hint(key))
    message = " ".join((str(error) or str(cause)).split())
    where = f"{key}: " if key else ""
    return f"Error: {where}{message.partition(' full_key:')[0].partition(' Config search path:')[0]}"
