"""The model card of a run: what the model is, how to use it, what it was trained on, how, and where.

Its text is model_card.md.jinja; here is what that needs to know.
"""

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
from lmtrain.config.schema import Config
from lmtrain.data.cache.manifest import changed_since_prepared, listed, read_manifest
from lmtrain.data.dictionary import Dictionary
from lmtrain.model.cells import why_not_in_flair
from lmtrain.model.language_model import parameter_count
from lmtrain.program.command import typed
from lmtrain.runs.curves import Row, column
from lmtrain.runs.run_folder import RunFolder
from lmtrain.units import perplexity
from lmtrain.version import lmtrain_version

_TEMPLATE = Path(__file__).with_name("model_card.md.jinja")


def model_card(folder: RunFolder, config: Config, results: dict[str, Any], rows: list[Row]) -> str:
    """The text of the run's README.md, with the metadata that the Hugging Face Hub reads at its head.

    Args:
        folder: the run's, with its dictionary.json and corpus.json.
        config: of the run.
        results: what `results.json` holds.
        rows: those of metrics.csv.
    """
    dictionary = Dictionary.load(folder.dictionary)
    items = folder.train_items(config.data.train)
    best = [row["chars"] for row in rows if "val/loss" in row and row.get("step") == results["best_step"]]
    algorithm = (config.trainer.added("gradient_clip_algorithm") or "norm").lower()
    return _filled_in(
        config=config,
        data=config.data,
        level=config.data.level,
        model=config.model,
        trainer=config.trainer,
        optimizer=config.optimizer.model_dump(),
        results=results,
        rows=rows,
        metadata=_metadata(config),
        items=len(dictionary),
        parameters=parameter_count(config.model.sizes(len(dictionary))),
        validations=len(column(rows, "val/loss")[0]),
        epochs_to_best=best[0] / items if items and best else None,
        epochs=results["chars"] / items if items else None,
        not_in_flair=why_not_in_flair(config.model.recurrent_type),
        texts=list(json.loads(folder.corpus.read_text(encoding="utf-8")).items()),
        manifest=_manifest(config.data.path),
        clipped="the norm" if algorithm == "norm" else "each value",
        unknown=next((row["val/unknown_rate"] for row in rows if "val/unknown_rate" in row), None),
        commit=_commit(),
        command=_code(typed()),
        saved=saved(config),
    )


def _filled_in(**facts: Any) -> str:
    """The text of model_card.md.jinja with these names in it."""
    from jinja2 import Environment, StrictUndefined  # only the end of a run needs it

    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
    )
    environment.filters |= {
        "number": "{:,}".format,
        "perplexity": perplexity,
        "bits": lambda nats: nats / math.log(2),
        "duration": _duration,
        "installed": _version,
        "yaml": lambda values: yaml.safe_dump(values, allow_unicode=True, sort_keys=False),
    }
    environment.globals |= {"lmtrain": lmtrain_version(), "platform": platform, "today": time.strftime("%Y-%m-%d")}
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(facts)


def _metadata(config: Config) -> dict[str, Any]:
    """What is known; a language and a license are not."""
    level, kind = config.data.level, config.model.recurrent_type
    libraries = ["flair", "lmtrain"] if why_not_in_flair(kind) is None else ["lmtrain"]
    tags = [*libraries, f"{level}-language-model", kind.lower(), config.direction]
    if level == "character":
        tags.append("contextual-string-embeddings")
    return {"library_name": libraries[0], "tags": tags, "metrics": ["perplexity"]}


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


def _code(command: str) -> str:
    """A command as code, whatever backquotes are in it."""
    fence = "`" * (1 + max(map(len, re.findall("`+", command)), default=0))
    return f"{fence}{command}{fence}" if "`" not in command else f"{fence} {command} {fence}"


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
