"""The command `train.py`: Hydra composes the configuration, mistakes become one message and exit status 2."""

import difflib
import os
import subprocess
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lmtrain.errors import UserError

CONFIG_FOLDER = Path(__file__).resolve().parent.parent / "conf"


def main() -> None:
    """Runs the command line; exits with 0 only if the run did its work, with 2 for a user's mistake."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises, and the message is ours
    try:
        hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="config")(_job)()
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(_say(_explain(error)))
    except KeyboardInterrupt:
        sys.exit(130)


def _say(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


def _job(config: DictConfig) -> None:
    """One run; in a sweep, one of several."""
    values = OmegaConf.to_container(config, resolve=True)
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
    from lmtrain.training import train  # slow to import, and not needed for --help

    try:
        train(values, {override.lstrip("+~").split("=")[0] for override in choice.overrides.task})
    except UserError as error:
        sys.exit(_say(error.report()))  # here, for Hydra would print more than that


def _explain(error: Exception) -> str:
    """What Hydra says, with the nearest key or option where there is one."""
    cause = error.__cause__ or error
    message = " ".join((str(error) or str(cause)).split())
    key = getattr(cause, "full_key", None)
    if key and "not in struct" in str(cause):
        nearest = difflib.get_close_matches(key, _all_keys(), n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(nearest)}?" if nearest else " python train.py --help lists them."
        return f"Error: there is no key {key}.{hint}"
    return f"Error: {message}"


def _all_keys() -> list[str]:
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = hydra.compose("config")

    def keys(node: DictConfig, prefix: str = "") -> list[str]:
        found = []
        for key in node:
            found.append(f"{prefix}{key}")
            if OmegaConf.is_dict(node._get_node(key)):
                found += keys(node._get_node(key), f"{prefix}{key}.")
        return found

    return keys(config)
