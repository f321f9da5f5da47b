"""Text that is prepared in pieces and in processes gives the same cache, also if one is killed or interrupted."""

import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from corpora import write_corpus
from hypothesis import given
from hypothesis import strategies as st
from running import SMALL, compose

from lmtrain.config.schema import check_config
from lmtrain.data.cache import pieces, text_cache
from lmtrain.data.cache.checked import Checked, state, this_host
from lmtrain.data.cache.text_cache import TextCache
from lmtrain.data.corpus import TextFile
from lmtrain.data.dictionary import Dictionary
from lmtrain.data.id_cache import TextFormat, count_piece
from lmtrain.errors import UserError
from lmtrain.program.locks import Lock
from lmtrain.program.pool import Here, Processes
from lmtrain.training.text import prepare_text

ROOT = Path(__file__).parents[2]
KNOWN = Dictionary(["<unk>", *"\nabé語"])


def local(path: Path, name: str = "") -> TextFile:
    status = path.stat()
    stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ino}"
    return TextFile(str(path), name or path.name, status.st_size, stamp)


def content(cache: Path) -> dict[str, bytes]:
    """The entries of a cache and the counts, byte by byte, without what names places and times."""
    files = {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    return {name: data for name, data in files.items() if not name.startswith(("content-", "checked-", "."))}


def made(
    folder: Path, files: list[TextFile], text_format: TextFormat, dictionary: Dictionary, pool
) -> dict[str, bytes]:
    folder.mkdir()
    cache = TextCache(folder, pool=pool)
    cache.counts(files, text_format)
    cache.encoded(files, text_format, dictionary)
    return content(folder)


PARTS = [b"\r", b"\n", b"\r\n", b"a", b"b", "é".encode(), "語".encode(), b"\xff", b"\xe8\xaa", b"\xef\xbb\xbf", b" "]


@given(
    parts=st.lists(st.sampled_from(PARTS), max_size=40),
    delimiter=st.sampled_from(["\n", "\n\n", "aa", "ab", "aba", "é", "b\n", "\n \n"]),
    level=st.sampled_from(["character", "word"]),
    size=st.integers(1, 5),
)
def test_pieces_make_no_difference(parts, delimiter, level, size):
    text_format = TextFormat(level, delimiter, "replace")
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        path = Path(name, "text")
        path.write_bytes(b"".join(parts))
        whole = made(Path(name, "whole"), [local(path)], text_format, KNOWN, Here())
        patch.setattr(text_cache, "PIECE_BYTES", size)
        assert made(Path(name, "pieces"), [local(path)], text_format, KNOWN, Here()) == whole


def test_lines_are_cut_into_pieces_of_about_the_size(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"".join(b"%05d a line\n" % number for number in range(20_000)))
    cut = pieces.cut_pieces(local(path), "\n", 30_000)
    assert [piece.stretch[0] for piece in cut[1:]] == [piece.stretch[1] for piece in cut[:-1]]
    assert (cut[0].stretch[0], cut[-1].stretch[1]) == (0, path.stat().st_size)
    assert {piece.size // 1000 for piece in cut[:-1]} == {30}


@pytest.fixture
def pieces_of_a_kilobyte(monkeypatch):
    monkeypatch.setattr(text_cache, "PIECE_BYTES", 1000)
    monkeypatch.setattr(text_cache, "_WORTH_STARTING", 0)
    monkeypatch.setattr(text_cache, "_WORTH_HASHING", 0)


@pytest.fixture
def files(tmp_path) -> list[TextFile]:
    found = []
    for number in range(5):
        path = tmp_path / f"{number}.txt"
        path.write_text("".join(f"a line é 語 {number} {line}\n" for line in range(100 + 500 * number)))
        found.append(local(path))
    return found


@pytest.mark.usefixtures("pieces_of_a_kilobyte")
@pytest.mark.parametrize("level", ["character", "word"])
def test_processes_make_no_difference(level, files, tmp_path):
    text_format = TextFormat(level)
    here = made(tmp_path / "here", files, text_format, KNOWN, Here())
    with Processes(3) as pool:
        assert made(tmp_path / "there", files, text_format, KNOWN, pool) == here
    assert len(here) == 5 * 3 + 5


@pytest.mark.usefixtures("pieces_of_a_kilobyte")
def test_the_first_byte_that_is_not_utf8_is_named_and_nothing_is_left(files, tmp_path):
    for file in files[3:]:
        with open(file.url, "r+b") as stream:
            stream.seek(5000)
            stream.write(b"\xff")
            stream.seek(9000)
            stream.write(b"\xff")
    cache = tmp_path / "cache"
    with Processes(2) as pool, pytest.raises(UserError) as error:
        made(cache, [local(Path(file.url)) for file in files], TextFormat(), KNOWN, pool)
    assert [problem.split(" is not UTF-8")[0] for problem in error.value.problems] == [
        f"{file.url}: byte 0xff at offset 5000" for file in files[3:]
    ]
    assert not list(cache.glob(".*"))


@pytest.mark.usefixtures("pieces_of_a_kilobyte")
def test_a_killed_process_is_an_error_and_nothing_is_left(files, tmp_path):
    with Processes(2) as pool:
        list(pool.map(count_piece, TextFormat(), files))
        for process in pool._all:
            os.kill(process.pid, signal.SIGKILL)
        cache = TextCache(tmp_path / "cache", pool=pool)
        cache.cache_dir.mkdir()
        with pytest.raises(UserError, match=r"was killed \(signal 9\), most likely because memory ran out.*taskset"):
            cache.encoded(files, TextFormat(), KNOWN)
    assert all(process.returncode is not None for process in pool._all)
    assert not list(cache.cache_dir.glob(".*"))


@pytest.mark.usefixtures("pieces_of_a_kilobyte")
def test_what_interrupts_the_waiting_ends_the_processes(files, tmp_path):
    begun = threading.Event()

    def interrupt() -> None:
        begun.wait(60)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    try:
        with Processes(2) as pool:
            close, held = pool.close, threading.Event()
            pool.close = lambda: (held.set(), close())
            cache = TextCache(tmp_path / "cache", pool=pool, advance=lambda _: (begun.set(), held.wait(60)))
            cache.cache_dir.mkdir()
            with pytest.raises(KeyboardInterrupt):
                cache.encoded(files, TextFormat(), KNOWN)
    finally:
        signal.signal(signal.SIGINT, before)
    assert all(process.returncode is not None for process in pool._all)
    assert not list(cache.cache_dir.glob(".*"))


SCRIPT = """
import multiprocessing, sys
from pathlib import Path
from lmtrain.data.cache import text_cache
from lmtrain.data.corpus import TextFile
from lmtrain.data.id_cache import TextFormat
from lmtrain.program.pool import Processes
from lmtrain.data.cache.text_cache import TextCache

def count():
    text_cache._WORTH_STARTING = text_cache._WORTH_HASHING = 0
    path = Path(sys.argv[1])
    with Processes(2) as pool:
        cache = TextCache(Path(sys.argv[2]), pool=pool)
        print(cache.counts([TextFile(str(path), "text", 1, "1")], TextFormat()).total())

print("begins")
{call}
"""


DAEMON = "p = multiprocessing.get_context('fork').Process(target=count, daemon=True); p.start(); p.join()"


@pytest.mark.parametrize("call", ["count()", DAEMON])
def test_scripts_without_a_guard_and_daemonic_processes_may_prepare(call, tmp_path):
    (tmp_path / "text.txt").write_text("abc\n")
    (tmp_path / "pickle.py").write_text("raise SystemExit('not this one')")  # beside where the command is typed
    (tmp_path / "folder").mkdir()
    script = tmp_path / "folder/script.py"
    script.write_text(SCRIPT.format(call=call))
    (tmp_path / "cache").mkdir()
    command = [sys.executable, str(script), str(tmp_path / "text.txt"), str(tmp_path / "cache")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
    assert (result.stdout, result.stderr, result.returncode) == ("begins\n4\n", "", 0)


# --- contents, checks and turns ---


def values(folder: Path, **data) -> dict:
    made = compose(*SMALL, "dictionary=corpus", "name=run", f"runs_dir={folder}/runs")
    made["data"] |= {"path": f"{folder}/corpus", "cache_dir": f"{folder}/cache"} | data
    return made


def prepare(folder: Path, **data):
    return prepare_text(check_config(values(folder, **data)), 1)


def reads(monkeypatch) -> list[str]:
    """Which files are encoded, and which entries read, from now on."""
    done = []
    for name in ("encode_piece", "is_whole"):
        original = getattr(text_cache, name)

        def noted(*arguments, name=name, original=original):
            done.append(name)
            return original(*arguments)

        monkeypatch.setattr(text_cache, name, noted)
    return done


def test_the_same_text_at_another_place_is_not_encoded_again(tmp_path, monkeypatch):
    write_corpus(tmp_path / "corpus")
    first = prepare(tmp_path).contents()
    (tmp_path / "corpus").rename(tmp_path / "moved")
    done = reads(monkeypatch)
    again = prepare(tmp_path, path=str(tmp_path / "moved")).contents()
    assert again == first
    assert done == []


def test_what_was_checked_on_this_host_is_checked_again_when_it_has_changed_or_that_is_asked_for(tmp_path, monkeypatch):
    write_corpus(tmp_path / "corpus")
    first = prepare(tmp_path).contents()
    done = reads(monkeypatch)
    prepare(tmp_path)
    assert done == []
    entries = sorted(path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    for path in (tmp_path / "cache").glob("checked-*"):
        path.unlink()
    prepare(tmp_path)
    assert done == ["is_whole"] * len(entries)
    done.clear()
    prepare(tmp_path)
    assert done == []
    ids = entries[0] / "ids.bin"
    status, data = ids.stat(), ids.read_bytes()
    ids.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    os.utime(ids, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a copy that keeps the times
    assert prepare(tmp_path).contents() == first
    assert done == ["is_whole", "encode_piece"] or done == ["is_whole", "is_whole", "encode_piece"]
    assert ids.read_bytes() == data


def test_an_entry_that_is_damaged_right_after_it_was_written_is_seen(tmp_path):
    """Within one tick of the file system's clock the times would be the same."""
    write_corpus(tmp_path / "corpus")
    for number in range(5):
        first = prepare(tmp_path, cache_dir=f"{tmp_path}/cache-{number}").contents()
        ids = max((tmp_path / f"cache-{number}").glob("*/ids.bin"))
        with ids.open("r+b") as file:
            byte = file.read(1)
            file.seek(0)
            file.write(bytes([byte[0] ^ 1]))
        assert prepare(tmp_path, cache_dir=f"{tmp_path}/cache-{number}").contents() == first
        assert ids.read_bytes()[:1] == byte


def test_a_file_that_changes_while_it_is_read_is_refused_and_not_kept(tmp_path, monkeypatch):
    write_corpus(tmp_path / "corpus")
    path = tmp_path / "corpus/valid.txt"

    def changing(how, file, **more):
        counts = count_piece(how, file, **more)
        with open(file.url, "a") as stream:
            stream.write("more\n")
        return counts

    with monkeypatch.context() as patched:
        patched.setattr(text_cache, "count_piece", changing)
        with pytest.raises(UserError, match=r"was changed while it was read\. Run the same command again"):
            prepare(tmp_path)
    assert path.exists()
    assert not list((tmp_path / "cache").glob("counts-*"))


def test_who_waits_goes_on_as_soon_as_the_work_is_announced(tmp_path, monkeypatch, caplog):
    """Without the lock, which another process may go on to hold for long."""
    write_corpus(tmp_path / "corpus")
    (tmp_path / "cache").mkdir()
    lock = Lock(tmp_path / "cache" / f".lock-{this_host()}", "")
    assert lock.acquire_now() is None
    monkeypatch.setattr("lmtrain.program.locks._FIRST_LOG", 0.2)
    caplog.set_level(logging.INFO, "lmtrain")
    prepared = []
    waiting = threading.Thread(target=lambda: prepared.append(prepare(tmp_path)))
    waiting.start()
    while "Waiting for the cache" not in caplog.text:
        waiting.join(0.01)
    other = prepare(tmp_path, cache_dir=f"{tmp_path}/other").contents()
    for path in (tmp_path / "other").iterdir():
        if not path.name.startswith((".", "checked-")):
            path.rename(tmp_path / "cache" / path.name)
    checked = Checked(tmp_path / "cache")
    for path in (tmp_path / "cache").iterdir():
        if path.is_dir():
            checked.add(path, state(path))
    checked.save()
    (tmp_path / "cache/.announced").write_text("now")
    waiting.join(60)
    assert prepared[0].contents() == other
    lock.release()
