"""From files of every kind to a corpus folder: every document once, in its part, whatever the way there."""

import bz2
import errno
import gzip
import hashlib
import json
import lzma
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from running import compose
from script_calls import SCRIPTS, call

from lmtrain.corpus import document_blocks, find_corpus, read_text
from lmtrain.errors import UserError
from lmtrain.prepare import tasks
from lmtrain.prepare.cleaning import BOILERPLATE, Cleaning
from lmtrain.prepare.folder import prepare_corpus
from lmtrain.prepare.options import PrepareOptions
from lmtrain.prepare.shuffling import Dealing
from lmtrain.prepare.sources import Block, Source, read_block

PARTS = ("train", "valid", "test")
prepare = partial(prepare_corpus, workers=1)


def lines(count: int, seed: int = 1) -> list[str]:
    """Different lines, with letters of one to four bytes."""
    source = random.Random(seed)
    return [
        f"{number} " + "".join(source.choices("aöя語😀 ", k=source.randint(1, 60))) + "." for number in range(count)
    ]


def options(**changes) -> PrepareOptions:
    return PrepareOptions(**({"dealing": Dealing(0.1, 0.1)} | changes))


def documents_of(folder: Path, delimiter: str = "\n") -> dict[str, list[str]]:
    """The documents of each part, as training reads them."""
    corpus = find_corpus(str(folder))
    return {
        part: [
            document.removesuffix(delimiter)
            for file in getattr(corpus, part)
            for block in document_blocks(read_text(file), delimiter)
            for document in block
        ]
        for part in PARTS
    }


def everything(folder: Path, delimiter: str = "\n") -> list[str]:
    return sorted(document for part in documents_of(folder, delimiter).values() for document in part)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def texts(folder: Path) -> dict[str, bytes]:
    """What a folder holds, but for the manifest, which names the sources."""
    return {name: data for name, data in content(folder).items() if name != "manifest.json"}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder of text with duplicates, empty lines and other line ends."""
    folder = tmp_path / "raw"
    (folder / "more").mkdir(parents=True)
    all_lines = lines(900)
    (folder / "a.txt").write_bytes("\n".join(all_lines[:500]).encode())
    (folder / "more" / "b.txt").write_bytes(("\r\n".join(all_lines[400:]) + "\r\n\r\n").encode())
    (folder / ".hidden").write_text("not this\n")
    (folder / "empty.txt").touch()
    return folder


def test_every_document_is_in_one_part_once(raw: Path, tmp_path: Path) -> None:
    manifest = prepare([raw], tmp_path / "corpus", options(split_size=5000))
    parts = documents_of(tmp_path / "corpus")
    assert everything(tmp_path / "corpus") == sorted(line.strip() for line in lines(900))
    assert 50 < len(parts["valid"]) < 130
    assert 50 < len(parts["test"]) < 130
    sizes = [path.stat().st_size for path in sorted((tmp_path / "corpus" / "train").iterdir())]
    assert len(sizes) == manifest["parts"]["train"]["files"] > 5
    assert all(3000 < size < 7000 for size in sizes)
    assert sorted(parts["train"]) != parts["train"]  # shuffled, over all splits
    assert not {path.name for path in tmp_path.iterdir()} - {"raw", "corpus"}
    assert {path.name for path in (tmp_path / "corpus").iterdir()} == {
        "train",
        "valid.txt",
        "test.txt",
        "manifest.json",
    }


def test_manifest_counts_every_step(raw: Path, tmp_path: Path) -> None:
    chosen = options(cleaning=Cleaning(min_length=20, max_length=50))
    manifest = prepare([raw], tmp_path / "corpus", chosen)
    assert manifest == json.loads((tmp_path / "corpus" / "manifest.json").read_text())
    stripped = [line.strip() for line in lines(900)]
    read = stripped[:500] + stripped[400:]
    steps = {step["step"]: step for step in manifest["steps"]}
    assert list(steps) == [
        *("read", "control_characters", "normalize", "trim", "delimiter", "min_length", "max_length", "deduplicate")
    ]
    assert steps["read"]["out"]["documents"] == 1000
    long = [line for line in read if len(line) >= 20]
    assert steps["min_length"] == {
        "step": "min_length",
        "in": {"documents": 1000, "characters": sum(map(len, read))},
        "out": {"documents": len(long), "characters": sum(map(len, long))},
    }
    kept = {line for line in long if len(line) <= 50}
    assert steps["deduplicate"]["out"] == {"documents": len(kept), "characters": sum(map(len, kept))}
    for part in PARTS:
        files = sorted((tmp_path / "corpus").glob(f"{part}/*")) or [tmp_path / "corpus" / f"{part}.txt"]
        counted = manifest["parts"][part]
        assert counted["bytes"] == sum(file.stat().st_size for file in files)
        assert counted["documents"] == sum(file.read_bytes().count(b"\n") for file in files)
    assert [(source["url"], source["size"], source["sha256"]) for source in manifest["sources"]] == [
        (str(path), path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in (raw / "a.txt", raw / "more" / "b.txt")
    ]


def _parquet(path: Path, rows: list[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": range(len(rows) + 1), "text": [*rows, None]}), path, row_group_size=100)


def test_the_same_documents_in_any_form_give_the_same_corpus(tmp_path: Path) -> None:
    rows = [line.strip() for line in lines(300)]
    text = "".join(f"{row}\n" for row in rows).encode()
    records = "".join(json.dumps({"text": row, "id": 1}) + "\n" for row in rows).encode()
    forms = tmp_path / "forms"
    forms.mkdir()
    (forms / "plain.txt").write_bytes(text)
    (forms / "shuffled.txt").write_bytes("\n".join(random.Random(1).sample(rows, 300)).encode())
    (forms / "text.gz").write_bytes(gzip.compress(text))
    (forms / "text.txt.bz2").write_bytes(bz2.compress(text))
    (forms / "text.txt.xz").write_bytes(lzma.compress(text))
    (forms / "text.txt.zst").write_bytes(zstandard.compress(text))
    (forms / "records.jsonl").write_bytes(records)
    (forms / "records.jsonl.gz").write_bytes(gzip.compress(records))
    _parquet(forms / "table.parquet", rows)
    with fsspec.open("memory://corpus/remote.jsonl", "wb") as file:
        file.write(records)
    expected = None
    for place in [*sorted(forms.iterdir()), "memory://corpus/remote.jsonl", "memory://corpus/*.jsonl"]:
        prepare([place], tmp_path / "corpus", options(), overwrite=True)
        expected = expected or texts(tmp_path / "corpus")
        assert texts(tmp_path / "corpus") == expected, place
    manifest = json.loads((tmp_path / "corpus" / "manifest.json").read_text())
    assert manifest["sources"][0]["url"] == "memory:///corpus/remote.jsonl"
    assert manifest["sources"][0]["size"] == len(records)


def test_web_addresses_are_read(raw: Path, tmp_path: Path) -> None:
    _parquet(raw / "table.parquet", lines(500))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(raw)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        prepare([f"{address}/table.parquet", f"{address}/more/b.txt"], tmp_path / "web", options())
        prepare([raw], tmp_path / "local", options())
        assert texts(tmp_path / "web") == texts(tmp_path / "local")
        with pytest.raises(UserError, match=r"nothing\.txt"):
            prepare([f"{address}/nothing.txt"], tmp_path / "none", options())
    finally:
        server.shutdown()
        server.server_close()


def test_more_text_moves_no_document_to_another_part(raw: Path, tmp_path: Path) -> None:
    prepare([raw], tmp_path / "before", options())
    (raw / "0.txt").write_text("".join(f"{line}\n" for line in lines(2000, seed=2)))
    prepare([raw], tmp_path / "after", options())
    before, after = documents_of(tmp_path / "before"), documents_of(tmp_path / "after")
    for part in PARTS:
        assert set(before[part]) < set(after[part])
        in_order = [document for document in after[part] if document in set(before[part])]
        assert in_order == before[part]


def test_the_seed_changes_the_order_only_and_a_larger_share_takes_from_train_only(raw: Path, tmp_path: Path) -> None:
    prepare([raw], tmp_path / "1", options())
    prepare([raw], tmp_path / "2", options(dealing=Dealing(0.1, 0.1, seed=2)))
    prepare([raw], tmp_path / "3", options(dealing=Dealing(0.2, 0.1)))
    one, two, three = (documents_of(tmp_path / name) for name in "123")
    for part in PARTS:
        assert sorted(one[part]) == sorted(two[part])
        assert one[part] != two[part]
    assert set(one["valid"]) < set(three["valid"])
    assert one["test"] == three["test"]


def test_block_size_makes_no_difference(raw: Path, tmp_path: Path) -> None:
    prepare([raw], tmp_path / "whole", options())
    for size in (300, 4096):
        prepare([raw], tmp_path / "cut", options(block_size=size), overwrite=True)
        assert texts(tmp_path / "cut") == texts(tmp_path / "whole")


@given(st.lists(st.text("a\r語", max_size=5), max_size=8), st.integers(1, 40), st.booleans())
def test_blocks_of_bytes_have_every_line_once(tmp_path_factory, rows: list[str], size: int, ended: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    path.write_bytes("\n".join(rows).encode() + b"\n" * ended)
    total = path.stat().st_size
    source = Source(str(path), "text", total, local=True)
    read = [
        line
        for start in range(0, total, size)
        for piece in read_block(Block(source, start, start + size), "text", "\n", "strict")
        for line in piece
        if line
    ]
    whole = "\n".join(rows).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert read == [line for line in whole if line]


def test_duplicates_are_kept_on_request_and_spread(tmp_path: Path) -> None:
    (tmp_path / "raw.txt").write_text("".join(f"{line}\n" for line in lines(200) + ["twice and again"] * 100))
    prepare([tmp_path / "raw.txt"], tmp_path / "one", options())
    manifest = prepare([tmp_path / "raw.txt"], tmp_path / "all", options(dealing=Dealing(0.1, 0.1, deduplicate=False)))
    one, every = documents_of(tmp_path / "one"), documents_of(tmp_path / "all")
    assert {part: set(every[part]) for part in PARTS} == {part: set(one[part]) for part in PARTS}
    assert sum(map(len, every.values())) == 300
    assert "deduplicate" not in [step["step"] for step in manifest["steps"]]
    (part,) = (documents for documents in every.values() if "twice and again" in documents)
    assert part.index("twice and again") < 20
    assert part[::-1].index("twice and again") < 20


def test_newlines_inside_records_become_spaces(tmp_path: Path) -> None:
    rows = [f"first {number}\n\n second\r\nthird \ud800" for number in range(50)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"body": row}) + "\n" for row in [*rows, None]))
    prepare([tmp_path / "a.jsonl"], tmp_path / "corpus", options(field="body"))
    assert everything(tmp_path / "corpus") == sorted(f"first {number} second third \ufffd" for number in range(50))


def test_documents_of_paragraphs(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(
        b"".join(f"first {number}\r\nsecond\r\n\r\n\r\n\r\n".encode() for number in range(60))
    )
    prepare([tmp_path / "a.txt"], tmp_path / "lines", options(split_at="\n\n"))
    assert everything(tmp_path / "lines") == sorted(f"first {number} second" for number in range(60))
    prepare([tmp_path / "a.txt"], tmp_path / "kept", options(split_at="\n\n", document_delimiter="\n\n"))
    assert everything(tmp_path / "kept", "\n\n") == sorted(f"first {number}\nsecond" for number in range(60))


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"good\n" * 30 + b"caf\xe9\n" + b"bad \xff\n" * 20)
    (tmp_path / "latin.txt.gz").write_bytes(gzip.compress(b"caf\xe9\n"))
    (tmp_path / "torn.txt.gz").write_bytes(gzip.compress(b"text\n" * 1000)[:-10])
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": \n')
    (tmp_path / "other.jsonl").write_text('{"body": "a", "id": 3}\n')
    (tmp_path / "number.jsonl").write_text('{"text": 3}\n')
    (tmp_path / "not.parquet").write_text("text")
    _parquet(tmp_path / "other.parquet", ["a"])
    before = set(tmp_path.iterdir())
    with pytest.raises(UserError) as error:
        prepare([tmp_path], tmp_path / "corpus", options(block_size=50))
    problems = error.value.problems
    assert len(problems) == 7
    text = "\n".join(problems)
    assert f"{tmp_path}/latin.txt: byte 0xe9 at offset 153 is not UTF-8" in text
    assert f"{tmp_path}/latin.txt.gz: byte 0xe9 at offset 3" in text
    assert f"{tmp_path}/torn.txt.gz cannot be read" in text
    assert f"{tmp_path}/bad.jsonl: a line is not JSON" in text
    assert "other.jsonl: a record has no field 'text', only body, id: choose one with --field" in text
    assert "number.jsonl: the field 'text' holds 3, not a text" in text
    assert "not.parquet cannot be read as Parquet" in text
    with pytest.raises(UserError, match=r"other\.parquet has no column 'body', only id, text"):
        prepare([tmp_path / "other.parquet"], tmp_path / "corpus", options(field="body"))
    with pytest.raises(UserError) as error:
        prepare([tmp_path / "none", tmp_path / "*.doc", "nosuch://x"], tmp_path / "corpus")
    assert len(error.value.problems) == 3
    assert set(tmp_path.iterdir()) == before


def test_bytes_that_are_not_utf8_can_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"".join(b"caf\xe9 %d\n" % number for number in range(40)))
    prepare([tmp_path / "latin.txt"], tmp_path / "corpus", options(errors="replace"))
    assert everything(tmp_path / "corpus") == sorted(f"caf\ufffd {number}" for number in range(40))


def test_a_text_without_document_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmtrain.prepare.sources._LONGEST", 2 << 20)
    (tmp_path / "a.txt").write_bytes(b"abc " * (1 << 20))
    with gzip.open(tmp_path / "b.txt.gz", "wb", compresslevel=1) as file:
        file.write(b"abc " * (1 << 20))
    for name in ("a.txt", "b.txt.gz"):
        with pytest.raises(UserError, match=r"no document ends within 2 MiB. Name what separates .* --split-at"):
            prepare([tmp_path / name], tmp_path / "corpus", options(block_size=1 << 20))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dealing": Dealing(0, 0.1)}, "--valid 0: it must be a share"),
        ({"dealing": Dealing(0.5, 0.5)}, "leave nothing to train on"),
        ({"split_size": 0}, "--split-size 0"),
        ({"document_delimiter": ""}, "--document-delimiter is empty"),
        ({"cleaning": Cleaning(min_length=5, max_length=4)}, "--min-length 5 is more than --max-length 4"),
        ({"cleaning": Cleaning(max_markup=2)}, "--max-markup 2: it must be a share"),
        ({"cleaning": Cleaning(min_length=1000)}, "No document is left"),
        ({"dealing": Dealing(1e-9, 0.1)}, "No document falls into valid: of 900, 0.00% should. Raise --valid"),
    ],
)
def test_options_that_cannot_be(raw: Path, tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare([raw], tmp_path / "corpus", options(**changes))
    assert not (tmp_path / "corpus").exists()


def test_nothing_is_overwritten_unasked(raw: Path, tmp_path: Path) -> None:
    output = tmp_path / "corpus"
    output.mkdir()
    prepare([raw], output, options())  # an empty folder is as good as none
    before = content(output)
    with pytest.raises(UserError, match=r"exists\. Name another place"):
        prepare([raw / "a.txt"], output, options())
    assert content(output) == before
    prepare([raw / "a.txt"], output, options(), overwrite=True)
    assert content(output) != before
    (output / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"no manifest.json"):
        prepare([raw], output, options(), overwrite=True)
    with pytest.raises(UserError, match="does not exist"):
        prepare([raw], tmp_path / "no" / "corpus", options())


def test_an_interruption_leaves_what_was_there(raw: Path, tmp_path: Path) -> None:
    prepare([raw], tmp_path / "corpus", options())
    before = content(tmp_path / "corpus")

    for phase in ("Reading", "Writing"):

        def interrupt(what: str, done: int, total: int, phase: str = phase) -> None:  # noqa: ARG001
            if what == phase and done:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prepare([raw], tmp_path / "corpus", options(), overwrite=True, progress=interrupt)
        assert content(tmp_path / "corpus") == before
        assert {path.name for path in tmp_path.iterdir()} == {"raw", "corpus"}


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_RUN_CHARACTERS", 1 << 20)
    with gzip.open(tmp_path / "large.txt.gz", "wt", compresslevel=1) as file:
        for number in range(40):
            file.write("".join(f"{'word ' * 100}{number} {line}\n" for line in range(1000)))  # 20 MB
    prepare([tmp_path / "large.txt.gz"], tmp_path / "warm", options(split_size=1_000_000))
    tracemalloc.start()
    try:
        prepare([tmp_path / "large.txt.gz"], tmp_path / "corpus", options(split_size=1_000_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(everything(tmp_path / "corpus")) == 40_000
    assert peak < 40 << 20  # of which the text is read 4 MiB at a time


def test_a_full_disk_is_not_the_source_s_fault(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for task in ("write_run", "merge"):
        with monkeypatch.context() as patch:
            patch.setattr(tasks, task, full)
            with pytest.raises(UserError, match=r"The disk of .*corpus is full"):
                prepare([raw], tmp_path / "corpus", options())
    assert {path.name for path in tmp_path.iterdir()} == {"raw"}


def test_text_with_another_delimiter_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("".join(f"{line}\nit's 2\n\n" for line in lines(200)))
    arguments = ["--split-at", r"\n\n", "--document-delimiter", r"\n\n", "--valid", "0.1", "--test", "0.1"]
    assert call("prepare_corpus", tmp_path / "a.txt", *arguments, "--output", tmp_path / "corpus") == 0
    command = capsys.readouterr().out.split("train.py ")[1]
    words = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True)
    data = compose(*words.stdout.split("\0")[:-1])["data"]
    assert data["path"] == str(tmp_path / "corpus")
    assert data["document_delimiter"] == "\n\n"
    assert len(everything(Path(data["path"]), data["document_delimiter"])) == 200


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


def test_no_cluster(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmtrain.prepare.graph._CONNECT_SECONDS", 0.5)
    with pytest.raises(UserError, match=r"--scheduler tcp://127\.0\.0\.1:9: no Dask scheduler answers there"):
        prepare_corpus([raw], tmp_path / "corpus", options(), scheduler_address="tcp://127.0.0.1:9")
    with pytest.raises(UserError, match="--scheduler nonsense://x"):
        prepare_corpus([raw], tmp_path / "corpus", options(), scheduler_address="nonsense://x")


def test_script(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "corpus"
    arguments = [
        raw / "*.txt",
        "--valid",
        "0.1",
        "--test",
        "0.1",
        "--split-size",
        "5KB",
        "--workers",
        "1",
        "--output",
        output,
    ]
    assert call("prepare_corpus", *arguments, "--boilerplate", "--max-markup", "0.5", "--split-at", r"\n") == 0
    printed = capsys.readouterr()
    assert "deduplicate" in printed.out
    assert f"python train.py data=folder data.path={output}" in printed.out
    assert not printed.err
    chosen = json.loads((output / "manifest.json").read_text())["options"]
    assert chosen["split_size"] == 5000
    assert chosen["split_at"] == "\n"
    assert chosen["cleaning"] | BOILERPLATE | {"max_markup": 0.5} == chosen["cleaning"]
    assert call("prepare_corpus", *arguments) == 2
    assert capsys.readouterr().err == (
        f"Error: --output {output} exists. Name another place, or replace it with --overwrite.\n"
    )
    with pytest.raises(SystemExit, match="2"):
        call("prepare_corpus", *arguments, "--split-size", "much")
    assert "'much' is no size; write it like 20MB" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["prepare_corpus", "check_corpus", "build_dictionary", "download_billion"])
def test_help_has_an_example_and_imports_little(script: str) -> None:
    program = (
        "import runpy, sys\n"
        "sys.argv = ['script', '--help']\n"
        "try: runpy.run_path(sys.path.pop(), run_name='__main__')\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    path = str(SCRIPTS / f"{script}.py")
    code = f"import sys; sys.path.append({path!r}); exec({program!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert f"python scripts/{script}.py" in done.stdout
    assert not {"numpy", "torch", "dask", "rich", "hydra", "fsspec"} & set(done.stderr.split())


@pytest.mark.parametrize("seconds", [0, 0.1, 0.4])
def test_ctrl_c_ends_quietly(many_blocks, tmp_path: Path, seconds: float) -> None:
    sources, _ = many_blocks
    sources[0].write_text("".join(f"{line}\n" for line in lines(300_000)))
    command = [
        sys.executable,
        SCRIPTS / "prepare_corpus.py",
        *sources,
        "--workers",
        "2",
        "--output",
        tmp_path / "corpus",
    ]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # where the tests run in the background of a shell, SIGINT is ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    limit = time.monotonic() + 60
    while not list(tmp_path.glob(".corpus*")) and time.monotonic() < limit:
        time.sleep(0.005)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "b.txt.gz"}
