"""torchrun on two hosts: two network namespaces with a cable between them."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import ROOT, command, halt_at, make_halt, met, run
from running import read_metrics
from test_ranks import EXACT, assert_same_figures

pytestmark = pytest.mark.slow
HOSTS = {"lmtrain-a": "10.77.0.1", "lmtrain-b": "10.77.0.2"}
TORCHRUN = Path(sys.executable).with_name("torchrun")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def hosts():
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("needs root and the command ip (package iproute2) to make two hosts")
    for host in HOSTS:
        subprocess.run(["ip", "netns", "del", host], check=False, capture_output=True)
    try:
        for host in HOSTS:
            ip("netns", "add", host)
        ip("link", "add", "lmt-a", "netns", "lmtrain-a", "type", "veth", "peer", "name", "lmt-b", "netns", "lmtrain-b")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces can be made here: {error.stderr.decode()}")
    for (host, address), link in zip(HOSTS.items(), ("lmt-a", "lmt-b"), strict=True):
        ip("-n", host, "addr", "add", f"{address}/24", "dev", link)
        ip("-n", host, "link", "set", link, "up")
        ip("-n", host, "link", "set", "lo", "up")
    yield list(zip(HOSTS, ("lmt-a", "lmt-b"), strict=True))
    for host in HOSTS:
        ip("netns", "del", host)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    letters = random.Random(6)
    (folder / "train").mkdir()
    for name, size in (("train/a.txt", 2400), ("train/b.txt", 2400), ("valid.txt", 400), ("test.txt", 400)):
        (folder / name).write_text("".join(letters.choices("abcdefgh ABCDEFGH\n", k=size)))
    return folder


def start_on_both(hosts, corpus, folder, caches, *more) -> list[subprocess.Popen]:
    processes = []
    for rank, (host, link) in enumerate(hosts):
        arguments = command(
            corpus, folder, *EXACT, "trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2", *more
        )
        arguments = [*arguments[1:], f"data.cache_dir={caches[rank]}"]
        prefix = [
            "ip",
            "netns",
            "exec",
            host,
            TORCHRUN,
            "--nnodes",
            "2",
            "--node-rank",
            str(rank),
            "--nproc-per-node",
            "1",
        ]
        prefix += ["--master-addr", HOSTS["lmtrain-a"], "--master-port", "29512"]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": link,
            "PYTHONPATH": str(ROOT / "tests"),
        }
        processes.append(
            subprocess.Popen(
                [*prefix, *arguments], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
            )
        )
    return processes


def finish(processes) -> list[str]:
    outputs = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    return outputs


@pytest.mark.parametrize("shared", [True, False], ids=["one cache", "a cache each"])
def test_two_hosts_train_what_one_process_does_and_resume(shared, hosts, corpus, tmp_path):
    assert run(command(corpus, tmp_path / "one", *EXACT))[0] == 0
    caches = [tmp_path / "cache"] * 2 if shared else [tmp_path / "cache-a", tmp_path / "cache-b"]
    make_halt(tmp_path / "run")
    processes = start_on_both(hosts, corpus, tmp_path, caches, halt_at(40))
    with met(tmp_path / "run", processes[0]):
        pids = subprocess.run(["ip", "netns", "pids", "lmtrain-b"], capture_output=True, text=True, check=True).stdout
        for pid in pids.split():  # everything on the second host dies
            os.kill(int(pid), signal.SIGKILL)
        processes[1].communicate()
    processes[0].communicate(timeout=60)
    assert processes[0].returncode != 0
    assert len(read_metrics(tmp_path / "run", "train/loss")) < 240

    outputs = finish(start_on_both(hosts, corpus, tmp_path, caches))

    assert "Going on from" in outputs[0]
    assert_same_figures(tmp_path / "run", tmp_path / "one/run")
