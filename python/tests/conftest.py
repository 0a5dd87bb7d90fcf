"""A cluster for the whole session, and what tests need of it."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

import numpy as np
import pytest

import mfac
from mfac._agent import binary_of

ROOT = Path(__file__).resolve().parents[2]

WITHOUT_TORCH = importlib.util.find_spec("torch") is None
collect_ignore = ["with_torch"] if WITHOUT_TORCH else []


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if WITHOUT_TORCH:
        terminalreporter.write_line("tests/with_torch: left out, for torch is not installed; .ci/run torch runs them where it is")


@pytest.fixture(scope="session")
def client() -> Iterator[mfac.Client]:
    with mfac.local(workers=3, memory="512MiB") as c:
        yield c


@pytest.fixture
def run(client: mfac.Client, request: pytest.FixtureRequest) -> Iterator[mfac.Run]:
    """A run with five gradients, steps 1 … 5, in a window of eight."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[:60].strip("-")
    r = client.attach(name, dim=1003, window=8, damping=1e-2)
    r.publish(1, np.random.default_rng(3).normal(size=(5, r.dim)))
    yield r
    client.delete(name)


@pytest.fixture(scope="session")
def vectors() -> Mapping[str, Any]:
    """Real gradients with exact answers: testdata/README.md."""
    with np.load(ROOT / "testdata" / "mnist_mlp16_m32.npz") as f:
        return {k: f[k] for k in f.files}


@pytest.fixture(scope="session")
def tool() -> Callable[..., str]:
    """The tool, as typed."""
    binary = binary_of(None)

    def typed(*args: object) -> str:
        done = subprocess.run([binary, *map(str, args)], check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return typed


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """A Python program as a process of its own."""

    def start(text: str, *args: object, **options: Any) -> "subprocess.Popen[str]":
        file = tmp_path / "script.py"
        file.write_text(text)
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "TMPDIR": str(tmp_path), **options}
        return subprocess.Popen(
            [sys.executable, str(file), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
        )

    return start
