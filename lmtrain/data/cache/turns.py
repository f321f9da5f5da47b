"""Lets one of several processes make what is missing in a cache, while the others wait and then take it.

1. Entries that were found undamaged on this host are taken without a lock.
2. Other entries that are there are checked by one process of each host, under a lock.
3. Entries that are not there are made by one process of all hosts, under another lock.

A process that has done 2 or 3 writes a new value into `.announced`. Those that wait for a lock watch that file, and
stop waiting as soon as they find what they need.
"""

import logging
import secrets
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

from lmtrain.data.cache.checked import this_host
from lmtrain.data.cache.text_cache import May, NotThere
from lmtrain.program.files import remove_left
from lmtrain.program.locks import CANNOT_WRITE, Lock

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def in_turn(cache_dir: Path, work: Callable[[May], Result]) -> Result:
    """The result of some work on a cache, with no lock longer than needed.

    Args:
        cache_dir: the cache, which is made if it is not there.
        work: called with what it may do; raises `NotThere` where that is not enough.

    Raises:
        OSError: the cache cannot be written, and something is to be made there.
    """
    with suppress(NotThere):
        return work(May.LOOK)
    with ExitStack() as held:
        for name, may in ((f".lock-{this_host()}", May.CHECK), (".lock", May.MAKE)):
            try:
                cache_dir.mkdir(parents=True, exist_ok=True)
                found = _wait(Lock(cache_dir / name, "Give another data.cache_dir"), work, held)
            except OSError as error:
                if error.errno not in CANNOT_WRITE or not cache_dir.is_dir():
                    raise
                log.info(
                    "The cache %s cannot be written (%s) and is only read",
                    cache_dir,
                    error.strerror,
                )
                return work(May.MAKE)
            if found:
                return found[0]
            if may is May.MAKE:
                remove_left(cache_dir)
            with suppress(NotThere):
                result = work(may)
                _announce(cache_dir)
                return result
    raise AssertionError("work(May.MAKE) raised NotThere")


def _wait(lock: Lock, work: Callable[[May], Result], held: ExitStack) -> list[Result]:
    """Waits for a lock, which `held` then holds, or until the work's result, returned in a list, needs none."""
    cache_dir, found = lock.path.parent, []
    seen = ""

    def is_needless() -> bool:
        nonlocal seen
        if not found and (announced := _announced(cache_dir)) != seen:
            seen = announced
            with suppress(NotThere):
                found.append(work(May.LOOK))
        return bool(found)

    if lock.acquire(f"the cache {cache_dir}, where text is prepared", is_needless):
        held.callback(lock.release)
    return found


def _announce(cache_dir: Path) -> None:
    with suppress(OSError):
        (cache_dir / ".announced").write_text(secrets.token_hex(8), encoding="ascii")


def _announced(cache_dir: Path) -> str:
    with suppress(OSError):
        return (cache_dir / ".announced").read_text(encoding="ascii")
    return ""
