"""A notebook: a real kernel, whose cells are run as a front end does."""

import os
import signal
import time
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from jupyter_client.manager import KernelManager

from .test_agent import running, wait_for

pytestmark = pytest.mark.filterwarnings("ignore:::jupyter_client", "ignore:::zmq")

BEGIN = """
import numpy as np, mfac
client = mfac.local(workers=2)
run = client.attach("notebook", dim=1000, window=4, damping=1e-2)
run.publish(1, np.eye(3, 1000))
print(client._local.process.pid)
"""
WAIT = 'print("waits", flush=True); run.publish(9, np.ones(500), columns=0, timeout=60)'  # for the other half, which never comes


class Notebook:
    def __init__(self, folder: Path) -> None:
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder), env={**os.environ, "IPYTHONDIR": str(folder)})
        self.client: Any = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def send(self, cell: str) -> str:
        return str(self.client.execute(cell))

    def heard(self, cell: str, until: str = "") -> List[str]:
        """What a cell has printed when it ends, or as soon as it has printed so; the name of an error at the end."""
        said: List[str] = []
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                said.append(content["text"])
                if until and until in content["text"]:
                    return said
            elif kind == "error":
                said.append(content["ename"])
            elif kind == "status" and content["execution_state"] == "idle":
                return said

    def run(self, cell: str) -> List[str]:
        return self.heard(self.send(cell))


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Notebook]:
    n = Notebook(tmp_path)
    yield n
    n.client.stop_channels()
    n.manager.shutdown_kernel(now=True)


def test_cells(notebook: Notebook) -> None:
    """Cells go on with what others made; an interrupted step can be given again; the cluster ends with its kernel, however that ends."""
    agent = int(notebook.run(BEGIN)[-1])
    assert notebook.run("print(round(float(run.ihvp(np.ones(1000))[999]), 6))") == ["100.0\n"]
    cell = notebook.send(WAIT)
    notebook.heard(cell, until="waits")
    time.sleep(0.5)  # until it does
    began = time.monotonic()
    notebook.manager.interrupt_kernel()
    assert notebook.heard(cell)[-1] == "KeyboardInterrupt" and time.monotonic() - began < 20
    assert notebook.run("print(run.publish(9, np.ones(1000)).rows)") == ["4\n"]
    assert running(agent)
    os.kill(int(notebook.run("import os; print(os.getpid())")[-1]), signal.SIGKILL)
    wait_for(lambda: not running(agent))


def test_restarted(notebook: Notebook) -> None:
    """A kernel that is restarted has a cluster of its own."""
    first = int(notebook.run(BEGIN)[-1])
    notebook.manager.restart_kernel(now=False)
    notebook.client.wait_for_ready(timeout=60)
    second = int(notebook.run(BEGIN)[-1])
    assert second != first and running(second)
    wait_for(lambda: not running(first))
