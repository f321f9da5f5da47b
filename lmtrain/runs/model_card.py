"""The model card of a run: what the model is, how to use it, what it was trained on, how, and where."""

import json
import math
import platform
import re
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from lmtrain.config.saved import flat, saved
from lmtrain.config.schema import Config, DataConfig, TrainerConfig
from lmtrain.data.cache.manifest import changed_since_prepared, listed, read_manifest
from lmtrain.data.dictionary import Dictionary
from lmtrain.model.cells import why_not_in_flair
from lmtrain.model.language_model import parameter_count
from lmtrain.program.command import typed
from lmtrain.runs.curves import Row, column
from lmtrain.runs.run_folder import RunFolder
from lmtrain.units import perplexity
from lmtrain.version import lmtrain_version


def model_card(folder: RunFolder, config: Config, results: dict[str, Any], rows: list[Row]) -> str:
    """The text of the run's README.md, with the metadata that the Hugging Face Hub reads at its head.

    Args:
        folder: the run's, with its dictionary.json and corpus.json.
        config: of the run.
        results: what `results.json` holds.
        rows: those of metrics.csv.
    """
    level = config.data.level
    sections = [
        _metadata(config),
        f"# {config.name}",
        _what_it_is(folder, config),
        "## Results",
        _results_table(results, level),
        _best(folder, config, results, rows),
        "![Curves](report.png)" if rows else "",
        "## Use",
        _use(level, config.model.recurrent_type),
        "## Data",
        f"`{config.data.path or config.data.name}`",
        _data_table(folder, level),
        _manifest(config.data.path),
        "## Recipe",
        _recipe(config, results, rows),
        "## Provenance",
        _provenance(config, results),
        "The whole configuration:",
        f"```yaml\n{yaml.safe_dump(saved(config), allow_unicode=True, sort_keys=False)}```",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _metadata(config: Config) -> str:
    """What is known; a language and a license are not."""
    level, kind = config.data.level, config.model.recurrent_type
    libraries = ["flair", "lmtrain"] if why_not_in_flair(kind) is None else ["lmtrain"]
    tags = [*libraries, f"{level}-language-model", kind.lower(), config.direction]
    if level == "character":
        tags.append("contextual-string-embeddings")
    metadata = {"library_name": libraries[0], "tags": tags, "metrics": ["perplexity"]}
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---"


def _what_it_is(folder: RunFolder, config: Config) -> str:
    model, level = config.model, config.data.level
    dictionary = Dictionary.load(folder.dictionary)
    return (
        f"A {config.direction} {level}-level {model.recurrent_type} language model"
        + (" for contextual string embeddings (Akbik et al., 2018)" if level == "character" else "")
        + ", trained with lmtrain"
        + (f" from the weights of `{config.init_from}`" if config.init_from else "")
        + f": {model.nlayers} × {model.hidden_size} hidden units"
        + (f", projected to {model.nout}" if model.nout else "")
        + f", embedding size {model.embedding_size}, {len(dictionary):,} {level}s in its dictionary, "
        f"{parameter_count(model.sizes(len(dictionary))):,} parameters."
    )


def _results_table(results: dict[str, Any], level: str) -> str:
    lines = [f"| | loss (nats) | perplexity | bits per {level} |", "|---|---|---|---|"]
    for stage, name in (("val", "validation"), ("test", "test")):
        if f"{stage}/loss" in results:
            loss = results[f"{stage}/loss"]
            lines.append(f"| {name} | {loss:.4f} | {perplexity(loss):.3f} | {loss / math.log(2):.3f} |")
    return "\n".join(lines)


def _best(folder: RunFolder, config: Config, results: dict[str, Any], rows: list[Row]) -> str:
    validations = len(column(rows, "val/loss")[0])
    chars = [row["chars"] for row in rows if "val/loss" in row and row.get("step") == results["best_step"]]
    items = folder.train_items(config.data.train)
    after = f", after {chars[0] / items:.2f} epochs" if items and chars else ""
    epochs = f"{results['chars'] / items:.2f} epochs" if items else f"{results['epochs']:,} epochs"
    return (
        (f"The best of {validations} validations" if validations else "The best validation")
        + f" was at step {results['best_step']:,} of {results['steps']:,}{after}. Training saw "
        f"{results['chars']:,} {config.data.level}s, {epochs} (passes over the training text), and took "
        f"{_duration(results['seconds'])}, validations included."
    )


def _use(level: str, recurrent_type: str) -> str:
    not_in_flair = why_not_in_flair(recurrent_type)
    flair = '```python\nfrom flair.embeddings import FlairEmbeddings\n\nembeddings = FlairEmbeddings("best-lm.pt")\n```'
    lmtrain = [
        "import lmtrain",
        "",
        'model = lmtrain.load("best-lm.pt")  # or the folder that it is in'
        if not_in_flair is None
        else 'model = lmtrain.load(".")  # the folder that this file is in',
        'print(lmtrain.score(model, "Some text.").perplexity, lmtrain.generate(model, length=80))',
    ]
    if level == "character":
        lmtrain.append('vectors = lmtrain.embed(model, "Some text .")  # float32, a row for each of three tokens')
    ours = "\n".join(["```python", *lmtrain, "```"])
    if not_in_flair:
        return "\n\n".join(["In lmtrain:", ours, not_in_flair])
    return "\n\n".join([*(["In Flair:", flair] if level == "character" else []), "In lmtrain:", ours])


def _data_table(folder: RunFolder, level: str) -> str:
    texts = json.loads(folder.corpus.read_text(encoding="utf-8"))
    lines = [f"| file | {level}s |", "|---|---|"]
    shown = list(texts.items()) if len(texts) <= 20 else [*list(texts.items())[:10], *list(texts.items())[-5:]]
    lines += [f"| {name} | {items:,} |" for name, (items, _) in shown]
    if len(shown) < len(texts):
        lines.append(f"| {len(texts) - len(shown)} more | {sum(items for items, _ in texts.values()):,} in all |")
    return "\n".join(lines)


def _manifest(path: str | None) -> str:
    """In short what scripts/prepare_corpus.py noted about the corpus, if it made it."""
    manifest = read_manifest(path) if path else None
    if not path or manifest is None:
        return ""
    try:
        if changed := changed_since_prepared(path, manifest):
            return f"`manifest.json` is not of this text: after it was prepared, {listed(changed)} changed."
        sources, steps = manifest["sources"], manifest["steps"]
        size = sum(source["size"] or 0 for source in sources)
        lines = [f"Prepared by {manifest['made_by']} from {len(sources):,} source(s), {size:,} bytes:", ""]
        lines += [f"- `{source['url']}`, {source['format']}, sha256 `{source['sha256']}`" for source in sources[:10]]
        lines += [f"- and {len(sources) - 10:,} more"] if len(sources) > 10 else []
        read, kept = steps[0]["in"], steps[-1]["out"]
        lines += ["", f"Of {read['documents']:,} documents ({read['characters']:,} characters) {kept['documents']:,} "]
        lines[-1] += f"({kept['characters']:,}) were kept. Options: {_options(manifest['options'])}."
        return "\n".join(lines)
    except Exception:  # of a store; whatever it is, it is not worth failing at the end of a run
        return ""


def _options(options: dict[str, Any]) -> str:
    """Those that are on, without those that only say how the work is cut up."""
    chosen = {
        key.rpartition(".")[2]: value
        for key, value in flat(options).items()
        if value not in (None, False, []) and key not in ("split_size", "block_size")
    }
    for share, filters in (("script_share", ("scripts",)), ("language_threshold", ("languages", "other_languages"))):
        if not any(name in chosen for name in filters):
            chosen.pop(share, None)
    return ", ".join(f"`{name}`" if value is True else f"`{name}={value!r}`" for name, value in chosen.items())


def _recipe(config: Config, results: dict[str, Any], rows: list[Row]) -> str:
    data, trainer, optimizer = config.data, config.trainer, config.optimizer.model_dump()
    arguments = {name: f"{name}={value}" for name, value in optimizer.items() if name != "_target_"}
    if results.get("lr_reason"):
        arguments["lr"] = f"lr={results['lr']} (`auto`: {results['lr_reason']})"
    unknown = next((row["val/unknown_rate"] for row in rows if "val/unknown_rate" in row), None)
    dictionary = config.dictionary
    limits = trainer.limits()
    table = {
        "optimizer": f"{optimizer['_target_'].rpartition('.')[2]}, {', '.join(arguments.values())}",
        "annealing": config.anneal.build_schedule().describe(limits),
        "window": _window(data, trainer),
        "gradient clipping": _clipping(trainer),
        "dropout": str(config.model.dropout),
        "limits": limits,
        "precision": str(results.get("precision", trainer.precision))
        + (f" (`auto`: {reason})" if (reason := results.get("precision_reason")) else ""),
        "documents": f"{'shuffled' if data.shuffle else 'in their order'}"
        + (", 1 % each lower-cased and upper-cased" if data.random_case_flip else ""),
        "dictionary": ("of the model that training began with" if config.init_from else dictionary.source)
        + (f", unknown in validation: {unknown:.4%}" if unknown is not None else ""),
        "weights": f"`{config.init_from}` at the beginning" if config.init_from else "random at the beginning",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in table.items())])


def _window(data: DataConfig, trainer: TrainerConfig) -> str:
    window = f"{data.sequence_length} {data.level}s × {data.batch_size} lanes, over all devices"
    if data.grow_to_sequence_length > data.sequence_length:
        window += f"; one longer with every split, up to {data.grow_to_sequence_length}"
    if trainer.accumulate_grad_batches > 1:
        window += f"; a step for {trainer.accumulate_grad_batches} windows"
    return window


def _clipping(trainer: TrainerConfig) -> str:
    if trainer.gradient_clip_val is None:
        return "none"
    algorithm = (trainer.added("gradient_clip_algorithm") or "norm").lower()
    return f"{trainer.gradient_clip_val}, of {'the norm' if algorithm == 'norm' else 'each value'}"


def _provenance(config: Config, results: dict[str, Any]) -> str:
    packages = " · ".join(f"{name} {_version(name)}" for name in ("torch", "lightning", "hydra-core"))
    return "\n".join(
        [
            f"- lmtrain {lmtrain_version()} · {packages} · Python {platform.python_version()} on {platform.system()}",
            f"- lmtrain's commit: {_commit()}",
            *(
                [f"- {results['devices']} × {results['hardware']}, {results['hosts']} host(s)"]
                if "hardware" in results
                else []
            ),
            f"- seed {config.seed}",
            f"- ended on {time.strftime('%Y-%m-%d')}, after {_duration(results['seconds'])}, by {results['ended_by']}",
            _code(typed()),
        ]
    )


def _code(command: str) -> str:
    """A command as code in a list, whatever backquotes are in it."""
    fence = "`" * (1 + max(map(len, re.findall("`+", command)), default=0))
    return f"- {fence}{command}{fence}" if "`" not in command else f"- {fence} {command} {fence}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _commit() -> str:
    checkout = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    try:
        (checkout / ".git").stat()  # where lmtrain is installed, git would describe whatever repository is around it
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown (not a checkout)"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
