"""From files of every kind to a corpus folder: every document once, in its part, whatever the way there."""

import bz2
import gzip
import hashlib
import json
import lzma
import random
import subprocess
import sys
import threading
import tracemalloc
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from preparing import PARTS, documents_of, everything, lines, options, prepare, texts, write_parquet
from running import compose
from script_calls import SCRIPTS, call

from lmtrain.data.formats.reader import Tally, Wanted
from lmtrain.errors import UserError
from lmtrain.prepare import tasks
from lmtrain.prepare.cleaning import BOILERPLATE, Cleaning
from lmtrain.prepare.shuffling import Dealing
from lmtrain.prepare.sources import Block, Source, read_block


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
    write_parquet(forms / "table.parquet", rows)
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
    write_parquet(raw / "table.parquet", lines(500))

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
        for piece in read_block(Block(source, start, start + size), Wanted(), Tally())
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


def test_bytes_that_are_not_utf8_can_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"".join(b"caf\xe9 %d\n" % number for number in range(40)))
    prepare([tmp_path / "latin.txt"], tmp_path / "corpus", options(errors="replace"))
    assert everything(tmp_path / "corpus") == sorted(f"caf\ufffd {number}" for number in range(40))


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
