"""Publish and fetch through Python and its agent, beside the Go client's own rate and beside nats-py: one cluster on this
machine, in turn.

    python3 bench/python/transport.py [d] [times]

Needs the package (pip install ./python), nats-py, and Go. Prints medians in seconds and the ratio Go / Python; 0.85 is aimed at.

nats-py does the least of what a client would: plain requests of the server's largest payload, eight of them under way, which a Go
program acknowledges, or answers with as many bytes. Nothing is checked, staged, stored or multiplied with. "bf16" is sent in half the
bytes (wire="bf16"), from shared memory; its MB are those of the float32 that it was.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nats
import numpy as np

import mfac

ROOT = Path(__file__).resolve().parents[2]
WHO = ("go", "python", "python, shared", "python, bf16", "nats-py")
UNDER_WAY = 8


class NatsPy:
    """The usual client, and at the other end nats.go."""

    def __init__(self, binary: Path, url: str) -> None:
        self.other = subprocess.Popen([binary, "other", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.other.stdout.readline() == "ready\n"
        self.loop = asyncio.new_event_loop()
        self.nc = self.loop.run_until_complete(nats.connect(url))

    def close(self) -> None:
        self.loop.run_until_complete(self.nc.close())
        self.loop.close()
        self.other.stdin.close()
        self.other.wait()

    def _pieces(self, size: int) -> "list[slice]":
        return [slice(lo, min(lo + self.nc.max_payload, size)) for lo in range(0, size, self.nc.max_payload)]

    async def _each(self, ask, pieces: "list[slice]") -> None:
        room = asyncio.Semaphore(UNDER_WAY)

        async def one(piece: slice) -> None:
            async with room:
                await ask(piece)

        await asyncio.gather(*(one(p) for p in pieces))

    def publish(self, g: np.ndarray) -> None:
        data = memoryview(g).cast("B")

        async def ask(piece: slice) -> None:
            await self.nc.request("bench.put", bytes(data[piece]), timeout=60)

        self.loop.run_until_complete(self._each(ask, self._pieces(len(data))))

    def fetch(self, out: np.ndarray) -> None:
        data = memoryview(out).cast("B")

        async def ask(piece: slice) -> None:
            data[piece] = (await self.nc.request("bench.get", b"%d" % (piece.stop - piece.start), timeout=60)).data

        self.loop.run_until_complete(self._each(ask, self._pieces(len(data))))


def timed(f, *args, **kwargs) -> float:
    began = time.perf_counter()
    f(*args, **kwargs)
    return time.perf_counter() - began


def main() -> None:
    d = int(float(sys.argv[1])) if len(sys.argv) > 1 else 25_000_000
    times = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    took = {(who, what): [] for what in ("publish", "fetch") for who in WHO}
    with tempfile.TemporaryDirectory() as folder, mfac.local(workers=2) as client:
        binary = Path(folder) / "go"
        subprocess.run(["go", "build", "-o", binary, "./bench/python"], cwd=ROOT, check=True)
        run = client.attach("transport", dim=d, window=2, damping=1.0)
        go = subprocess.Popen([binary, client.url, "transport", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        usual = NatsPy(binary, client.url)
        g = (np.arange(d) % 1000 / 1000).astype(np.float32)
        shared = client.empty(d)
        shared[:] = g
        for k in range(times + 2):
            go.stdin.write("\n")
            go.stdin.flush()
            row = {("go", what): seconds for what, seconds in json.loads(go.stdout.readline()).items()}
            row["python", "publish"] = timed(run.publish, 4 * k + 2, g)
            began = time.perf_counter()
            x = run.gradient(4 * k + 2)
            row["python", "fetch"] = time.perf_counter() - began
            assert (x[::9973] == g[::9973]).all()
            del x
            row["python, shared", "publish"] = timed(run.publish, 4 * k + 3, shared)
            row["python, shared", "fetch"] = timed(run.gradient, 4 * k + 3, out=shared)
            row["python, bf16", "publish"] = timed(run.publish, 4 * k + 4, shared, wire="bf16")
            row["nats-py", "publish"] = timed(usual.publish, g)
            row["nats-py", "fetch"] = timed(usual.fetch, np.empty_like(g))
            if k >= 2:  # the first ones find the size of chunks
                for key, seconds in row.items():
                    took[key].append(seconds)
        usual.close()
        go.stdin.close()
        go.wait()
    for what in ("publish", "fetch"):
        base = statistics.median(took["go", what])
        for who in WHO:
            if not took[who, what]:
                continue
            m = statistics.median(took[who, what])
            print(f"{what:8} {who:15} {m:.3f} s  {4 * d / m / 1e6:6.0f} MB/s  {base / m:.2f} of Go's rate")


if __name__ == "__main__":
    main()
