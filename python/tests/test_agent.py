"""The agent's process: it ends with its parent however that dies, is started again, survives forks and threads."""

import multiprocessing
import os
import signal
import stat
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, List, Optional, Set

import numpy as np
import pytest

import mfac
from mfac import _agent

Script = Callable[..., "subprocess.Popen[str]"]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(what: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


STARTS = """
import os, sys, time, mfac
c = mfac.local(workers=1)
run = c.attach("x", dim=10, window=2)
print(c._local.process.pid, c._local.socket, flush=True)
"""


@pytest.mark.parametrize("how", ["kill", "exit", "exception", "forked", "terminate the agent"])
def test_it_ends_with_its_parent(script: Script, how: str, tmp_path: Path) -> None:
    ends = {
        "exit": "sys.exit(0)",
        "exception": "raise SystemError",
        # A child that holds the pipe open, as a DataLoader's worker may.
        "forked": "os.fork() or time.sleep(3)\ntime.sleep(1)\nos.kill(os.getpid(), 9)",
    }
    p = script(STARTS + ends.get(how, "time.sleep(60)"))
    assert p.stdout is not None and p.stderr is not None
    line = p.stdout.readline().split()
    if not line:
        pytest.fail(p.communicate()[1])
    agent, folder = int(line[0]), Path(line[1]).parent
    if how == "terminate the agent":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and stat.S_IMODE(Path(line[1]).stat().st_mode) == 0o600
        os.kill(agent, signal.SIGTERM)
    elif how == "kill":
        p.kill()
    wait_for(lambda: not running(agent) and not folder.exists())
    p.kill()
    p.wait()
    p.stdout.close()
    p.stderr.close()
    assert not [f for f in os.listdir("/dev/shm") if "mfac" in f]
    assert not [f for f in os.listdir(tmp_path) if f != "script.py"]


def test_one_agent_for_many_connections(client: mfac.Client, run: mfac.Run) -> None:
    with mfac.connect(client.url) as a, mfac.connect(client.url) as b:
        assert _agent._shared is not None
        pid = _agent._shared.process.pid
        assert a.join(run.name).dim == b.join(run.name).dim == run.dim
        assert _agent._shared.process.pid == pid


def test_it_is_started_again(client: mfac.Client, run: mfac.Run) -> None:
    v = np.ones(run.dim)
    with mfac.connect(client.url) as other:
        r = other.join(run.name)
        want = r.ihvp(v)
        assert _agent._shared is not None
        folder = Path(_agent._shared.socket).parent
        old = _agent._shared.process
        old.kill()
        old.wait()
        link = other._link
        wait_for(lambda: link is not None and not link.alive)
        assert (r.ihvp(v) == want).all()
        assert _agent._shared.process is not old and not folder.exists()
        # A run that was made anew meanwhile is never taken for the one that was attached to.
        client.delete(run.name)
        client.attach(run.name, dim=run.dim, window=8, damping=1e-2)
        _agent._shared.process.kill()
        _agent._shared.process.wait()
        link = other._link
        wait_for(lambda: link is not None and not link.alive)
        with pytest.raises(mfac.UnknownRun):
            r.ihvp(v)


def test_a_call_in_progress_when_it_dies(client: mfac.Client, run: mfac.Run) -> None:
    with mfac.connect(client.url) as other, ThreadPoolExecutor(1) as pool:
        r = other.join(run.name)
        waiting = pool.submit(r.publish, 100, np.ones(5), columns=0)  # the rest never comes
        time.sleep(0.3)
        assert _agent._shared is not None
        _agent._shared.process.kill()
        with pytest.raises(mfac.AgentDied):
            waiting.result(20)
        assert r.status()["rows"] == 5


def test_training_goes_on(client: mfac.Client) -> None:
    """The recipe of docs/python.md: an agent that is killed again and again loses no step and publishes none twice."""
    G = np.random.default_rng(4).normal(size=(40, 500)).astype(np.float32)
    with mfac.connect(client.url) as other:
        run = other.attach("training", dim=500, window=40, damping=1.0)
        stop = threading.Event()
        killed: Set[int] = set()

        def killer() -> None:
            while len(killed) < 8 and not stop.wait(0.15):
                agent = _agent._shared
                if agent is not None:
                    agent.process.kill()
                    killed.add(agent.process.pid)

        thread = threading.Thread(target=killer)
        thread.start()
        try:
            for k, g in enumerate(G):
                while True:
                    try:
                        run.publish(k + 1, g)
                        break
                    except mfac.AgentDied:  # committed or not
                        continue
                    except mfac.NotGrowing:
                        assert k + 1 in client.join("training").steps().steps
                        break
                time.sleep(0.02)
        finally:
            stop.set()
            thread.join()
    assert len(killed) > 1
    kept = client.join("training")
    assert kept.steps().steps.tolist() == list(range(1, 41)) and kept.status()["version"] == 40
    assert all((kept.gradient(k + 1) == g).all() for k, g in enumerate(G))
    client.delete("training")


def test_a_cluster_that_died_is_gone() -> None:
    with mfac.local(workers=1) as c:
        run = c.attach("x", dim=10, window=2)
        assert c._local is not None
        c._local.process.kill()
        c._local.process.wait()
        link = c._link
        wait_for(lambda: link is not None and not link.alive)
        for _ in range(2):  # never an empty window in its place
            with pytest.raises(mfac.AgentDied, match="make another one"):
                run.ihvp(np.ones(10))


def fake(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mfac"
    file.write_text("#!/bin/sh\n" + text)
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("""echo '{"protocol": 99, "version": "9.9", "socket": "/nowhere/agent.sock"}'; cat""", mfac.VersionMismatch, "protocol 99"),
        ("echo hello; cat", mfac.AgentNotStarted, "no agent's first line"),
        ("echo 'no such command' >&2; exit 2", mfac.AgentNotStarted, "ended with 2: no such command"),
    ],
)
def test_a_binary_that_does_not_fit(tmp_path: Path, text: str, kind: type, says: str) -> None:
    with pytest.raises(mfac.MFACError, match=says) as e:
        mfac.local(binary=fake(tmp_path, text))
    assert type(e.value) is kind


def test_no_binary(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(mfac.AgentNotStarted, match="binary= is /nowhere"):
        mfac.local(binary="/nowhere")
    monkeypatch.setenv("MFAC_BIN", "/nowhere/else")
    with pytest.raises(mfac.AgentNotStarted, match="MFAC_BIN is /nowhere/else"):
        mfac.local()


def test_timeout_and_cancel(run: mfac.Run) -> None:
    half = np.ones(5)
    began = time.monotonic()
    with pytest.raises(mfac.Timeout) as e:
        run.publish(100, half, columns=0, timeout=0.3, step_deadline=1)
    assert time.monotonic() - began < 10 and e.value.code == "timeout" and isinstance(e.value, TimeoutError)

    # Ctrl-C: the call ends, in the agent too, and the run is as it was.
    before = len(run._client._linked()._calls)
    timer = threading.Timer(1.0, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run.publish(101, half, columns=0, step_deadline=3)
    assert len(run._client._linked()._calls) == before
    assert run.publish(102, np.ones(run.dim)).rows == 6


def test_progress(client: mfac.Client) -> None:
    run = client.attach("progress", dim=200_000, window=8)
    run.publish(1, np.random.default_rng(0).normal(size=(8, run.dim)))
    said: List[Any] = []
    where = threading.get_ident()
    run.diag(progress=lambda done, total: said.append((done, total, threading.get_ident())))
    assert said[-1] == (run.dim, run.dim, where)

    class Enough(Exception):
        pass

    def enough(done: int, total: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        run.diag(progress=enough)
    assert run.diag()[0] > 0
    client.delete("progress")


def test_threads(client: mfac.Client, run: mfac.Run) -> None:
    V = np.random.default_rng(0).normal(size=(32, run.dim))
    want = [run.ihvp(v) for v in V]
    with ThreadPoolExecutor(8) as pool:
        for got, x in zip(pool.map(run.ihvp, V), want):
            assert (got == x).all()


def child(run: mfac.Run, v: Any, results: "multiprocessing.Queue[Any]", inherited: Optional[Any] = None) -> None:
    x = run.ihvp(v)
    results.put((x, _agent._shared.process.pid if _agent._shared else None, None if inherited is None else inherited.copy()))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # threads of ours hold no lock that a child takes
@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_other_processes(client: mfac.Client, run: mfac.Run, how: str) -> None:
    v = np.random.default_rng(0).normal(size=run.dim)
    kept = client.empty(1000, np.float64)
    kept[:] = 7.0
    context: Any = multiprocessing.get_context(how)
    results = context.Queue()
    children = [context.Process(target=child, args=(run, v, results, kept if how == "fork" else None)) for _ in range(2)]
    for c in children:
        c.start()
    for _ in range(20):  # the parent goes on meanwhile, with its own agent
        run.ihvp(v)
    got = [results.get(timeout=60) for _ in children]
    for c in children:
        c.join(30)
        assert c.exitcode == 0
    assert all((x == run.ihvp(v)).all() for x, _, _ in got)
    pids = {pid for _, pid, _ in got}
    assert len(pids) == 2 and None not in pids
    wait_for(lambda: not any(running(pid) for pid in pids))  # they have ended with their parents
    if how == "fork":
        assert all((k == 7.0).all() for _, _, k in got)


def test_garbage(client: mfac.Client, run: mfac.Run) -> None:
    with mfac.connect(client.url) as other:
        r = other.join(run.name)
        link = other._linked()
        link._sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        wait_for(lambda: not link.alive)
        assert link._end is not None and link._end.code == "too_large"  # "GET " is no length
        assert r.status()["rows"] == 5  # on a connection that is new


def test_no_descriptor_is_left(client: mfac.Client, run: mfac.Run) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    v = np.ones(run.dim)
    for _ in range(3):
        with mfac.connect(client.url) as other:
            other.join(run.name).ihvp(v)
    before = count()
    for _ in range(10):
        with mfac.connect(client.url) as other:
            other.join(run.name).ihvp(v)
    assert count() <= before + 2
