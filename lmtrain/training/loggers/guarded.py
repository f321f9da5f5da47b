"""Turns the exceptions of loggers into warnings: a full disk or a lost connection must not end a run of days."""

import inspect
import logging
import time
from collections.abc import Callable
from typing import Any, cast

from lightning.pytorch.loggers.logger import DummyExperiment, Logger

log = logging.getLogger(__name__)

_SAY_AGAIN_SECONDS = 600
_REOPEN_SECONDS = 10


def guarded(logger: Logger) -> Logger:
    """A stand-in for a logger that makes warnings of its exceptions, and of those of its `experiment`.

    `isinstance` takes it for the logger. A call that fails has no effect and returns None. If the logger has a method
    `reopen`, that is then called, at most every ten seconds, so that the logger can open its files again.
    """
    return cast(Logger, _Guarded(logger, _Failures(logger)))


class _Failures:
    """Warns of the failures of a logger, at most every ten minutes."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._said_at = self._reopened_at = -float("inf")
        self._unsaid = 0

    def add(self, what: str, error: Exception) -> None:
        now = time.monotonic()
        if now - self._said_at < _SAY_AGAIN_SECONDS:
            self._unsaid += 1
        else:
            more = f", and {self._unsaid:,} times since the last such warning" if self._unsaid else ""
            name = type(self._logger).__name__
            reason = f"{type(error).__name__}: {error}"
            log.warning("The logger %s failed in %s (%s)%s. The run goes on without it", name, what, reason, more)
            self._said_at, self._unsaid = now, 0
        if hasattr(self._logger, "reopen") and now - self._reopened_at >= _REOPEN_SECONDS:
            self._reopened_at = now
            self._logger.reopen()


class _Guarded:
    """Stands for a logger or its `experiment`."""

    def __init__(self, target: Any, failures: _Failures) -> None:
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_failures", failures)

    @property  # type: ignore[misc]  # for isinstance
    def __class__(self) -> type:
        return type(self._target)

    def __getattr__(self, name: str) -> Any:
        try:
            value = getattr(self._target, name)
        except AttributeError:
            raise
        except Exception as error:
            self._failures.add(name, error)
            return DummyExperiment() if name == "experiment" else None
        if name == "experiment":
            return _Guarded(value, self._failures)
        return self._guard(name, value) if inspect.isroutine(value) else value

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._target, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._guard("[...]", self._target.__getitem__)(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._guard("[...]", self._target.__setitem__)(key, value)

    def __repr__(self) -> str:
        return repr(self._target)

    def _guard(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            try:
                return method(*arguments, **more)
            except Exception as error:  # each service has its own
                self._failures.add(name, error)
                return None

        return call
