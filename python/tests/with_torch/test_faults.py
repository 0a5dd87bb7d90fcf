"""The agent or a worker dies in the middle of training."""

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

import pytest
import torch

import mfac
import mfac.torch
from mfac import _agent
from mfac._agent import binary_of

from .tasks import train, weights

Net = Callable[[], torch.nn.Module]
ROOT = Path(__file__).resolve().parents[3]


def made(model: torch.nn.Module, client: mfac.Client, name: str, window: int = 6, **options: Any) -> mfac.torch.MFAC:
    return mfac.torch.MFAC(model.named_parameters(), 0.02, 0.9, client=client, name=name, window=window, damping=0.01, **options)


def kill_agent() -> None:
    assert _agent._shared is not None
    _agent._shared.process.kill()
    _agent._shared.process.wait()


def test_the_agent_dies_between_steps(client: mfac.Client, name: str, net: Net) -> None:
    """Training goes on with another one, and is what it would have been, bit for bit."""
    model, other = net(), net()
    with mfac.connect(client.url) as mine:
        train(model, made(model, mine, name), range(15), lambda i: kill_agent() if i % 4 == 2 else None)
    train(other, made(other, client, f"{name}-undisturbed"), range(15))
    assert weights(model).numpy().tobytes() == weights(other).numpy().tobytes()
    assert client.join(name).status()["newest"] == 15


def test_the_agent_dies_during_steps(client: mfac.Client, name: str, net: Net) -> None:
    """Whenever: whether the step was committed is found out, and no gradient is in the window twice."""
    model, other = net(), net()
    timers = []

    def soon(i: int) -> None:
        """Kills it in the next step or later, some tenths of milliseconds later each time: a step takes a few."""
        if i % 4 == 1 and _agent._shared is not None:
            timers.append(threading.Timer(0.0003 * i, _agent._shared.process.kill))
            timers[-1].start()

    with mfac.connect(client.url) as mine:
        # Rows are replaced all the time: what a dead agent had open of them is closed by the next one.
        began = time.monotonic()
        train(model, made(model, mine, name), range(40), soon)
        assert time.monotonic() - began < 25  # else they would be held for half a minute
        for t in timers:
            t.join()
    assert len(timers) == 10
    train(other, made(other, client, f"{name}-undisturbed"), range(40))
    assert weights(model).numpy().tobytes() == weights(other).numpy().tobytes()
    assert client.join(name).status()["newest"] == 40


def test_the_publishers_agent_dies(client: mfac.Client, name: str, net: Net) -> None:
    model = net()
    run = client.attach(name, layout=mfac.torch.layout(model), window=64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mfac.connect(client.url) as mine:
        with mfac.torch.GradientPublisher(model, mine.join(name)).attach(optimizer) as publisher:
            train(model, optimizer, range(40), lambda i: kill_agent() if i % 15 == 7 else None)
        assert publisher.published == 40
    assert run.steps().steps.tolist() == list(range(1, 41))


def test_a_commit_whose_reply_was_lost(client: mfac.Client, name: str, net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient is in the window, and nobody heard of it: it is found there, and not published again."""
    model, other = net(), net()
    optimizer = made(model, client, name)
    precondition = mfac.Run.precondition
    lost = [0]

    def sometimes(run: mfac.Run, step: int, *args: Any, **options: Any) -> Any:
        result = precondition(run, step, *args, **options)
        if step % 3 == 0:
            lost[0] += 1
            raise mfac.Timeout("no answer") if step == 6 else mfac.AgentDied("the agent has gone")
        return result

    def always(run: mfac.Run, *args: Any, **options: Any) -> None:
        precondition(run, *args, **options)
        raise mfac.Timeout("no answer")

    monkeypatch.setattr(mfac.Run, "precondition", sometimes)
    train(model, optimizer, range(5))
    with pytest.raises(mfac.Timeout):  # given to the program, which gives the same gradient again
        train(model, optimizer, range(5, 6))
    train(model, optimizer, range(5, 12))
    assert lost == [4]
    monkeypatch.undo()
    train(other, made(other, client, f"{name}-undisturbed"), range(12))
    assert weights(model).numpy().tobytes() == weights(other).numpy().tobytes()
    # Where the program goes on with another gradient, the first one counts as published.
    monkeypatch.setattr(mfac.Run, "precondition", always)
    with pytest.raises(mfac.Timeout):
        train(model, optimizer, range(12, 13))
    monkeypatch.undo()
    train(model, optimizer, range(13, 15))
    assert optimizer.run.status()["newest"] == 15


def test_the_agent_dies_while_it_is_found_out(client: mfac.Client, name: str, net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit was not heard of, and each question whether it happened is lost once too: it isn't published again."""
    model, other = net(), net()
    optimizer = made(model, client, name)
    lost: List[str] = []

    def once(what: str, heard: bool) -> None:
        """The first call of each kind in a step ends with an error, after it was carried out or before."""
        call = getattr(mfac.Run, what)

        def losing(run: mfac.Run, *args: Any, **options: Any) -> Any:
            first = what not in lost
            if first and not heard:
                lost.append(what)
                raise mfac.AgentDied("the agent has gone")
            result = call(run, *args, **options)
            if first:
                lost.append(what)
                raise mfac.AgentDied("the agent has gone")
            return result

        monkeypatch.setattr(mfac.Run, what, losing)

    once("precondition", True)
    for what in ("status", "gradient", "ihvp_step"):
        once(what, False)
    for i in range(8):
        lost.clear()
        train(model, optimizer, range(i, i + 1))
        assert lost == ["precondition", "status", "gradient", "ihvp_step"]
    monkeypatch.undo()
    assert optimizer.run.status()["newest"] == 8
    train(other, made(other, client, f"{name}-undisturbed"), range(8))
    assert weights(model).numpy().tobytes() == weights(other).numpy().tobytes()


def test_a_result_that_is_refused(client: mfac.Client, name: str, net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient is in the window all the same: the next step counts it, and is not taken for a loss."""
    model = net()
    optimizer = made(model, client, name)
    train(model, optimizer, range(3))
    precondition = mfac.Run.precondition

    def refused(run: mfac.Run, *args: Any, info: mfac.Answer, **options: Any) -> None:
        precondition(run, *args, info=info, **options)
        e = mfac.IllConditioned("the bound is above the limit")
        e.committed_version = info.version
        raise e

    monkeypatch.setattr(mfac.Run, "precondition", refused)
    before = weights(model)
    with pytest.raises(mfac.IllConditioned):
        train(model, optimizer, range(3, 4))
    assert (weights(model) == before).all()
    monkeypatch.undo()
    train(model, optimizer, range(4, 6))
    assert optimizer.run.steps().steps.tolist() == [1, 2, 3, 4, 5, 6]


def test_a_cluster_that_died(net: Net) -> None:
    """mfac.local's dies with its agent: an error at once."""
    model = net()
    with mfac.local(workers=1, memory="64MiB") as client:
        optimizer = made(model, client, "x")
        train(model, optimizer, range(3))
        before = weights(model)
        assert client._local is not None
        client._local.process.kill()
        client._local.process.wait()
        began = time.monotonic()
        with pytest.raises(mfac.AgentDied):
            train(model, optimizer, range(3, 4))
        assert time.monotonic() - began < 10 and (weights(model) == before).all()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Tuple[str, Callable[[], "subprocess.Popen[bytes]"]]]:
    """NATS, a coordinator and one worker in a process, and how to start another worker in one of its own, always under the same name."""
    worker = os.environ.get("MFAC_WORKER") or str(tmp_path / "worker")
    if not shutil.which(worker):
        subprocess.run(["go", "build", "-o", worker, "./cmd/worker"], cwd=ROOT, check=True)
    up = subprocess.Popen(
        [binary_of(None), "up", "--workers", "1", "--port", "0", "--memory", "64MiB"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert up.stdout is not None
    url = ""
    while "nats://" not in url:
        url = up.stdout.readline()
        assert url, "mfac up has ended"
    url = "nats://" + url.split("nats://")[1].split()[0].rstrip(".,:;")
    started: List[subprocess.Popen[Any]] = [up]

    def start() -> "subprocess.Popen[bytes]":
        p = subprocess.Popen(
            [worker, "--worker-id", "second", "--memory", "64MiB", "--nats-url", url, "--admin-addr", "off"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        started.append(p)
        return p

    try:
        yield url, start
    finally:
        for p in started[::-1]:
            p.kill()
            p.wait()
        up.stdout.close()


@pytest.mark.parametrize("on_loss", ["raise", "warmup"])
def test_a_worker_dies(cluster: Any, net: Net, on_loss: str) -> None:
    url, start = cluster
    worker = start()
    model = net()
    with mfac.connect(url) as client:
        end = time.monotonic() + 30
        while len(client.workers()) < 2:
            assert time.monotonic() < end
            time.sleep(0.1)
        optimizer = made(model, client, "x", on_loss=on_loss, warmup_rows=3 if on_loss == "warmup" else 0)
        train(model, optimizer, range(8))
        worker.kill()
        worker.wait()
        start()
        before = weights(model)
        if on_loss == "raise":  # never g/λ
            with pytest.raises(mfac.torch.WindowLost, match="has 1 gradients, must have 6"):
                train(model, optimizer, range(8, 9))
            assert (weights(model) == before).all()
            optimizer.accept_window()
        train(model, optimizer, range(9, 12))
        info = optimizer.run.status()
        assert 3 <= info["rows"] <= 4 and info["newest"] >= 11
        assert not (weights(model) == before).all() and bool(torch.isfinite(weights(model)).all())
