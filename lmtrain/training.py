"""The whole run: configuration → objects → fit → test → results."""

import inspect
import logging
import math
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from rich.console import Console

from lmtrain.callbacks.anneal import AnnealOnPlateau
from lmtrain.callbacks.best_model import BestModel
from lmtrain.callbacks.checkpoint import RunCheckpoint
from lmtrain.callbacks.monitor import Monitor
from lmtrain.callbacks.progress import RunProgress
from lmtrain.callbacks.validation_schedule import ValidationSchedule
from lmtrain.config import Config, TrainerConfig, check_config
from lmtrain.datamodule import WindowDataModule
from lmtrain.errors import UserError
from lmtrain.fine_tuning import grown, inherit
from lmtrain.flair_format import load_language_model, save_language_model
from lmtrain.log import log_to_console, log_to_file
from lmtrain.model import CharLM, LanguageModel
from lmtrain.module import LanguageModelModule
from lmtrain.preparation import PreparedText, prepare_text
from lmtrain.run_folder import RunFolder
from lmtrain.windows import Augmentation

log = logging.getLogger(__name__)


def train(values: dict[str, Any], explicit: Collection[str] = ()) -> dict[str, Any]:
    """Trains as a resolved configuration says, or goes on where the run stopped.

    Args:
        values: the configuration, without interpolations.
        explicit: the keys that the user set; with `init_from` the model brings the others along.

    Returns:
        the results that `results.json` holds.

    Raises:
        UserError: all that is wrong with the configuration or the corpus, before anything is written.
    """
    config = check_config(values)
    console = Console(stderr=True, highlight=False)
    log_to_console(console)
    initial = None
    if config.init_from is not None:
        initial = load_language_model(config.init_from, needs_decoder="be fine-tuned")
        values = inherit(values, initial, frozenset(explicit))
        config = check_config(values)
    devices = _count_devices(config.trainer)
    text = prepare_text(config, devices, initial.dictionary if initial else None)
    folder = RunFolder(Path(config.runs_dir) / config.name)
    is_first_process = _is_first_process()
    if is_first_process:
        folder.occupy(values, config.overwrite)
        log_to_file(folder.log)
        text.dictionary.save(folder.dictionary)
    try:
        return _train(config, text, initial, folder, console)
    finally:
        folder.release()


def _train(
    config: Config, text: PreparedText, initial: LanguageModel | None, folder: RunFolder, console: Console
) -> dict[str, Any]:
    resume_from = folder.last_checkpoint() if config.resume == "auto" else None
    torch.manual_seed(config.seed)
    language_model = new_language_model(config, text) if initial is None else grown(initial, text.dictionary)
    module = make_module(config, language_model)
    data = make_datamodule(config, text)
    monitor = Monitor(config.trainer.log_every_n_steps)
    best = BestModel(folder.best, lambda path: save_language_model(language_model, path))
    trainer = make_trainer(
        config.trainer,
        logger=make_loggers(config, folder, resume_from),
        callbacks=[
            ValidationSchedule(config.data.validations_per_epoch),
            AnnealOnPlateau(config.anneal.factor, config.anneal.patience, config.anneal.min_lr),
            best,
            monitor,
            RunProgress(monitor, best, console),
            *(instantiate(callback) for callback in config.callbacks.values()),
            RunCheckpoint(folder.checkpoints, config.checkpoint.every, config.checkpoint.every_steps),
        ],
        default_root_dir=folder.path,
    )
    _say_what_is_trained(config, language_model, text, trainer, resume_from)
    if initial is not None and resume_from is None:
        trainer.validate(module, datamodule=data, verbose=False)
        log.info("Before training: val loss %.4f (%s)", best.loss, config.init_from)
    module.train()
    trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True)
    results = {
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "chars": module.items_seen,
        "best_step": best.step,
        "val/loss": best.loss,
    }
    if config.test:
        language_model.model.load_state_dict(load_language_model(folder.best).model.state_dict())
        trainer.test(module, datamodule=data, verbose=False)
        results |= {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
    if trainer.is_global_zero:
        folder.write_results(results)
        _say_how_it_ended(results, folder)
    return results


def new_language_model(config: Config, text: PreparedText) -> LanguageModel:
    """A model with random weights."""
    model = CharLM(
        vocabulary_size=len(text.dictionary),
        **config.model.model_dump(exclude={"name"}),
    )
    return LanguageModel(
        model=model,
        dictionary=text.dictionary,
        is_forward_lm=config.direction == "forward",
        document_delimiter=config.data.document_delimiter,
        level=config.data.level,
    )


def make_module(config: Config, language_model: LanguageModel) -> LanguageModelModule:
    """The LightningModule; its checkpoints describe the model so that it can be used without the run."""
    description = {
        "items": list(language_model.dictionary.items),
        "is_forward_lm": language_model.is_forward_lm,
        "document_delimiter": language_model.document_delimiter,
        "level": language_model.level,
        "model": config.model.model_dump(exclude={"name"}),
    }
    optimizer = instantiate(config.optimizer.model_dump(), _partial_=True)
    return LanguageModelModule(language_model.model, optimizer, config.seed, description)


def make_datamodule(config: Config, text: PreparedText) -> WindowDataModule:
    data = config.data
    case_tables = text.dictionary.case_tables() if data.random_case_flip else None
    return WindowDataModule(
        text.train,
        text.valid,
        text.test,
        batch_size=data.batch_size,
        sequence_length=data.sequence_length,
        grow_to_sequence_length=data.grow_to_sequence_length,
        augmentation=Augmentation(config.seed, data.shuffle, case_tables),
        backward=config.direction == "backward",
    )


def make_loggers(config: Config, folder: RunFolder, resume_from: Path | None) -> list:
    """The configured loggers; those of later steps than the checkpoint's drop what they hold of them."""
    step = None
    if resume_from is not None:
        step = torch.load(resume_from, map_location="cpu", weights_only=True, mmap=True)["global_step"]
    loggers = []
    for settings in config.logger.values():
        more: dict[str, Any] = {"save_dir": str(folder.path)}
        if settings["_target_"].endswith("MetricsCSV"):
            more["resume_step"] = step
        elif settings["_target_"].endswith("TensorBoardLogger") and step is not None:
            more["purge_step"] = step + 1
        loggers.append(instantiate(settings, **more))
    return loggers


def make_trainer(config: TrainerConfig, **more: Any) -> Trainer:
    """Lightning's Trainer from its own arguments.

    Raises:
        UserError: it does not take them, or the hardware they ask for is not there.
    """
    arguments = config.model_dump()
    arguments["precision"] = choose_precision(config.precision, config.accelerator)
    unknown = set(arguments) - set(inspect.signature(Trainer.__init__).parameters)
    if unknown:
        raise UserError(*(f"trainer.{name} is no argument of Lightning's Trainer." for name in sorted(unknown)))
    try:
        return Trainer(
            **arguments,
            **more,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=True,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"Lightning does not accept trainer={{...}}: {' '.join(str(error).split())}") from None


def choose_precision(precision: str | int, accelerator: str) -> str | int:
    """`auto` becomes bf16-mixed where the hardware computes it natively, else 32-true."""
    if precision != "auto":
        return precision
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator in ("auto", "cpu") and not torch.backends.mps.is_available():
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = False
    return "bf16-mixed" if native else "32-true"


def _count_devices(config: TrainerConfig) -> int:
    """Over how many devices the lanes are shared."""
    return make_trainer(config, logger=False).world_size


def _is_first_process() -> bool:
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", 0))) == 0


def _say_what_is_trained(config, language_model, text, trainer, resume_from) -> None:
    model = language_model.model
    log.info(
        "%s: %s %s, %d layer%s of %d, %s parameters; %s items in %d split%s; %s, %s",
        config.name,
        config.direction,
        model.recurrent_type,
        model.nlayers,
        "" if model.nlayers == 1 else "s",
        model.hidden_size,
        f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        f"{sum(map(len, text.train)):,}",
        len(text.train),
        "" if len(text.train) == 1 else "s",
        f"{trainer.world_size} × {trainer.accelerator.__class__.__name__.removesuffix('Accelerator')}",
        trainer.precision,
    )
    if resume_from:
        log.info("Going on from %s", resume_from)


def _say_how_it_ended(results: dict[str, Any], folder: RunFolder) -> None:
    bits = results["val/loss"] / math.log(2)
    log.info("Best validation loss %.4f (ppl %.3f, bpc %.3f) at step %d", results["val/loss"], math.exp(results["val/loss"]), bits, results["best_step"])
    if "test/loss" in results:
        log.info("Test of the best model: loss %.4f, ppl %.3f, bpc %.3f", results["test/loss"], results["test/ppl"], results["test/bpc"])
    log.info("The model is in %s", folder.best)
