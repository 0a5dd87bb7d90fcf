"""The names that examples in doc strings use."""

from typing import Any, Dict, Iterator

import numpy as np
import pytest

import mfac


@pytest.fixture(scope="session")
def documented() -> Iterator[Dict[str, Any]]:
    rng = np.random.default_rng(1)
    with mfac.local(workers=2, memory="256MiB") as client:
        yield {"client": client, "rng": rng}


@pytest.fixture(autouse=True)
def _names(request: pytest.FixtureRequest) -> None:
    if type(request.node).__name__ != "DoctestItem":
        return
    names: Dict[str, Any] = request.getfixturevalue("documented")
    client = names["client"]
    if "demo" in client.runs():
        client.delete("demo")
    run = client.attach("demo", dim=1000, window=64, damping=1e-4)
    run.publish(0, names["rng"].normal(size=(8, 1000)))
    v = names["rng"].normal(size=1000).astype(np.float32)
    name = request.node.name.rsplit(".", 1)[-1]
    if name not in ("publish", "precondition"):
        run.publish(100, np.ones(1000))
        run.publish(101, -np.ones(1000))
    request.node.dtest.globs.update(mfac=mfac, np=np, client=client, run=run, v=v)
