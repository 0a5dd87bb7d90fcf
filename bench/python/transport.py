"""Publish and fetch through Python and its agent, beside the Go client's own rate: one cluster on this machine, in turn.

    python3 bench/python/transport.py [d] [times]

Needs the package (pip install ./python) and Go. Prints medians in seconds and the ratio Go / Python; 0.85 is aimed at.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mfac
import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    d = int(float(sys.argv[1])) if len(sys.argv) > 1 else 25_000_000
    times = int(sys.argv[2]) if len(sys.argv) > 2 else 9
    took = {f"{who}, {what}": [] for what in ("publish", "fetch") for who in ("go", "python", "python, shared")}
    with tempfile.TemporaryDirectory() as folder, mfac.local(workers=2) as client:
        binary = Path(folder) / "go"
        subprocess.run(["go", "build", "-o", binary, "./bench/python"], cwd=ROOT, check=True)
        run = client.attach("transport", dim=d, window=2, damping=1.0)
        go = subprocess.Popen([binary, client.url, "transport", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        g = (np.arange(d) % 1000 / 1000).astype(np.float32)
        shared = client.empty(d)
        shared[:] = g
        for k in range(times + 2):
            go.stdin.write("\n")
            go.stdin.flush()
            t = json.loads(go.stdout.readline())
            row = {"go, publish": t["publish"], "go, fetch": t["fetch"]}
            began = time.perf_counter()
            run.publish(3 * k + 2, g)
            row["python, publish"] = time.perf_counter() - began
            began = time.perf_counter()
            x = run.gradient(3 * k + 2)
            row["python, fetch"] = time.perf_counter() - began
            assert (x[::9973] == g[::9973]).all()
            del x
            began = time.perf_counter()
            run.publish(3 * k + 3, shared)
            row["python, shared, publish"] = time.perf_counter() - began
            began = time.perf_counter()
            run.gradient(3 * k + 3, out=shared)
            row["python, shared, fetch"] = time.perf_counter() - began
            if k >= 2:  # the first ones find the size of chunks
                for key, seconds in row.items():
                    took[key].append(seconds)
        go.stdin.close()
        go.wait()
    for what in ("publish", "fetch"):
        base = statistics.median(took[f"go, {what}"])
        for who in ("go", "python", "python, shared"):
            if took[f"{who}, {what}"]:
                m = statistics.median(took[f"{who}, {what}"])
                print(f"{what:8} {who:15} {m:.3f} s  {4 * d / m / 1e6:6.0f} MB/s  {base / m:.2f} of Go's rate")


if __name__ == "__main__":
    main()
