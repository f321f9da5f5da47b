"""Who waits for a lock is told for whom, where the file system locks files and where it does not."""

import errno
import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from corpora import write_corpus
from processes import ROOT
from running import SMALL, compose, train

from lmtrain.errors import UserError
from lmtrain.program import locks
from lmtrain.program.locks import Lock, read_owner
from lmtrain.program.log import logging_to

HOLD = """
import errno, fcntl, sys
from pathlib import Path
from lmtrain.program.locks import Lock
if sys.argv[2] != "flock":
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")
    fcntl.flock = flock
lock = Lock(Path(sys.argv[1]), "")
assert lock.acquire_now() is None
print("it has it", flush=True)
sys.stdin.read()
lock.release()
"""
KINDS = ("flock", "marker")


def without_flock(monkeypatch, number: int = errno.ENOSYS) -> None:
    def flock(*_) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@contextmanager
def another_process(path: Path, kind: str):
    """Has the lock until its standard input is closed."""
    command = [sys.executable, "-c", HOLD, path, kind]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    with process:
        assert process.stdout.readline() == "it has it\n"
        yield process
        process.stdin.close()


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """What a run says, and when: at once, not after a second."""
    monkeypatch.setattr(locks, "_FIRST_LOG", 0.01)

    class Lines(list):
        def print(self, line: str, **_) -> None:
            self.append(line)

    lines = Lines()
    with logging_to(lines):
        yield lines


@pytest.mark.parametrize("kind", KINDS)
def test_who_waits_says_for_whom_and_goes_on_when_it_is_released(kind, tmp_path, said, monkeypatch):
    if kind == "marker":
        without_flock(monkeypatch)
    path = tmp_path / ".lock"
    with another_process(path, kind) as other:
        lock = Lock(path, "Give another")
        waiting = threading.Thread(target=lock.acquire, args=("the cache",))
        waiting.start()
        while not said:
            time.sleep(0.001)
        owner = rf"process {other.pid} on {socket.gethostname()} holds {path} since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d"
        assert re.match(f"Waiting for the cache: {owner}", said[0])
        other.stdin.close()
        waiting.join()
    assert read_owner(path).pid == os.getpid()


def test_it_is_said_within_two_seconds_and_then_ever_more_seldom():
    assert locks._FIRST_LOG < 2
    assert locks._LONGEST_SILENCE <= 600


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_of_this_host_that_was_killed_has_no_lock(kind, tmp_path, monkeypatch):
    if kind == "marker":
        without_flock(monkeypatch)
    path = tmp_path / ".lock"
    with another_process(path, kind) as other:
        assert f"process {other.pid} on" in Lock(path, "").acquire_now()
        other.kill()
        other.wait()
        lock = Lock(path, "")
        assert lock.acquire_now() is None
        assert read_owner(path).pid == os.getpid()
        lock.release()


def marker_of(host: str, path: Path, monkeypatch) -> None:
    """Leaves the marker of a process on another host, as it stands after its power has failed."""
    with monkeypatch.context() as patch:
        patch.setattr("filelock._marker.host_name", lambda: host)
        patch.setattr("filelock._marker.process_start_token", lambda _: 1)
        lock = Lock(path, "")
        assert lock.acquire_now() is None
        lock._lock._stop_heartbeat()
        os.close(lock._lock._context.lock_file_fd)
        lock._lock._mark_descriptor_released()


def test_a_dead_process_of_another_host_is_told_by_its_silence(tmp_path, said, monkeypatch):
    without_flock(monkeypatch)
    monkeypatch.setattr(locks, "_LEASE", 0.5)
    path = tmp_path / ".lock"
    marker_of("node17", path, monkeypatch)
    lock = Lock(path, "")
    lock.acquire("the cache")
    assert re.match(
        rf"Waiting for the cache: process {os.getpid()} on node17 holds {path} since .* and touched it ", said[0]
    )
    lock.release()
    marker_of("node17", path, monkeypatch)
    assert Lock(path, "").acquire_now() is None  # the folder of a run, too


def test_a_living_process_of_another_host_keeps_its_lock(tmp_path, said, monkeypatch):
    without_flock(monkeypatch)
    monkeypatch.setattr(locks, "_LEASE", 5.0)
    path = tmp_path / ".lock"
    marker_of("node17", path, monkeypatch)
    stop = threading.Event()

    def live() -> None:
        while not stop.wait(0.05):
            os.utime(path)

    thread = threading.Thread(target=live)
    thread.start()
    assert "node17 holds" in Lock(path, "").acquire_now()
    stop.set()
    thread.join()
    assert "to see whether it is alive" in said[0]


def test_a_process_whose_lock_was_taken_is_told(tmp_path, said, monkeypatch):
    without_flock(monkeypatch)
    monkeypatch.setattr(locks, "_LEASE", 0.3)
    lost = threading.Event()
    lock = Lock(tmp_path / ".lock", "", on_loss=lost.set)
    assert lock.acquire_now() is None
    (tmp_path / ".lock").unlink()
    assert lost.wait(60)
    assert "Another process has taken" in said[0]


def settings(folder: Path, *more: str) -> dict:
    values = compose(*SMALL, "test=false", "name=run", f"runs_dir={folder}/runs", *more)
    values["data"] |= {"path": f"{folder}/corpus", "cache_dir": f"{folder}/cache"}
    return values


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with a corpus, a cache of it, and a run."""
    folder = tmp_path_factory.mktemp("prepared")
    write_corpus(folder / "corpus")
    train(settings(folder))
    return folder


def forget(folder: Path, pattern: str = "*") -> None:
    """Removes texts, or other files, from the cache, so that there is something to do."""
    for path in (folder / "cache").glob(pattern):
        if path.is_dir():
            shutil.rmtree(path)
        elif pattern != "*":
            path.unlink()


def test_a_dead_nodes_marker_in_the_cache_is_no_riddle(prepared, monkeypatch, capsys):
    """Written by what knows no signs of life: it cannot be told whether its process lives, and the user decides."""
    without_flock(monkeypatch)
    forget(prepared)
    (prepared / "cache/.lock").write_text("4711\nnode17\n")
    monkeypatch.setattr(locks, "_FIRST_LOG", 0.01)

    def remove() -> None:
        while "rm " not in capsys.readouterr().err:
            time.sleep(0.001)
        (prepared / "cache/.lock").unlink()

    helper = threading.Thread(target=remove)
    helper.start()
    assert train(settings(prepared, "name=patient"))["steps"] == 3
    helper.join()


def test_ctrl_c_while_waiting_ends_with_a_sentence(prepared, tmp_path):
    forget(prepared)
    with another_process(prepared / "cache/.lock", "flock") as other:
        arguments = [
            *SMALL,
            f"data.path={prepared}/corpus",
            f"data.cache_dir={prepared}/cache",
            f"runs_dir={tmp_path}/new",
        ]
        process = subprocess.Popen(
            [sys.executable, ROOT / "train.py", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        with process:
            line = process.stderr.readline()
            assert f"Waiting for the cache {prepared}/cache, where text is prepared: process {other.pid} on" in line
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert "The same command goes on" in process.stderr.read().splitlines()[-1]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO])
def test_locks_that_fail_are_refused_by_name(number, prepared, monkeypatch):
    cache, run = prepared / "cache/.lock", prepared / "runs/run/.lock"
    for broken in (cache, run):

        def flock(file, _, broken=broken) -> None:
            name = os.readlink(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}")
            if name.startswith(str(broken.parent)):
                raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)
        if broken == cache:
            forget(prepared)
        with pytest.raises(UserError) as error:
            train(settings(prepared))
        assert str(error.value).startswith(f"The lock {broken}")
        assert f" cannot be taken: {os.strerror(number)}." in str(error.value)
        assert {cache: "Give another data.cache_dir", run: "Give another runs_dir"}[broken] in str(error.value)


def test_a_file_system_without_flock_is_no_obstacle(prepared, monkeypatch):
    """Nor what flock has left on another that was copied there."""
    forget(prepared)
    (prepared / "cache/.lock").write_text("")
    os.utime(prepared / "cache/.lock", (time.time() - 60,) * 2)
    without_flock(monkeypatch, errno.EOPNOTSUPP)
    assert train(settings(prepared))["steps"] == 3
    assert train(settings(prepared, "name=without_flock"))["steps"] == 3
    assert not (prepared / "cache/.lock").exists()


def read_only(monkeypatch, folder: Path, number: int = errno.EROFS) -> None:
    """Nothing can be written in the folder, for root neither."""
    opened, made, renamed, removed = os.open, os.mkdir, os.rename, os.unlink

    def refuse(call, writes=lambda *_: True):
        def guarded(path, *more, **named):
            if str(path).startswith(str(folder)) and writes(*more):
                raise OSError(number, os.strerror(number), str(path))
            return call(path, *more, **named)

        return guarded

    monkeypatch.setattr(os, "open", refuse(opened, lambda flags, *_: flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
    monkeypatch.setattr(os, "mkdir", refuse(made))
    monkeypatch.setattr(os, "rename", refuse(renamed))
    monkeypatch.setattr(os, "unlink", refuse(removed))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_finished_cache_is_used_by_who_may_only_read_it(number, prepared, monkeypatch, capsys):
    forget(prepared, "checked-*")
    read_only(monkeypatch, prepared / "cache", number)
    assert train(settings(prepared, f"name=reader-{number}"))["steps"] == 3
    assert "cannot be written" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"data\.cache_dir=.*/cache cannot be written: .*Give another"):
        train(settings(prepared, "name=third", "data.level=word", "dictionary.max_unknown=1"))
    assert not (prepared / "runs/third").exists()
