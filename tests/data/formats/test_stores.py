"""Sources and corpora on web servers, in S3 and on the Hugging Face Hub: all of each, or a sentence."""

import bz2
import gzip
import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest
from corpora import sentences
from preparing import lines, options, prepare, texts, write_parquet
from script_calls import SCRIPTS
from servers import S3, Hub, Web, served

from lmtrain.data.corpus import TextFile, find_corpus, read_text
from lmtrain.data.id_cache import TextFormat
from lmtrain.errors import UserError
from lmtrain.prepare.dictionary_counts import count_texts
from lmtrain.prepare.folder import prepare_corpus

TEXT = "".join(f"{line}\n" for line in lines(600)).encode()
LONG = "".join(
    f"{number} of many lines, to be longer than what is read at a time\n" for number in range(140_000)
).encode()


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, bytes]:
    """What a corpus of TEXT is."""
    (tmp_path / "text").write_bytes(TEXT)
    prepare([tmp_path / "text"], tmp_path / "expected", options())
    return texts(tmp_path / "expected")


@pytest.fixture(scope="module")
def web():
    login = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><p>Sign in to go on.</p></body></html>"
    with served(Web, {"a.txt": TEXT, "a.txt.gz": gzip.compress(TEXT), "long.txt": LONG, "b.txt.gz": login}) as found:
        yield found[0]


@contextmanager
def configured(protocol: str, **values):
    """fsspec as a user configures it in ~/.config/fsspec, and none of the file systems that were made before."""
    before = fsspec.config.conf.get(protocol, {})
    fsspec.config.conf[protocol] = values
    fsspec.get_filesystem_class(protocol).clear_instance_cache()
    try:
        yield
    finally:
        fsspec.config.conf[protocol] = before
        fsspec.get_filesystem_class(protocol).clear_instance_cache()


def _files() -> dict[str, bytes]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("in/a.txt", TEXT)
    files = {
        "a.txt": TEXT,
        "t/a.txt": b"".join(TEXT.splitlines(keepends=True)[:20]),
        "t/b.txt.gz": gzip.compress(TEXT),
        "t/README.md": b"# Not this\n",
    }
    files |= {"t/.hidden": b"nor this\n", "deep/er/ö b.txt.bz2": bz2.compress(TEXT), "z/a.zip": packed.getvalue()}
    return files | {"empty/0.txt": b"", "empty/a.txt": TEXT}


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> dict[str, bytes]:
    table = tmp_path_factory.mktemp("table") / "table"
    write_parquet(table, TEXT.decode().splitlines())
    return _files() | {"p/train-0.parquet": table.read_bytes()}


@pytest.fixture(scope="module", params=["s3://bucket", "hf://datasets/me/data"])
def store(request, stored) -> str:
    """The address of a store that has the files."""
    if request.param.startswith("s3"):
        with (
            served(S3, {"bucket": stored}) as (address, _),
            configured("s3", endpoint_url=address, key="name", secret="secret", default_block_size=1 << 20),
        ):
            yield request.param
    else:
        with served(Hub, {"me/data": stored}) as (address, _), configured("hf", endpoint=address):
            yield request.param


def test_stores_are_read_as_files_are(store, tmp_path, expected):
    for place in ("a.txt", "t", "t/*", "t/b.*", "**/*.bz2", "deep", "p/*.parquet", "z/a.zip", "empty"):
        manifest = prepare([f"{store}/{place}"], tmp_path / "corpus", options(), overwrite=True)
        assert texts(tmp_path / "corpus") == expected, place
        assert all(source["url"].startswith(store) for source in manifest["sources"])
    with pytest.raises(UserError, match=r"none\.txt does not exist"):
        prepare([f"{store}/none.txt"], tmp_path / "none", options())


def test_a_corpus_in_a_store_is_read_to_its_end(store, stored, tmp_path):
    corpus = {"c/train/1.txt": LONG, "c/valid.txt": sentences(30).encode(), "c/test.txt.gz": gzip.compress(TEXT)}
    stored.update(corpus)
    found = find_corpus(f"{store}/c")
    assert "".join(read_text(found.train[0])).encode() == LONG
    assert "".join(read_text(found.test[0])).encode() == TEXT
    stamps = {file.stamp for file in found.files()}
    stored["c/train/1.txt"] = LONG[:-100]
    assert len(stamps - {file.stamp for file in find_corpus(f"{store}/c").files()}) == 1
    counts = count_texts([f"{store}/c/valid.txt"], TextFormat(), tmp_path / "cache")
    assert counts.total() == len(sentences(30))


def test_a_file_that_is_replaced_by_a_shorter_one_while_it_is_read_is_no_short_corpus(store, stored):
    stored.update({"s/train/1.txt": LONG, "s/valid.txt": TEXT, "s/test.txt": TEXT})
    pieces = read_text(find_corpus(f"{store}/s").train[0])
    next(pieces)
    stored["s/train/1.txt"] = LONG[: len(LONG) // 2]
    with pytest.raises(UserError, match=r"s/train/1\.txt (?:broke off after|cannot be read)"):
        list(pieces)


@pytest.mark.parametrize(
    "manner",
    [
        *("ranges", "plain", "redirected", "chunks", "without_length", "head_says_less", "head_says_more"),
        *("head_says_nothing", "without_head", "packed"),
    ],
)
def test_web_servers_of_all_manners_give_the_whole_file(manner, web, tmp_path, expected):
    for name in ("a.txt", "a.txt.gz", "a.txt.gz?key=x%2Fy"):
        prepare([f"{web}/{manner}/{name}"], tmp_path / "corpus", options(), overwrite=True)
        assert texts(tmp_path / "corpus") == expected
    assert sum(map(len, read_text(TextFile(f"{web}/{manner}/long.txt", "long.txt", -1, "")))) == len(LONG)


@pytest.mark.parametrize("manner", ["cut", "cut_ranges", "cut_without_length", "cut_chunks"])
def test_what_breaks_off_becomes_no_corpus_and_leaves_nothing(manner, web, tmp_path):
    for name in ("a.txt", "a.txt.gz", "long.txt"):
        with pytest.raises(
            UserError, match=rf"{manner}/{name} broke off after [\d,]+.* bytes: .* curl -L -C - -O http"
        ):
            prepare([f"{web}/{manner}/{name}"], tmp_path / "corpus", options())
        with pytest.raises(UserError, match="broke off after"):
            list(read_text(TextFile(f"{web}/{manner}/{name}", name, -1, "")))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="broke off after"):  # in another process
        prepare_corpus([f"{web}/{manner}/long.txt"], tmp_path / "corpus", options(), workers=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "403/a.txt",
            r"403/a\.txt cannot be read: the server answers 403 Forbidden\. Download the file with your browser",
        ),
        ("404/a.txt", r"404/a\.txt cannot be read: the server answers 404 Not Found\.$"),
        ("500/a.txt", r"the server answers 500 Internal Server Error"),
        ("plain/b.txt.gz", r"b\.txt\.gz is a web page, though its name .* --format html"),
    ],
)
def test_what_a_web_server_does_not_give_has_a_sentence(place, message, web, tmp_path):
    with pytest.raises(UserError, match=message):
        prepare([f"{web}/{place}"], tmp_path / "corpus", options())


def test_a_server_that_is_not_there(tmp_path):
    with served(Web, {}) as (address, _):
        pass
    for place in (f"{address}/a.txt", f"hf://{tmp_path.name}"):
        with pytest.raises(UserError, match=r"cannot be read: \w"):
            prepare([place], tmp_path / "corpus", options())
    with pytest.raises(UserError, match=r"data\.path=http.* cannot be opened: \w"):
        find_corpus(f"{address}/corpus")
    with configured("hf", endpoint=address), pytest.raises(UserError, match="cannot be opened: Connection refused"):
        find_corpus("hf://datasets/me/data")


def test_who_asks_is_to_say_so(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    hint = r"AWS_SECRET_ACCESS_KEY\); for a public bucket set FSSPEC_S3_ANON=true"
    with served(S3, {"public": {"a.txt": TEXT}, "private": {}}) as (address, _):
        with configured("s3", endpoint_url=address), pytest.raises(UserError, match=rf"credentials\. .*{hint}"):
            prepare(["s3://public/a.txt"], tmp_path / "corpus", options())
        with configured("s3", endpoint_url=address, anon=True):
            with pytest.raises(UserError, match=rf"403 Forbidden\. .*{hint}"):
                prepare(["s3://private/a.txt"], tmp_path / "corpus", options())
            prepare(["s3://public/a.txt"], tmp_path / "corpus", options())
    with served(Hub, {"gated/data": {"a.txt": TEXT}}) as (address, _), configured("hf", endpoint=address):
        for place, message in (
            ("gated/data/a.txt", r"403 Forbidden\. Ask for access .* HF_TOKEN"),
            ("me/none/a.txt", r"no such repository or revision, or it is not public\. .* HF_TOKEN"),
            ("gated/data@dev/a.txt", "no such repository or revision"),
        ):
            with pytest.raises(UserError, match=message):
                prepare([f"hf://datasets/{place}"], tmp_path / "none", options())


@pytest.mark.parametrize(
    ("place", "command"), [("s3://b/a", "pip install s3fs"), ("http://h/a", r"pip install 'fsspec\[http\]'")]
)
def test_a_package_that_is_missing_has_its_command(place, command, tmp_path, monkeypatch):
    def missing(*_, **__):
        raise ImportError("there is no such package")

    monkeypatch.setattr("lmtrain.data.formats.stores.url_to_fs", missing)
    message = rf"{place}: \w+:// needs a package that is not installed: {command}\.$"
    with pytest.raises(UserError, match=message):
        prepare([place], tmp_path / "corpus", options())
    with pytest.raises(UserError, match=message):
        find_corpus(place)


def test_the_environment_says_where_the_stores_are(stored, tmp_path, expected):
    """As users set it, in a process that has read none of it yet."""
    with served(S3, {"bucket": stored}) as (s3, _), served(Hub, {"me/data": stored}) as (hub, _):
        environment = {"AWS_ENDPOINT_URL": s3, "AWS_ACCESS_KEY_ID": "name", "AWS_SECRET_ACCESS_KEY": "secret"}
        environment |= {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "hf")}
        command = [sys.executable, SCRIPTS / "prepare_corpus.py", "s3://bucket/t/b.txt.gz", "hf://datasets/me/data/p"]
        command += ["--valid", "0.1", "--test", "0.1", "--workers", "1", "--output", tmp_path / "corpus"]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert texts(tmp_path / "corpus") == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_does_not_wait_for_what_is_still_to_come(workers, tmp_path):
    with served(Web, {"a.txt": LONG}) as (address, asked):
        command = [sys.executable, SCRIPTS / "prepare_corpus.py", f"{address}/halting/a.txt"]
        command += ["--workers", str(workers), "--output", tmp_path / "corpus"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        while asked.count("a half is sent") < 2 and process.poll() is None:  # for its beginning, and for all of it
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=200)  # the server sends nothing before that
    assert (process.returncode, said.count("\n")) == (143, 1)
    assert "SIGTERM before the work was done: nothing unfinished is left" in said
    assert list(tmp_path.iterdir()) == []
