"""How a Ctrl-C waits for what must be done whole."""

import signal
import threading
from collections.abc import Iterator

import pytest

from lmtrain.program.command import interrupt_deferred


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def sigint() -> Iterator[None]:
    """Python's own handling, also where the tests run in the background of a shell, which has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, before) == signal.default_int_handler


def perform(steps: str, done: list[str]) -> None:
    """Within the block, "ctrl-c" and "ask" do what they say; other steps are noted when they are done."""
    with interrupt_deferred() as interrupt_if_asked:
        for step in steps.split():
            if step == "ctrl-c":
                ctrl_c()
            elif step == "ask":
                interrupt_if_asked()
            else:
                done.append(step)


@pytest.mark.parametrize(
    ("steps", "before"),
    [
        pytest.param("a ctrl-c b", ["a", "b"], id="at the end"),
        pytest.param("a ask ctrl-c b ask c", ["a", "b"], id="when asked"),
        pytest.param("a ctrl-c b ctrl-c c", ["a", "b"], id="a second at once"),
    ],
)
def test_when_it_takes_effect(steps: str, before: list[str]) -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        perform(steps, done)
    assert done == before


def test_an_ignored_one_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    done: list[str] = []
    perform("ctrl-c ask ctrl-c a", done)
    assert done == ["a"]
    assert signal.signal(signal.SIGINT, signal.default_int_handler) == signal.SIG_IGN


def test_a_thread_has_none_to_wait_for() -> None:
    done: list[str] = []
    thread = threading.Thread(target=perform, args=("ask a", done))
    thread.start()
    thread.join()
    assert done == ["a"]
