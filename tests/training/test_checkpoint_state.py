"""What a checkpoint holds, its version, and when it is written."""

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from running import SMALL

from lmtrain.errors import UserError
from lmtrain.model_files.flair import load_language_model
from lmtrain.program.signals import Asked, Request, SignalWatch
from lmtrain.runs.checkpoint_files import CheckpointFiles
from lmtrain.training.callbacks.checkpoint import RunCheckpoint
from lmtrain.training.callbacks.run_length import TimeLimit
from lmtrain.training.checkpoint_state import OWN_CALLBACKS, POSITION, Position, RunState, read_checkpoint
from lmtrain.training.save_policy import SavePolicy

LAST = Path("runs/run/checkpoints/last.ckpt")


def test_a_checkpoint_holds_what_is_described_and_that_of_a_later_version_is_refused(train_py):
    assert train_py(*SMALL, "name=run", "trainer.max_steps=8").status == 0
    checkpoint = read_checkpoint(LAST)
    lightning = {"state_dict", "optimizer_states", "loops", "global_step", "epoch", "callbacks", "lr_schedulers"}
    assert checkpoint.keys() == lightning | {"pytorch-lightning_version", "lmtrain", POSITION}
    assert checkpoint["callbacks"].keys() == OWN_CALLBACKS.keys() - {"AnnealOverRun"}  # one of two schedules
    assert checkpoint["lmtrain"]["version"] == 1
    state = RunState.read(checkpoint)
    assert state.position == Position(0, 8)
    assert state.items_seen == 8 * 4 * 20
    assert [part.shape for part in state.hidden] == [(1, 4, 8)] * 2

    written: dict = {}
    state.write(written)
    assert written["lmtrain"].keys() == checkpoint["lmtrain"].keys()

    checkpoint["lmtrain"]["version"] = 2
    torch.save(checkpoint, LAST.with_name("later"))
    LAST.with_name("later").replace(LAST)
    before = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    ended = train_py(*SMALL, "name=run", "trainer.max_steps=9")
    assert ended.status == 2
    assert "last.ckpt cannot be gone on from. It is a checkpoint of version 2, and this lmtrain reads" in ended.message
    assert "Use the lmtrain that wrote it, or a later one" in ended.message
    assert {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()} == before
    with pytest.raises(UserError, match=r"last\.ckpt: It is a checkpoint of version 2"):
        load_language_model(LAST)
    assert train_py(*SMALL, "name=run", "overwrite=true").status == 0


def test_the_most_urgent_request_is_followed():
    stop = Asked(Request.STOP, signal.SIGTERM)
    requests = [Asked(), Asked(Request.SAVE), Asked(Request.SAVE_AND_GO_ON), Asked(Request.END), stop]
    assert sorted(reversed(requests)) == requests


def test_a_policy_saves_every_so_many_steps_once_and_ends_when_the_time_is_over():
    policy = SavePolicy(every=None, every_steps=5)
    asked = [policy.asked_by_step(step) for step in (4, 5, 6, 10)]
    assert asked == [Request.NONE, Request.SAVE, Request.NONE, Request.SAVE]
    policy.note_saved(10, Position(1, 3))
    assert policy.asked_by_step(10) == Request.NONE  # the window is begun again, such as after a validation
    assert policy.is_saved(Position(1, 3))
    assert not policy.is_saved(Position(1, 4))
    assert policy.asked_by_clock() == Request.NONE

    limit = TimeLimit(0.0)
    limit.start()
    policy = SavePolicy(every=None, time_limit=limit)
    assert policy.asked_by_clock() == Request.END
    policy.is_out_of_time = True  # it is followed
    assert policy.asked_by_clock() == Request.NONE
    assert SavePolicy(every=0.0).asked_by_clock() == Request.SAVE


def test_a_request_waits_for_the_window_before_which_ranks_exchange_theirs(tmp_path):
    signals = SignalWatch()
    saving = RunCheckpoint(CheckpointFiles(tmp_path), SavePolicy(every=None), signals)
    saving._ranks._next = 10  # windows on, the ranks talk again
    trainer = SimpleNamespace(
        world_size=2, global_step=3, datamodule=SimpleNamespace(state_dict=lambda: {"epoch": 0, "window": 3})
    )
    signals.asked = Asked(Request.SAVE_AND_GO_ON)
    saving.before_window(trainer)
    assert signals.asked == Asked(Request.SAVE_AND_GO_ON)


def test_the_last_checkpoint_becomes_the_previous_one_only_when_the_next_is_whole(tmp_path):
    files = CheckpointFiles(tmp_path)
    for text in ("one", "two"):
        with files.next() as path:
            path.write_text(text)

    def write_to_a_full_disk() -> None:
        with files.next() as path:
            path.write_text("thr")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_to_a_full_disk()
    assert [path.read_text() for path in files.present()] == ["two", "one"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]
