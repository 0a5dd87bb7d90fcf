"""NATS itself dies in the middle of training, killed and started again on its port; and so does the job."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
import torch

import mfac
import mfac.torch

from .tasks import train, weights

Net = Callable[[], torch.nn.Module]
ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = {"nats-server": "github.com/nats-io/nats-server/v2", "coordinator": "./cmd/coordinator", "worker": "./cmd/worker"}
LONGEST = 20.0  # seconds that a step may take which meets a NATS that is away for one


class Cluster:
    """NATS, a coordinator and two workers, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self.running: Dict[str, subprocess.Popen[bytes]] = {}
        self.binaries = {name: self._binary(name) for name in PROGRAMS}
        self.nats()
        common = ["--nats-url", self.url, "--admin-addr", "off"]
        self.start("coordinator", "--name", "c0", "--lease-ttl", "2s", *common)
        for w in ("w0", "w1"):
            self.start("worker", "--worker-id", w, "--memory", "64MiB", *common, name=w)

    def _binary(self, name: str) -> str:
        """MFAC_WORKER and the like name one; else it is built."""
        given = os.environ.get("MFAC_" + name.upper().replace("-", "_"))
        if given:
            path = shutil.which(given)
            assert path, f"no program at {given}"
            return path
        path = str(self.folder / name)
        subprocess.run(["go", "build", "-o", path, PROGRAMS[name]], cwd=ROOT, check=True)
        return path

    def start(self, program: str, *args: str, name: str = "") -> None:
        with open(self.folder / f"{name or program}.log", "ab") as log:
            self.running[name or program] = subprocess.Popen([self.binaries[program], *args], stdout=log, stderr=log)

    def nats(self) -> None:
        self.start("nats-server", "--addr", "127.0.0.1", "--port", str(self.port), "--jetstream", "--store_dir", str(self.folder / "store"))

    def kill(self, name: str) -> None:
        p = self.running.pop(name)
        p.kill()
        p.wait()

    def interrupt(self, seconds: float, after: float = 0.0) -> None:
        """Kills NATS, and starts it again after so many seconds."""
        time.sleep(after)
        self.kill("nats-server")
        time.sleep(seconds)
        self.nats()

    def stop(self) -> None:
        for name in list(self.running):
            self.kill(name)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    c = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield c
    finally:
        c.stop()


@pytest.fixture
def client(cluster: Cluster) -> Iterator[mfac.Client]:
    with mfac.connect(cluster.url, timeout=30) as c:
        end = time.monotonic() + 30
        while len(c.workers()) < 2:
            assert time.monotonic() < end
            time.sleep(0.1)
        yield c


def made(model: torch.nn.Module, client: mfac.Client, name: str, **options: Any) -> mfac.torch.MFAC:
    return mfac.torch.MFAC(model.named_parameters(), 0.02, 0.9, client=client, name=name, window=6, damping=0.01, **options)


def test_nats_dies(cluster: Cluster, client: mfac.Client, name: str, net: Net) -> None:
    """Between steps and during them: these wait until it is there again, and training is what it would have been, bit for bit.
    Rows are replaced all the time."""
    model, other = net(), net()
    longest = 0.0
    threads: List[threading.Thread] = []
    began = time.monotonic()

    def between(i: int) -> None:
        nonlocal longest, began
        longest = max(longest, time.monotonic() - began)
        if i == 8:
            cluster.interrupt(0.0)
        if i in (12, 20):  # some milliseconds later: a step takes a few
            for t in threads:
                t.join()
            threads.append(threading.Thread(target=cluster.interrupt, args=(1.0, 0.0007 * i)))
            threads[-1].start()
        began = time.monotonic()

    optimizer = made(model, client, name)
    try:
        train(model, optimizer, range(40), between)
    finally:
        for t in threads:
            t.join()
    assert len(threads) == 2 and 1.0 < longest < LONGEST
    train(other, made(other, client, f"{name}-undisturbed"), range(40))
    assert weights(model).numpy().tobytes() == weights(other).numpy().tobytes()
    info = optimizer.run.status()
    assert (info["newest"], info["version"], info["rows"]) == (40, 40, 6)  # a version a commit
    assert optimizer.run.steps().steps.tolist() == list(range(35, 41))


def test_nats_dies_beside_a_publisher(cluster: Cluster, client: mfac.Client, name: str, net: Net) -> None:
    """Every gradient is published, once."""
    model, other = net(), net()
    run = client.attach(name, layout=mfac.torch.layout(model), window=64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    threads: List[threading.Thread] = []

    def between(i: int) -> None:
        if i == 10:
            threads.append(threading.Thread(target=cluster.interrupt, args=(1.0,)))
            threads[-1].start()

    began = time.monotonic()
    with mfac.torch.GradientPublisher(model, run).attach(optimizer) as publisher:
        try:
            train(model, optimizer, range(40), between)
        finally:
            for t in threads:
                t.join()
    assert 1.0 < time.monotonic() - began < LONGEST
    assert (publisher.published, publisher.dropped) == (40, 0)
    assert run.steps().steps.tolist() == list(range(1, 41)) and run.status()["version"] == 40
    train(other, torch.optim.SGD(other.parameters(), lr=0.1), range(40))
    assert weights(model).numpy().tobytes() == weights(other).numpy().tobytes()


JOB = """
import os, sys, torch, mfac, mfac.torch
from tests.with_torch.tasks import train, weights

url, name, checkpoint, steps, every = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
torch.manual_seed(7)
model = torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
with mfac.connect(url) as client:
    optimizer = mfac.torch.MFAC(
        model.named_parameters(), 0.02, 0.9, client=client, name=name, window=6, damping=0.01, save_window=True
    )
    first = 0
    if os.path.exists(checkpoint):
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]

    def between(i):
        if (i + 1) % every == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": i + 1}
            torch.save(state, checkpoint + ".new")
            os.replace(checkpoint + ".new", checkpoint)
        print("step", i, flush=True)

    train(model, optimizer, range(first, steps), between)
    torch.save(weights(model), checkpoint + ".weights")
"""


def test_the_job_is_killed(cluster: Cluster, client: mfac.Client, name: str, net: Net, script: Any, tmp_path: Path) -> None:
    """In the middle, twice, by SIGKILL; each time another process goes on from the last checkpoint."""
    checkpoint = tmp_path / "checkpoint.pt"
    tests = {"PYTHONPATH": os.pathsep.join([str(ROOT / "python"), *filter(None, sys.path)])}
    for stop_at in (13, 22, None):  # checkpoints are after 5, 10, 15 … steps
        job = script(JOB, cluster.url, name, checkpoint, 30, 5, **tests)
        assert job.stdout is not None and job.stderr is not None
        seen = []
        for line in job.stdout:
            seen.append(int(line.split()[1]))
            if seen[-1] == stop_at:
                job.kill()
                break
        code = job.wait(60)
        said = job.stderr.read()
        job.stdout.close()
        job.stderr.close()
        assert code == (0 if stop_at is None else -9), said
    assert seen == list(range(20, 30))  # from the second process' last checkpoint on
    model = net()
    train(model, made(model, client, f"{name}-undisturbed"), range(30))
    # Rows lie in other slots, so that float64 sums over them are rounded in another order (docs/torch.md).
    assert torch.allclose(torch.load(f"{checkpoint}.weights"), weights(model), rtol=1e-5, atol=1e-6)
    assert client.join(name).status()["rows"] == 6
