"""Makes importing Lightning faster, by hiding the packages that only its metrics use."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from unittest.mock import patch

from lightning_utilities.core import imports

_SLOW = {"transformers", "scipy", "matplotlib"}


@contextmanager
def without_unused_packages() -> Iterator[None]:
    """Within the block torchmetrics, which Lightning imports, finds no transformers, scipy or matplotlib.

    Where they are installed, for example with Flair, importing them takes half of the start, and lmtrain uses none of
    the metrics that need them. Other packages may import them as usual.
    """
    version, package_available = imports._version, imports.package_available

    def version_unless_slow(name: str) -> str:
        if name in _SLOW:
            raise PackageNotFoundError(name)
        return version(name)

    def available_unless_slow(name: str) -> bool:
        return name not in _SLOW and package_available(name)

    with patch.multiple(imports, _version=version_unless_slow, package_available=available_unless_slow):
        yield
