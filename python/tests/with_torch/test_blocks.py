"""The optimizer by diagonal blocks."""

from typing import Callable

import pytest
import torch

import mfac
import mfac.torch

from .reference import Reference
from .tasks import weights

Net = Callable[[], torch.nn.Module]

STEPS = 2e-6  # as in test_optim.py: roundings to float32


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_block_a_parameter_is_the_papers_algorithm_of_each(client: mfac.Client, name: str, net: Net, momentum: float) -> None:
    model = net()
    optimizer = mfac.torch.MFAC(model.named_parameters(), 0.1, momentum, client=client, name=name, window=6, damping=1e-2, blocks="tensor")
    assert optimizer.run.spec["blocks"] == "tensor"
    sizes = [p.numel() for p in model.parameters()]
    references = [Reference(w, 0.1, momentum, 0.0, 6, 1e-2) for w in weights(model).split(sizes)]
    whole = Reference(weights(model), 0.1, momentum, 0.0, 6, 1e-2)
    rng = torch.Generator().manual_seed(5)
    for _ in range(14):
        g = torch.randn(sum(sizes), generator=rng)
        for p, part in zip(model.parameters(), g.split(sizes)):
            p.grad = part.view(p.shape).clone()
        optimizer.step()
        want = torch.cat([r.step(part) for r, part in zip(references, g.split(sizes))])
        assert float((weights(model).double() - want).norm() / want.norm()) <= STEPS
        apart = whole.step(g)
    assert float((apart - want).norm() / want.norm()) > 100 * STEPS  # it is not the whole's


def test_blocks_of_a_run_that_is_given(client: mfac.Client, name: str, net: Net) -> None:
    model = net()
    run = mfac.torch.MFAC(model.named_parameters(), client=client, name=name, window=4, blocks=50, across=True).run
    assert run.spec["blocks"] == "50 across"
    assert mfac.torch.MFAC(model.named_parameters(), run=run).run is run
    with pytest.raises(mfac.Invalid, match="given without client, name, divisor, blocks and across"):
        mfac.torch.MFAC(model.named_parameters(), run=run, blocks=50)
