"""The shape of the package: what is small stays small, and what is known of Lightning's inside stays in one place.

That imports go one way is held by import-linter, in `make check`.
"""

import ast
import pkgutil
from functools import reduce
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities import CombinedLoader
from processes import ROOT
from torch.utils.data import DataLoader

from lmtrain.training.lightning_internals import PRIVATE_NAMES

PACKAGE = ROOT / "lmtrain"
INTERNALS = PACKAGE / "training/lightning_internals"
MODULES = sorted(PACKAGE.rglob("*.py"))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_the_core_from_text_to_step_is_small():
    """Text → ids → windows → network → step."""
    core = [*(PACKAGE / "data").glob("*.py"), *(PACKAGE / "model").glob("*.py")]
    core += [PACKAGE / f"training/{name}.py" for name in ("run", "text", "datamodule", "module")]
    sizes = {str(path.relative_to(PACKAGE)): lines(path) for path in core}
    assert sum(sizes.values()) <= 2500, sizes


def test_no_module_is_long():
    assert [str(path) for path in MODULES if lines(path) > 350] == []


def test_functions_fit_a_screen():
    found = []
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef):
                documentation = ast.get_docstring(node, clean=False) or ""
                size = node.end_lineno - node.lineno + 1 - documentation.count("\n") - 1
                found += [f"{path.stem}.{node.name}: {size} lines"] if size > 50 else []
    assert found == []


def test_every_package_says_what_it_is():
    packages = [path for path in MODULES if path.name == "__init__.py"]
    assert [str(path) for path in packages if not ast.get_docstring(parsed(path))] == []


# --- Lightning's inside ---


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_private_names_of_lightning_are_imported_in_one_place():
    found = []
    for path in MODULES:
        if path.is_relative_to(INTERNALS):
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lightning"):
                found += [f"{path.stem}: {node.module}.{one.name}" for one in node.names if private(one.name)]
    assert found == []


def used_names() -> set[str]:
    """The private names that `lightning_internals` uses and does not define itself."""
    used, own = set(), set()
    for path in INTERNALS.glob("*.py"):
        for node in ast.walk(parsed(path)):
            match node:
                case ast.ImportFrom(names=names):
                    used |= {one.name for one in names}
                case ast.Attribute(attr=name, value=ast.Name(id="self"), ctx=ast.Store()):
                    own.add(name)
                case ast.Attribute(attr=name):
                    used.add(name)
                case ast.keyword(arg=str(name)):  # patch.multiple(module, _name=...)
                    used.add(name)
                case ast.Constant(value=str(name)) if name.isidentifier():  # patch.object(module, "_name", ...)
                    used.add(name)
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    own.add(name)
    return {name for name in used - own if private(name)}


def test_the_list_of_private_names_is_complete():
    listed = {part for name in PRIVATE_NAMES for part in name.split(".") if private(part)}
    assert used_names() - listed == set()


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch tells Lightning
def test_lightning_has_every_private_name_that_is_used():
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, max_epochs=1)
    roots = {
        "trainer": trainer,
        "module": LightningModule(),
        "combined_loader": CombinedLoader(DataLoader([0])),
        "optimizer": torch.optim.SGD([torch.zeros(1)]),
        "early_stopping": EarlyStopping("val/loss"),
        "model_checkpoint": ModelCheckpoint(),
    }

    def is_there(name: str) -> bool:
        root, *attributes = name.split(".")
        try:
            if root in roots:
                reduce(getattr, attributes, roots[root])
            else:
                pkgutil.resolve_name(name)
        except AttributeError:
            return False
        return True

    assert [name for name in PRIVATE_NAMES if not is_there(name)] == []
