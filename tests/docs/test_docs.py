"""What the documentation names must exist."""

import re
from math import log, log2
from pathlib import Path

import pytest
from running import compose

from lmtrain.config.schema import all_keys, check_config

ROOT = Path(__file__).parents[2]
GROUPS = {path.name for path in (ROOT / "conf").iterdir() if path.is_dir()}


def code(name: str) -> str:
    """What stands in blocks of code and between backticks."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    blocks = r"```\w*\n(.*?)```"
    return "\n".join(
        [*re.findall(blocks, text, re.DOTALL), *re.findall("`([^`]+)`", re.sub(blocks, "", text, flags=re.DOTALL))]
    )


@pytest.mark.parametrize("name", ["how_good.md", "publishing.md"])
def test_keys_and_scripts_exist_and_values_are_accepted(name):
    overrides = set(re.findall(r"(?<![\w.])([a-z_]+(?:\.[a-z_]+)*)=([\w.,/-]+)", code(name)))
    assert len(overrides) > 3
    assert [key for key, _ in overrides if key not in {*all_keys(), *GROUPS}] == []
    while overrides:  # as many at once as name different keys
        together = dict(overrides)
        check_config(compose(*(f"{key}={value}" for key, value in sorted(together.items()))))
        overrides -= set(together.items())
    scripts = set(re.findall(r"scripts/\w+\.py", code(name)))
    assert len(scripts) > 1
    assert [script for script in scripts if not (ROOT / script).exists()] == []


def test_the_commands_that_make_figures_again_are_accepted():
    commands = re.findall(r"`python train\.py ([^`]+)`", (ROOT / "docs/figures.md").read_text(encoding="utf-8"))
    assert len(commands) > 5
    for command in commands:
        check_config(compose(*command.split()))
    scripts = set(re.findall(r"scripts/\w+(?:/\w+)?\.py", code("figures.md")))
    assert len(scripts) > 3
    assert [script for script in scripts if not (ROOT / script).exists()] == []


def test_the_table_of_perplexities_is_computed_right():
    text = (ROOT / "docs/how_good.md").read_text(encoding="utf-8")
    rows = [re.search(rf"^\| {name} \|(.*)\|$", text, re.MULTILINE)[1].split("|") for name in ("ppl", "nats", "bpc")]
    assert len(rows[0]) > 5
    for ppl, nats, bits in zip(*rows, strict=True):
        assert (float(nats), float(bits)) == pytest.approx((log(float(ppl)), log2(float(ppl))), abs=5.01e-4)
