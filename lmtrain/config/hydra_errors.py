"""Turns Hydra's exceptions into sentences that name the nearest key or option."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from lmtrain.errors import UserError
from lmtrain.program.shell import override_of, pasteable

_EXTRAS = {"hydra/sweeper/optuna": "sweep", "hydra/launcher/joblib": "sweep", "hydra/launcher/submitit_slurm": "slurm"}


@contextmanager
def explained() -> Iterator[None]:
    """Raises a `UserError` instead of the exceptions that Hydra and OmegaConf raise within the block."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise _user_error_behind(error) or UserError(_explain(error)) from None
    except ValueError as error:
        raise UserError(_explain_value_error(error)) from None


def _explain_value_error(error: ValueError) -> str:
    """The sentence for a `ValueError`; raises the error itself if Hydra did not raise it."""
    message = " ".join(str(error).split())
    if "No trials are completed" in message:
        return "no trial of the search succeeded, see above."
    if "Config group override" in message:
        return f"a group such as model=OPTION takes the name of an option. {message}."
    if "Expecting one subcommand" in message or "No completion plugin" in message:
        return f"-sc takes install=SHELL or uninstall=SHELL, and SHELL is bash, zsh or fish. {message}."
    raise error


def _class_form(option: str) -> str:
    """How to type a class that was given as an option, such as "callbacks/my.EMA"; empty if the option is no class."""
    group, _, name = option.rpartition("/")
    if "." not in name or group not in ("anneal", "callbacks", "logger", "optimizer"):
        return ""
    refused = f"{group}={name} is no option."
    if group == "optimizer":
        return f"{refused} Another class of torch's kind, with the chosen one's arguments: {group}._target_={name}"
    if group == "anneal":
        return f"{refused} A schedule of your own is named in anneal.schedule={name}"
    short = re.sub(r"\W", "_", name.rpartition(".")[2]).lower()
    typed = pasteable(f"+{group}.{short}={{_target_: {name}}}")
    return f"{refused} A class is given as {typed}, its arguments after it: {{_target_: {name}, ARGUMENT: VALUE}}"


def _user_error_behind(error: BaseException) -> UserError | None:
    """The `UserError` of one of lmtrain's resolvers, in which Hydra wraps it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def _explain(error: Exception) -> str:
    """Hydra's message, shortened, with the nearest key or option if there is one."""
    from lmtrain.config.messages import hint, most_like  # slow to import, like training
    from lmtrain.config.schema import all_keys

    if isinstance(error, OverrideParseException):
        reason = error.message.replace(f"Error parsing override '{error.override}'", "").split("See https:")[0]
        key, _, value = error.override.partition("=")
        return (
            f"{error.override!r} on the command line is not KEY=VALUE ({' '.join(reason.split())}). "
            "A value with special characters needs quotes that the shell leaves: "
            f"{override_of(key, value or 'VALUE', is_quoted=True)}"
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file in _EXTRAS:
        group, _, option = error.missing_cfg_file.rpartition("/")
        extra = _EXTRAS[error.missing_cfg_file]
        return f"{group}={option} needs packages that are not installed: pip install 'lmtrain[{extra}]'."
    if isinstance(error, MissingConfigException) and (form := _class_form(error.missing_cfg_file or "")):
        return form
    if isinstance(error, MissingConfigException) and error.options:
        group, _, option = error.missing_cfg_file.rpartition("/")
        nearest = most_like(option, error.options)
        meant = f"Did you mean {' or '.join(nearest)}? " if nearest else ""
        return f"{group}={option} is no option. {meant}The options are {', '.join(error.options)}."
    cause = error.__cause__ or error
    key = getattr(cause, "full_key", None)
    if key and "not in struct" in str(cause):
        groups = most_like(key, ["experiment"])
        return f"there is no key {key}. " + (f"Did you mean {groups[0]}?" if groups else hint(key, all_keys()))
    message = " ".join((str(error) or str(cause)).split())
    if ambiguous := re.search(r"Ambiguous value for argument '(.*?)=(.*?)' 1\.", message):
        text = override_of(ambiguous[1], ambiguous[2], is_quoted=True)
        return f"{ambiguous[1]}={ambiguous[2]} are several values, for -m (--multirun). As one text: {text}"
    where = f"{key}: " if key else ""
    return f"{where}{message.partition(' full_key:')[0].partition(' Config search path:')[0]}"
