"""Parameters on a GPU, as on the CPU: where there is no GPU its half of these tests is left out, and says so."""

from typing import Any, Callable

import numpy as np
import pytest
import torch

import mfac
import mfac.torch

from .tasks import X, Y, backward, train, weights

Net = Callable[[], torch.nn.Module]
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))
on_each_device = pytest.mark.parametrize("device", ["cpu", GPU])
cross_entropy = torch.nn.functional.cross_entropy


def step(model: torch.nn.Module, device: str, i: int) -> None:
    """Leaves the gradients of mini-batch i."""
    at = torch.arange(32 * i, 32 * i + 32) % len(X)
    model.zero_grad()
    cross_entropy(model(X[at].to(device)), Y[at].to(device)).backward()


@on_each_device
def test_optimizer(client: mfac.Client, name: str, net: Net, device: str) -> None:
    """The weights of the CPU's training, to what float32 sums in another order make of them."""
    options: Any = {"lr": 1e-2, "momentum": 0.9, "client": client, "window": 8, "damping": 1e-2}
    want, model = net(), net().to(device)
    train(want, mfac.torch.MFAC(want.named_parameters(), name=f"{name}-want", **options), range(12))
    optimizer = mfac.torch.MFAC(model.named_parameters(), name=name, **options)
    for i in range(12):
        step(model, device, i)
        optimizer.step()
    assert all(p.device.type == device for p in model.parameters())
    assert torch.allclose(weights(model).cpu(), weights(want), rtol=1e-4, atol=1e-5)
    saved = optimizer.state_dict()
    again = mfac.torch.MFAC(model.named_parameters(), name=name, **options)
    again.load_state_dict(saved)
    step(model, device, 12)
    again.step()
    assert len(client.join(name).steps().steps) == 8 and client.join(name).status()["newest"] == 13


@on_each_device
def test_publisher(client: mfac.Client, name: str, net: Net, device: str) -> None:
    """What is published is what the optimizer gets, each step's, though the next overwrites it."""
    model = net().to(device)
    run = client.attach(name, layout=mfac.torch.layout(model), window=8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    want = []
    with mfac.torch.GradientPublisher(model, run).attach(optimizer):
        for i in range(6):
            step(model, device, i)
            want.append(np.concatenate([np.asarray(p.grad.cpu()).reshape(-1) for p in model.parameters() if p.grad is not None]))
            optimizer.step()
    for number, g in enumerate(want, 1):
        assert run.gradient(number).tobytes() == g.tobytes()


@on_each_device
def test_examples_and_pruning(client: mfac.Client, name: str, net: Net, device: str) -> None:
    model = net().to(device).eval()
    run = client.attach(name, layout=mfac.torch.layout(model), window=32, damping=1e-2)
    batch = (X[:32].to(device), Y[:32].to(device))
    mfac.torch.publish_examples(model, run, [batch], cross_entropy)
    backward(model.cpu(), 0)
    g = np.concatenate([np.asarray(p.grad).reshape(-1) for p in model.parameters()])
    model.to(device)
    mean = np.mean([run.gradient(int(i)) for i in run.steps().steps], axis=0)
    assert np.allclose(mean, g, rtol=1e-4, atol=1e-6)  # the loss of a mini-batch is the mean of its examples'
    assert mfac.torch.influence(model, run, [batch], cross_entropy).scores.shape == (32, 32)
    w = weights(model).cpu().numpy()
    kept = mfac.torch.prune(model, run, 0.5)
    assert all(p.device.type == device for p in model.parameters()) and all(m.device.type == device for m in model.buffers())
    assert sum(int((~m).sum()) for m in kept.values()) == len(w) // 2
    assert torch.isfinite(model(batch[0])).all()
