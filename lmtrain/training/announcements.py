"""The lines that a run logs at its beginning and at its end."""

import logging
import math
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from lmtrain.config.peak_rate import PeakRate
from lmtrain.config.schema import Config
from lmtrain.config.trainer_values import seconds
from lmtrain.model.cells import why_not_in_flair
from lmtrain.model.language_model import LanguageModel
from lmtrain.model_files.flair import load_language_model
from lmtrain.program.command import script, train_program
from lmtrain.program.shell import pasteable
from lmtrain.runs.run_folder import RunFolder
from lmtrain.training.callbacks.text_samples import sample_text
from lmtrain.training.precision import choose_precision
from lmtrain.training.text import PreparedText
from lmtrain.units import perplexity

log = logging.getLogger(__name__)


def log_start(
    config: Config,
    language_model: LanguageModel,
    text: PreparedText,
    trainer: Trainer,
    peak_rate: PeakRate,
    checkpoint: Path | None,
) -> None:
    model, sizes = language_model.model, language_model.model.sizes
    log.info(
        "%s: %s %s, %s of %d, %s parameters; %s items in %s; %d × %s, %s",
        config.name,
        config.direction,
        sizes.recurrent_type,
        _plural(sizes.nlayers, "layer"),
        sizes.hidden_size,
        f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        f"{sum(map(len, text.train)):,}",
        _plural(len(text.train), "split"),
        trainer.world_size,
        trainer.accelerator.__class__.__name__.removesuffix("Accelerator"),
        trainer.precision,
    )
    if reason := why_not_in_flair(sizes.recurrent_type):
        log.warning("%s", reason)
    if not sizes.cell.learns_by_sgd and config.optimizer.model_extra["_target_"] == "torch.optim.SGD":
        log.warning(
            "A %s learns little by SGD, whatever the rate: optimizer=muon reaches a far lower loss (docs/recipes.md)",
            sizes.recurrent_type,
        )
    if reason := choose_precision(config).reason:
        log.info("trainer.precision=auto is %s here: %s", trainer.precision, reason)
    if max_time := config.trainer.added("max_time"):
        log.info("Trains for %s at most, this time (trainer.max_time)", timedelta(seconds=seconds(max_time)))
    if peak_rate.reason:
        log.info("optimizer.lr=auto is %g here: %s", peak_rate.value, peak_rate.reason)
    schedule = config.anneal.build_schedule().describe(config.trainer.limits())
    log.info("Learning rate %g (anneal.schedule=%s): %s", peak_rate.value, config.anneal.schedule, schedule)
    lanes = config.data.batch_size
    if trainer.strategy.root_device.type == "cuda" and lanes < 100 * trainer.world_size > 100:
        log.info(
            "%d lanes on %d GPUs: with fewer than 100 to 200 lanes on each, more GPUs save hardly any time. "
            "data.lanes_per_device=100 takes more lanes; see docs/clusters.md",
            lanes,
            trainer.world_size,
        )
    if checkpoint:
        log.info("Going on from %s", checkpoint)


def log_end(config: Config, results: dict[str, Any], folder: RunFolder) -> None:
    log.info("Best validation: %s, at step %s", loss_figures(results["val/loss"]), f"{results['best_step']:,}")
    if "test/loss" in results:
        log.info("Test of the best model: %s", loss_figures(results["test/loss"]))
    if config.trainer.added("profiler"):
        log.info("Profiles: %s", ", ".join(map(str, sorted(folder.path.glob("*profile*")))) or "see its arguments")
    sample = sample_text(load_language_model(folder.best), 400)
    log.info("It writes:\n%s", textwrap.indent(textwrap.fill(sample, 100), "  "))
    lines = [
        f"  more text            {script('generate')} {pasteable(folder.best)}",
        f"  embeddings           {script('embed')} {pasteable(folder.best)} SENTENCES.txt --output vectors.npz",
    ]
    if why_not_in_flair(config.model.recurrent_type) is None:
        lines.append(f"                       or in Flair: FlairEmbeddings({str(folder.best)!r})")
    if "tensorboard" in config.logger:
        lines.insert(0, f"  curves and samples   {pasteable('tensorboard', '--logdir', folder.path.parent)}")
    if config.data.name == "demo":
        keys = "experiment=fast data=folder data.path=CORPUS"
        lines.append(f"  your own text        {train_program()} {keys}, see README.md")
    log.info("Next:\n%s", "\n".join(lines))


def loss_figures(loss: float) -> str:
    """For example "loss 1.2000 · ppl 3.320 · bpc 1.731"."""
    return f"loss {loss:.4f} · ppl {perplexity(loss):.3f} · bpc {loss / math.log(2):.3f}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
