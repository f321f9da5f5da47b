"""The fits of a run: one, and after a divergence another one from the last checkpoint, with a lower learning rate."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmtrain.config.schema import Config
from lmtrain.config.trainer_values import seconds
from lmtrain.errors import RunFailed
from lmtrain.program.signals import Interrupted, SignalWatch
from lmtrain.runs.run_folder import RunFolder
from lmtrain.training.callbacks.run_length import TimeLimit
from lmtrain.training.divergence import Diverged
from lmtrain.training.rank_watch import RankWatch
from lmtrain.training.run import Attempt, Run

log = logging.getLogger(__name__)


def goes_on(config: Config) -> bool:
    """Whether the run goes on from its last checkpoint, if it has one."""
    return config.resume == "auto" and not config.overwrite


class Attempts:
    """Gives the attempts to fit a run, until one does not diverge.

    The loop over them makes a `Run` of each, and fits it within `guarding(run)`. An attempt that does not diverge ends
    the loop; if none is left, `failure()` is what to raise.
    """

    def __init__(self, config: Config, folder: RunFolder, signals: SignalWatch) -> None:
        self._config, self._folder, self._signals = config, folder, signals
        self._ranks = RankWatch(signals)
        self._diverged: Diverged | None = None
        self._peak_rate: float | None = None  # of the attempt that has diverged

    def __iter__(self) -> Iterator[Attempt]:
        max_time = self._config.trainer.added("max_time")
        time_limit = TimeLimit(None if max_time is None else seconds(max_time))
        most = self._config.divergence.max_rollbacks
        checkpoint = self._folder.last_checkpoint() if goes_on(self._config) else None
        for rollbacks in range(most + 1):
            yield Attempt(rollbacks, checkpoint, self._diverged, time_limit)
            checkpoint = self._folder.last_checkpoint()
            if rollbacks < most:
                self._log_rollback(checkpoint)

    def failure(self) -> RunFailed:
        """What to raise when all attempts have diverged."""
        trainer, times, best = self._config.trainer, self._config.divergence.max_rollbacks + 1, self._folder.best
        saved = f"{best} holds the best model so far" if best.exists() else "no model was saved"
        return RunFailed(
            f"Training diverged {times} times, the last time at step {self._diverged.step}; {saved}. Lower "
            f"optimizer.lr={self._peak_rate:g} or trainer.gradient_clip_val={trainer.gradient_clip_val}, or use "
            "trainer.precision=32-true, with another name=NAME or overwrite=true."
        )

    def _log_rollback(self, checkpoint: Path | None) -> None:
        log.warning(
            "The loss or gradient was not finite at step %d, learning rate %g: back to %s with learning rate %g",
            self._diverged.step,
            self._diverged.lr,
            checkpoint or "the beginning",
            self._diverged.lr * self._config.anneal.factor,
        )

    @contextmanager
    def guarding(self, run: Run) -> Iterator[None]:
        """Within the block a divergence ends the attempt alone, and the other ranks end where this process does."""
        try:
            with self._ranks.in_place():
                yield
        except Diverged as error:
            self._diverged, self._peak_rate = error, run.peak_rate.value
        except Interrupted as interruption:
            if interruption.is_alone:
                run.stop_other_processes()
            raise
        except RuntimeError:
            if run.trainer.world_size == 1 or (signum := self._ranks.signal_behind_failure()) is None:
                raise
            run.stop_other_processes()
            raise self._signals.interruption(signum) from None
        finally:
            run.close()
