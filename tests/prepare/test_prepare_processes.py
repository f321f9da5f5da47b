"""Preparing a corpus in several processes gives the same result, also if one is killed or interrupted."""

import gzip
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from preparing import content, lines, options
from script_calls import SCRIPTS

from lmtrain.errors import UserError
from lmtrain.prepare.folder import prepare_corpus
from lmtrain.prepare.options import PrepareOptions


@pytest.fixture
def many_blocks(tmp_path: Path) -> tuple[list[Path], PrepareOptions]:
    (tmp_path / "a.txt").write_text("".join(f"{line}\n" for line in lines(4000)))
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress((tmp_path / "a.txt").read_bytes()))
    return [tmp_path / "a.txt", tmp_path / "b.txt.gz"], options(block_size=8000, split_size=30_000)


def test_processes_make_no_difference(many_blocks, tmp_path: Path) -> None:
    sources, chosen = many_blocks
    prepare_corpus(sources, tmp_path / "one", chosen, workers=1)
    done = []
    prepare_corpus(sources, tmp_path / "two", chosen, workers=2, progress=lambda *call: done.append(call))
    assert content(tmp_path / "one") == content(tmp_path / "two")
    for phase in ("Reading", "Writing"):
        values = [(now, total) for what, now, total in done if what == phase]
        assert values == sorted(values)
        assert values[0][0] == 0
        assert values[-1][0] == values[-1][1]


def test_a_killed_process_is_explained(many_blocks, tmp_path: Path) -> None:
    sources, chosen = many_blocks

    def kill(what: str, done: int, total: int) -> None:  # noqa: ARG001
        if done:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(UserError, match="A worker process was killed, most likely because memory ran out"):
        prepare_corpus(sources, tmp_path / "corpus", chosen, workers=2, progress=kill)
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "b.txt.gz"}


def test_a_cluster_gives_the_same_even_if_a_worker_is_killed(many_blocks, tmp_path: Path) -> None:
    from dask.distributed import LocalCluster

    sources, chosen = many_blocks
    prepare_corpus(sources, tmp_path / "here", chosen, workers=1)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        killed = []

        def kill(what: str, done: int, total: int) -> None:
            if what not in killed and 0 < done < total:
                killed.append(what)
                os.kill(cluster.workers[len(killed) % 2].process.pid, signal.SIGKILL)

        prepare_corpus(sources, tmp_path / "there", chosen, scheduler_address=cluster.scheduler_address, progress=kill)
        assert killed == ["Reading", "Writing"]
    assert content(tmp_path / "here") == content(tmp_path / "there")


INTERRUPTED = """
import functools, os, runpy, signal, sys
from lmtrain.prepare import folder

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
phase, number, script, *sys.argv[1:] = sys.argv[1:]
prepare, calls = folder.prepare_corpus, []

def interrupted(*inputs, progress, **options):
    def ctrl_c(what, done, total):
        progress(what, done, total)
        calls.append(what)
        if calls.count(phase) == int(number):
            os.killpg(0, signal.SIGINT)  # as a terminal does: to all processes

    return prepare(*inputs, progress=ctrl_c, **options)

folder.prepare_corpus = interrupted
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize(("phase", "number"), [("Reading", 1), ("Reading", 3), ("Writing", 2)])
def test_ctrl_c_ends_quietly(many_blocks, tmp_path: Path, phase: str, number: int) -> None:
    sources, _ = many_blocks
    sources[0].write_text("".join(f"{line}\n" for line in lines(100_000)))
    options = ("--split-size", "1MB", "--workers", "2", "--output", tmp_path / "corpus")
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, phase, str(number), SCRIPTS / "prepare_corpus.py", *sources, *options],
        stderr=subprocess.PIPE,
        text=True,
        timeout=200,
        start_new_session=True,
        check=False,
    )
    said = "SIGINT before the work was done: nothing unfinished is left. Run the same command again.\n"
    assert (done.returncode, done.stderr) == (130, said)
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "b.txt.gz"}
