"""The names that examples in doc strings use."""

import importlib
import sys
import warnings
from typing import Any, Dict, Iterator

import numpy as np
import pytest

import mfac


@pytest.fixture(scope="session")
def documented() -> Iterator[Dict[str, Any]]:
    rng = np.random.default_rng(1)
    with mfac.local(workers=2, memory="256MiB") as client:
        yield {"client": client, "rng": rng}


@pytest.fixture(scope="session")
def lightning_modules() -> None:
    """Debian's torch 1.13 can't import its sharded tensors on Debian's Python 3.11, where a LightningModule looks for them."""
    if sys.version_info >= (3, 11) and importlib.import_module("torch").__version__.startswith("1."):
        for name in ("lightning.pytorch", "pytorch_lightning"):
            module: Any = importlib.import_module(name).LightningModule
            module._register_sharded_tensor_state_dict_hooks_if_available = lambda _: None


@pytest.fixture(autouse=True)
def _names(request: pytest.FixtureRequest) -> None:
    if type(request.node).__name__ != "DoctestItem":
        return
    if request.node.name == "mfac.torch.lightning":
        request.getfixturevalue("lightning_modules")
        warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec")  # Lightning's, of torch
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
