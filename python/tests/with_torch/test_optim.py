"""The optimizer: its numbers, its options, what it refuses."""

from typing import Any, Callable, Tuple

import numpy as np
import pytest
import torch

import mfac
import mfac.torch

from .reference import Reference
from .tasks import backward, train, weights

Net = Callable[[], torch.nn.Module]

# Relative 2-norm: a gradient, H⁻¹g and each sum of a step are rounded to float32 (6e-8 each), some tens of times.
STEPS = 2e-6
# In training the gradients themselves depend on the weights, in float32.
TRAINED = 1e-4


def off(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.double() - want).norm() / want.norm())


@pytest.mark.parametrize(("momentum", "decay", "damping"), [(0.0, 0.0, 1e-2), (0.9, 0.0, 1e-3), (0.9, 0.05, 1e-2), (0.5, 0.0, 1e-5)])
def test_the_papers_algorithm(client: mfac.Client, name: str, net: Net, momentum: float, decay: float, damping: float) -> None:
    """The same gradients to both: three times the window's length, so that old ones leave it."""
    model = net()
    optimizer = mfac.torch.MFAC(model.named_parameters(), 0.1, momentum, decay, client=client, name=name, window=8, damping=damping)
    reference = Reference(weights(model), 0.1, momentum, decay, 8, damping)
    start = reference.w
    rng = torch.Generator().manual_seed(5)
    for _ in range(24):
        g = torch.randn(len(start), generator=rng) * torch.rand(1, generator=rng)
        at = 0
        for p in model.parameters():
            p.grad = g[at : at + p.numel()].view(p.shape)
            at += p.numel()
        optimizer.step()
        want = reference.step(g)
        assert off(weights(model), want) <= STEPS
    assert float((reference.w - start).norm()) > 0.1 * float(start.norm())
    assert off(weights(model) - start.float(), reference.w - start) <= 10 * STEPS  # the way alone, which is shorter than the weights


def test_training_as_the_paper(client: mfac.Client, name: str, net: Net) -> None:
    model, other = net(), net()
    optimizer = mfac.torch.MFAC(model.named_parameters(), 0.02, 0.9, client=client, name=name, window=16, damping=1e-2)
    reference = Reference(weights(other), 0.02, 0.9, 0.0, 16, 1e-2)
    first = backward(model, 0)
    for i in range(40):
        last = backward(model, i)
        optimizer.step()
        backward(other, i)
        w = reference.step(torch.cat([p.grad.reshape(-1) for p in other.parameters() if p.grad is not None])).float()
        torch.nn.utils.vector_to_parameters(w, other.parameters())
    assert off(weights(model), reference.w) <= TRAINED
    assert last < 0.8 * first


def test_the_step_is_the_runs(client: mfac.Client, name: str, net: Net) -> None:
    """Byte for byte what run.precondition gives, at rate 1 from zero."""
    model = net()
    optimizer = mfac.torch.MFAC(model.named_parameters(), lr=1.0, client=client, name=name, window=4, damping=0.5)
    backward(model, 0)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    optimizer.step()
    assert (-weights(model)).numpy().tobytes() == optimizer.run.ihvp_step(1).tobytes()
    assert optimizer.run.layout() == mfac.torch.layout(model)


def test_groups_and_schedulers(client: mfac.Client, name: str, net: Net) -> None:
    """Rates and decay of groups, a schedule, and groups in another order than the layout's: as worked out from the run's answers."""
    model = net()
    run = client.attach(name, layout=mfac.torch.layout(model), window=8, damping=0.1)
    named = dict(model.named_parameters())
    biases = [(n, p) for n, p in named.items() if "bias" in n]
    rest = [(n, p) for n, p in named.items() if "bias" not in n]
    optimizer = mfac.torch.MFAC([{"params": biases, "lr": 0.3}, {"params": rest, "weight_decay": 0.1, "decoupled": True}], lr=0.05, run=run)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    for i in range(5):
        before = {n: p.detach().clone() for n, p in named.items()}
        train(model, optimizer, range(i, i + 1))
        x, at = torch.from_numpy(run.ihvp_step(i + 1)), 0
        for n, p in named.items():
            rate = (0.3 if "bias" in n else 0.05) * 0.5 ** (i // 2)
            want = before[n] if "bias" in n else before[n] * (1 - rate * 0.1)
            assert torch.allclose(p, want - rate * x[at : at + p.numel()].view(p.shape), rtol=1e-6, atol=1e-7)
            at += p.numel()
        scheduler.step()
    with pytest.raises(mfac.Invalid) as e:
        optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(2))]})
    assert e.value.field == "parameter groups"


def test_warmup_is_plain_momentum(client: mfac.Client, name: str, net: Net) -> None:
    model, other = net(), net()
    optimizer = mfac.torch.MFAC(
        model.named_parameters(), 0.1, 0.9, client=client, name=name, window=8, damping=0.1, warmup_rows=4, warmup_factor=2.0
    )
    # v ← μv + (1 − μ)g is torch's SGD with dampening 1 − (1 − μ), but for the first step, where it takes g.
    v = torch.zeros_like(weights(other))
    for i in range(3):
        train(model, optimizer, range(i, i + 1))
        backward(other, i)
        g = torch.cat([p.grad.reshape(-1) for p in other.parameters() if p.grad is not None])
        v = 0.9 * v + 0.1 * g
        torch.nn.utils.vector_to_parameters(weights(other) - 0.2 * v, other.parameters())
        assert torch.allclose(weights(model), weights(other), rtol=1e-6, atol=1e-7)
    before = weights(model)
    train(model, optimizer, range(3, 4))  # the fourth: v begins anew
    x = torch.from_numpy(optimizer.run.ihvp_step(4))
    assert torch.allclose(weights(model), before - 0.1 * 0.1 * x, rtol=1e-6, atol=1e-7)
    assert optimizer.run.status()["rows"] == 4


def test_max_step_norm(client: mfac.Client, name: str, net: Net) -> None:
    model = net()
    optimizer = mfac.torch.MFAC(model.named_parameters(), 1e6, client=client, name=name, window=4, damping=1e-3, max_step_norm=0.25)
    for i in range(3):
        before = weights(model).double()
        train(model, optimizer, range(i, i + 1))
        assert abs(float((weights(model).double() - before).norm()) - 0.25) <= 1e-6


def test_no_gradients_and_sparse_ones(client: mfac.Client, name: str) -> None:
    torch.manual_seed(0)
    table, unused = torch.nn.Embedding(10, 4, sparse=True), torch.nn.Parameter(torch.ones(3))
    optimizer = mfac.torch.MFAC([*table.parameters(), unused], lr=0.1, client=client, name=name, window=4, damping=0.1)
    optimizer.step()  # no gradient at all: nothing is published
    assert optimizer.run.status()["rows"] == 0
    table(torch.tensor([1, 7, 7])).square().sum().backward()
    assert table.weight.grad is not None and table.weight.grad.is_sparse
    optimizer.step()
    g = optimizer.run.gradient(1)
    assert (g[:40].reshape(10, 4) == table.weight.grad.to_dense().numpy()).all() and (g[40:] == 0).all()
    assert (unused == 1).all()
    assert optimizer.run.layout() is None


def test_closures(client: mfac.Client, name: str, net: Net) -> None:
    model = net()
    optimizer = mfac.torch.MFAC(model.named_parameters(), 0.01, client=client, name=name, window=4, damping=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(torch.ones(1, 20)).square().sum()
        loss.backward()
        return loss

    with torch.no_grad():  # as some loops do; the closure has gradients all the same
        first = optimizer.step(closure)
    assert optimizer.step(closure) < first and optimizer.run.status()["rows"] == 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes_of_parameters(client: mfac.Client, name: str, dtype: torch.dtype) -> None:
    p = torch.nn.Parameter(torch.linspace(1, 2, 50, dtype=dtype))
    optimizer = mfac.torch.MFAC([p], 1.0, 0.9, client=client, name=name, window=4, damping=1.0, wire="bf16")
    for _ in range(2):
        p.grad = torch.full_like(p, 0.5)
        optimizer.step()
    assert p.dtype == dtype and (p < torch.linspace(1, 2, 50, dtype=dtype)).all()
    assert optimizer.state[p]["momentum_buffer"].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    again = torch.nn.Parameter(p.detach().clone())
    other = mfac.torch.MFAC([again], 1.0, 0.9, run=optimizer.run)
    other.load_state_dict(optimizer.state_dict())
    assert (other.state[again]["momentum_buffer"] == optimizer.state[p]["momentum_buffer"]).all()
    with pytest.raises(mfac.Invalid, match="must be a real number's"):
        mfac.torch.MFAC([torch.nn.Parameter(torch.zeros(3, dtype=torch.complex64))], client=client, name=name + "-c")


def test_a_gradient_that_is_not_finite(client: mfac.Client, name: str, net: Net) -> None:
    model = net()
    optimizer = mfac.torch.MFAC(model.named_parameters(), 0.01, client=client, name=name, window=4, damping=0.1)
    train(model, optimizer, range(2))
    before = weights(model)
    backward(model, 2)
    p = next(model.parameters())
    assert p.grad is not None
    p.grad[0, 0] = float("inf")
    with pytest.raises(mfac.NotFinite):
        optimizer.step()
    assert (weights(model) == before).all() and optimizer.run.status()["rows"] == 2
    train(model, optimizer, range(3, 4))
    assert optimizer.run.steps().steps.tolist() == [1, 2, 3]


def test_grad_scaler(client: mfac.Client, name: str, net: Net) -> None:
    """Steps that the scaler skips are not published, and gradients are not scaled."""
    model = net()
    optimizer = mfac.torch.MFAC(model.named_parameters(), 0.01, client=client, name=name, window=8, damping=0.1)
    scaler = cpu_scaler()
    for i in range(4):
        backward(model, i)
        clean = weights_of_gradients(model)
        for p in model.parameters():
            assert p.grad is not None
            p.grad *= 1024.0 if i != 2 else float("inf")
        before = weights(model)
        scaler.scale(torch.ones(1))
        scaler.step(optimizer)
        scaler.update(1024.0)
        assert (weights(model) == before).all() == (i == 2)
        if i != 2:
            assert np.allclose(optimizer.run.gradient(optimizer.run.status()["newest"]), clean, rtol=1e-6)
    assert optimizer.run.steps().steps.tolist() == [1, 2, 3]


def weights_of_gradients(model: torch.nn.Module) -> Any:
    return torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None]).numpy().copy()


def cpu_scaler() -> Any:
    """Torch's own where it has one for the CPU (2.3), else what it does in two lines."""
    if hasattr(torch, "amp") and hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cpu", init_scale=1024.0)

    class Scaler:
        def scale(self, x: torch.Tensor) -> torch.Tensor:
            return x * 1024.0

        def step(self, optimizer: Any) -> None:
            grads = [p.grad.mul_(1 / 1024.0) for g in optimizer.param_groups for p in g["params"]]
            if all(bool(torch.isfinite(g).all()) for g in grads):
                optimizer.step()

        def update(self, _: float) -> None:
            pass

    return Scaler()


def test_a_run_that_has_gradients(client: mfac.Client, name: str, net: Net) -> None:
    run = client.attach(name, layout=mfac.torch.layout(net()), window=4, damping=0.1)
    run.publish(5, np.ones(run.dim))
    model = net()
    optimizer = mfac.torch.MFAC(model.named_parameters(), 0.01, run=run)
    with pytest.raises(mfac.torch.WindowLost, match="has 1 gradients already") as e:
        train(model, optimizer, range(1))
    assert isinstance(e.value, mfac.MFACError) and e.value.code == "window_lost"
    assert (weights(model) == weights(net())).all() and run.status()["rows"] == 1
    train(model, mfac.torch.MFAC(model.named_parameters(), 0.01, run=run, adopt=True), range(1))
    assert run.steps().steps.tolist() == [5, 6]


def test_another_publisher(client: mfac.Client, name: str, net: Net) -> None:
    model = net()
    optimizer = mfac.torch.MFAC(model.named_parameters(), 0.01, client=client, name=name, window=4, damping=0.1)
    train(model, optimizer, range(2))
    optimizer.run.publish(7, np.ones(optimizer.run.dim))
    before = weights(model)
    with pytest.raises(mfac.NotGrowing, match="another publisher"):
        train(model, optimizer, range(1))
    assert (weights(model) == before).all()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"lr": -1.0}, "lr"), ({"momentum": 1.0}, "momentum"), ({"weight_decay": float("nan")}, "weight_decay"),
        ({"on_loss": "hope"}, "on_loss"), ({"on_loss": "warmup"}, "warmup_rows"), ({"warmup_rows": 5}, "warmup_rows"),
        ({"warmup_factor": 0.0}, "warmup_factor"), ({"max_step_norm": 0.0}, "max_step_norm"), ({"window": 9}, "window"),
        ({"name": "x"}, "run"), ({"run": None}, "run"),
    ],
)  # fmt: skip
def test_options_out_of_range(client: mfac.Client, name: str, net: Net, options: Any, field: str) -> None:
    run = client.attach(name, layout=mfac.torch.layout(net()), window=4)
    with pytest.raises(mfac.Invalid) as e:
        mfac.torch.MFAC(net().named_parameters(), **{"run": run, **options})
    assert e.value.field == field


def test_parameters_that_are_not_the_runs(client: mfac.Client, name: str, net: Net) -> None:
    run = client.attach(name, layout=mfac.torch.layout(net()), window=4)
    with pytest.raises(mfac.Invalid, match="must be 387, the run's dim"):
        mfac.torch.MFAC(torch.nn.Linear(2, 2).parameters(), run=run)
    with pytest.raises(mfac.Invalid, match=r"shapes of parameters is .*, must be .* the run's; or give named parameters"):
        mfac.torch.MFAC(list(net().parameters())[::-1], run=run)
    with pytest.raises(mfac.Invalid, match="in the run's layout"):
        mfac.torch.MFAC([("x" + n, p) for n, p in net().named_parameters()], run=run)
    none: Tuple[Any, ...] = ([], [{"params": []}])
    for params in none:
        with pytest.raises((mfac.Invalid, ValueError)):
            mfac.torch.MFAC(params, run=run)
