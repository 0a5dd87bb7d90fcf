"""The memory of the agent's own while gradients of d numbers are published and read back: buffers are the program's.

    python3 bench/python/memory.py [d …]

Needs the package (pip install ./python). Prints MB: the agent's own (RssAnon, the most that was seen) and one gradient.
"""

import sys
import threading
import time
from pathlib import Path

import mfac
from mfac import _agent


def own(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def main() -> None:
    for d in [int(float(a)) for a in sys.argv[1:]] or [1_000_000, 100_000_000]:
        with mfac.local(workers=2) as cluster, mfac.connect(cluster.url) as client:  # of two agents, the second only connects
            pid, most, done = _agent._shared.process.pid, [own(_agent._shared.process.pid)], threading.Event()

            def watch(pid=pid, most=most, done=done) -> None:
                while not done.is_set():
                    most.append(own(pid))
                    time.sleep(0.002)

            watcher = threading.Thread(target=watch)
            watcher.start()
            run = client.attach("memory", dim=d, window=2, damping=1.0)
            g = client.empty(d)
            g[:] = 1.0
            for step in range(1, 5):
                run.publish(step, g)
                run.gradient(step, out=g)
            done.set()
            watcher.join()
            print(f"d = {d:.0e}: the agent's own {most[0]:.0f} MB at rest, {max(most):.0f} MB at most; a gradient {4 * d / 1e6:.0f} MB")
        _agent._shared.stop()


if __name__ == "__main__":
    main()
