"""Tensors in the place of arrays, and models of bfloat16."""

from typing import Optional, Tuple

import numpy as np
import pytest
import torch

import mfac
import mfac.torch


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_tensors_are_vectors(run: mfac.Run, dtype: torch.dtype) -> None:
    g = torch.nn.Parameter(torch.linspace(-1, 1, run.dim, dtype=torch.float64).to(dtype))
    run.publish(10, g)
    kept = run.gradient(10)
    assert (torch.from_numpy(kept) == g.detach().float()).all()
    x = run.ihvp(g)
    exact = g.detach().double().numpy()
    assert x.dtype == (np.float64 if dtype == torch.float64 else np.float32)
    assert np.array_equal(x, run.ihvp(exact if dtype == torch.float64 else exact.astype(np.float32)))
    assert np.array_equal(run.precondition(11, g), run.ihvp_step(11))
    two = torch.stack([g, -g]).T.contiguous().T  # rows that don't lie behind each other
    assert np.array_equal(run.ihvp(two)[0], run.ihvp(g))
    pruned = run.prune(g, 0.5)
    assert (pruned == 0).sum() == run.dim // 2


def test_tensors_that_are_none(run: mfac.Run) -> None:
    with pytest.raises(mfac.Invalid, match="must be a real number's"):
        run.publish(10, torch.zeros(run.dim, dtype=torch.complex64))
    with pytest.raises(mfac.Invalid, match="shape"):
        run.publish(10, torch.zeros(2, 3, 4))


def test_a_model_of_bfloat16_loses_nothing_on_a_wire_of_bfloat16(client: mfac.Client, name: str) -> None:
    """Its gradients are of bfloat16 already: half the bytes, the same window and the same weights."""

    def trained(run: str, wire: Optional[str]) -> Tuple[torch.Tensor, mfac.Run]:
        torch.manual_seed(3)
        model = torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3)).to(torch.bfloat16)
        optimizer = mfac.torch.MFAC(model.named_parameters(), 0.05, 0.9, client=client, name=run, window=8, damping=1e-2, wire=wire)
        for step in range(12):
            torch.manual_seed(step)
            x = torch.randn(10, 20).to(torch.bfloat16)
            optimizer.zero_grad()
            model(x).float().square().mean().backward()
            optimizer.step()
        return torch.cat([p.detach().reshape(-1) for p in model.parameters()]), optimizer.run

    (half, a), (whole, b) = trained(name + "-half", "bf16"), trained(name + "-whole", None)
    assert torch.equal(half, whole)
    assert all((a.gradient(s) == b.gradient(s)).all() for s in a.steps().steps.tolist())


def test_a_publisher_with_a_wire_of_bfloat16(client: mfac.Client, name: str) -> None:
    model = torch.nn.Linear(30, 4)
    run = client.attach(name, layout=mfac.torch.layout(model), window=4, damping=1e-2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mfac.torch.GradientPublisher(model, run, wire="bf16").attach(optimizer) as publisher:
        model(torch.randn(8, 30)).square().mean().backward()
        g = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
        optimizer.step()
        publisher.flush()
    assert torch.equal(torch.from_numpy(run.gradient(1)), g.bfloat16().float())
