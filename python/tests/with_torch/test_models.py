"""Pruning, and gradients of single examples."""

from pathlib import Path
from typing import Any, Callable, List, Mapping, Tuple

import numpy as np
import pytest
import torch
from torch.nn.utils import prune as torch_prune

import mfac
import mfac.torch

from .tasks import X, Y, weights

Net = Callable[[], torch.nn.Module]
cross_entropy = torch.nn.functional.cross_entropy


def digits(vectors: Mapping[str, Any]) -> torch.nn.Module:
    """The network of testdata, 784-16-10, whose order is weight, bias, weight, bias."""
    model = torch.nn.Sequential(torch.nn.Linear(784, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
    torch.nn.utils.vector_to_parameters(torch.from_numpy(vectors["weights"].copy()), model.parameters())
    return model


@pytest.fixture
def mnist(client: mfac.Client, name: str, vectors: Mapping[str, Any]) -> mfac.Run:
    run = client.attach(name, layout=mfac.torch.layout(digits(vectors)), window=32, damping=0.01)
    run.publish(1, vectors["grads"])
    return run


@pytest.mark.parametrize("rule", ["summed", "joint"])
def test_bytes_of_the_tool(
    client: mfac.Client, mnist: mfac.Run, vectors: Mapping[str, Any], tool: Callable[..., str], tmp_path: Path, rule: str
) -> None:
    model = digits(vectors)
    kept = mfac.torch.prune(model, mnist, 0.9, rule=rule)
    np.save(tmp_path / "w.npy", vectors["weights"])
    tool("prune", mnist.name, tmp_path / "w.npy", "--sparsity", 0.9, "--rule", rule, "-o", tmp_path / "out.npy", "--server", client.url)
    want = np.load(tmp_path / "out.npy")
    names = list(mfac.torch.layout(digits(vectors)))
    masked = {n: m for n, m in model.named_buffers()}
    at = 0
    for n in names:
        module, leaf = model.get_submodule(n.split(".")[0]), n.split(".")[1]
        assert leaf not in module._parameters  # it is weight_orig now, and weight = weight_orig · mask
        got = getattr(module, leaf).detach().numpy()
        assert got.tobytes() == want[at : at + got.size].tobytes()
        assert (masked[f"{n}_mask"].bool() == kept[n]).all() and (kept[n].numpy().reshape(-1) == (want[at : at + got.size] != 0)).all()
        at += got.size
    assert sum(int((~m).sum()) for m in kept.values()) == int(0.9 * 12730)


def test_pruning_in_stages(mnist: mfac.Run, vectors: Mapping[str, Any]) -> None:
    """What is pruned stays so: in training between, and at the next stage."""
    model: Any = digits(vectors)
    chosen = ["0.weight", "2.weight"]
    biases = model[2].bias.detach().clone()
    first = mfac.torch.prune(model, mnist, 0.5, only=chosen)
    assert (model[2].bias == biases).all() and first["2.bias"].all()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        cross_entropy(model(torch.rand(8, 784)), torch.arange(8)).backward()
        optimizer.step()
    second = mfac.torch.prune(model, mnist, 0.8, only=lambda n, _: n.endswith("weight"))
    for n in chosen:
        assert not (second[n] & ~first[n]).any()
        module: Any = model.get_submodule(n[0])
        assert (module.weight[~second[n]] == 0).all()
        torch_prune.remove(module, "weight")
    assert sum(int((~m).sum()) for m in second.values()) == int(0.8 * 12730)
    assert set(mfac.torch.layout(model)) == set(mfac.torch.layout(digits(vectors)))
    plain = digits(vectors)
    mfac.torch.prune(plain, mnist, 0.5, masks=False)
    assert not torch_prune.is_pruned(plain) and int((weights(plain) == 0).sum()) >= int(0.5 * 12730)
    with pytest.raises(mfac.Invalid, match=r"only is 1\.weight"):
        mfac.torch.prune(plain, mnist, 0.5, only=["1.weight"])
    before = weights(plain)
    with pytest.raises(mfac.Invalid):
        mfac.torch.prune(plain, mnist, 1.0)
    assert (weights(plain) == before).all()


def one_by_one(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    rows: List[torch.Tensor] = []
    for i in range(len(x)):
        model.zero_grad()
        cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        rows.append(torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None]))
    model.zero_grad()
    return torch.stack(rows)


def test_per_sample_gradients(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Sequential(net(), torch.nn.BatchNorm1d(3)).eval()
    want = one_by_one(model, X[:20], Y[:20])
    for p in model.parameters():
        p.grad = None
    got = mfac.torch.per_sample_gradients(model, cross_entropy, X[:20], Y[:20])
    assert torch.allclose(got, want, rtol=1e-4, atol=1e-6)  # sums in another order, float32
    assert all(p.grad is None for p in model.parameters())
    monkeypatch.setattr("mfac.torch._influence._AT_ONCE", 4 * got.shape[1] * 3)
    assert torch.allclose(mfac.torch.per_sample_gradients(model, cross_entropy, X[:20], Y[:20]), want, rtol=1e-4, atol=1e-6)
    monkeypatch.setattr("mfac.torch._influence._MAPPED", False)  # as torch before 2.0
    assert torch.allclose(mfac.torch.per_sample_gradients(model, cross_entropy, X[:20], Y[:20]), want, rtol=1e-4, atol=1e-6)


def batches(lo: int, hi: int) -> List[Tuple[torch.Tensor, torch.Tensor]]:
    return [(X[i : i + 10], Y[i : i + 10]) for i in range(lo, hi, 10)]


def test_influence(client: mfac.Client, name: str, net: Net) -> None:
    """Against dense algebra."""
    model = net().eval()
    run = client.attach(name, layout=mfac.torch.layout(model), window=40, damping=0.05)
    steps = mfac.torch.publish_examples(model, run, batches(0, 50), cross_entropy)
    assert steps.tolist() == list(range(1, 51))
    got = mfac.torch.influence(model, run, batches(100, 130), cross_entropy)
    assert got.steps.tolist() == list(range(11, 51)) and got.scores.shape == (30, 40)
    G = one_by_one(model, X[10:50], Y[10:50]).double().numpy()
    V = one_by_one(model, X[100:130], Y[100:130]).double().numpy()
    H = G.T @ G / 40 + 0.05 * np.eye(run.dim)
    want = V @ np.linalg.solve(H, G.T)
    assert np.allclose(got.scores, want, rtol=1e-3, atol=1e-5 * np.abs(want).max())  # of gradients in float32
    assert np.allclose(mfac.torch.influence(model, run, batches(100, 130), cross_entropy, damping=0.5).scores,
                       V @ np.linalg.solve(H + 0.45 * np.eye(run.dim), G.T), rtol=1e-3, atol=1e-5 * np.abs(want).max())  # fmt: skip
    assert mfac.torch.influence(model, run, [], cross_entropy).scores.shape == (0, 0)
