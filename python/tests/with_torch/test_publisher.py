"""Publishing beside other optimizers."""

import threading
import time
from typing import Any, Callable, List

import numpy as np
import pytest
import torch

import mfac
import mfac.torch

from .tasks import backward, train, weights

Net = Callable[[], torch.nn.Module]


def attached(client: mfac.Client, name: str, model: torch.nn.Module, window: int = 32) -> mfac.Run:
    return client.attach(name, layout=mfac.torch.layout(model), window=window, damping=0.1)


OPTIMIZERS: List[Callable[[Any], torch.optim.Optimizer]] = [
    lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
    lambda params: torch.optim.AdamW(params, lr=0.01),
    lambda params: torch.optim.RMSprop(params, lr=0.01),
]


@pytest.mark.parametrize("made", OPTIMIZERS, ids=["sgd", "adamw", "rmsprop"])
@pytest.mark.parametrize("policy", ["block", "drop", "newest"])
def test_training_is_the_same(client: mfac.Client, name: str, net: Net, made: Any, policy: str) -> None:
    """Bit for bit, dropout and a schedule in it; and what is published is each step's gradient."""

    def trained(publish: bool) -> "tuple[torch.Tensor, List[Any]]":
        model = torch.nn.Sequential(net(), torch.nn.Dropout(0.2))
        optimizer = made(model.parameters())
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        publisher = None
        if publish:
            publisher = mfac.torch.GradientPublisher(model, attached(client, name, model), policy=policy, depth=64).attach(optimizer)
        torch.manual_seed(3)
        gradients: List[Any] = []
        for i in range(12):
            backward(model, i)
            gradients.append(torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None]).numpy().copy())
            optimizer.step()
            schedule.step()
        if publisher is not None:
            publisher.close()
            assert (publisher.published, publisher.dropped) == (12, 0)
            w = weights(model)
            backward(model, 12)
            optimizer.step()  # closed: no hook is left
            return w, gradients
        return weights(model), gradients

    w, gradients = trained(True)
    run = client.join(name)
    assert run.steps().steps.tolist() == list(range(1, 13))
    for step, g in enumerate(gradients, 1):
        assert (run.gradient(step) == g).all()
    plain, _ = trained(False)
    assert w.numpy().tobytes() == plain.numpy().tobytes()


def test_a_schedule_made_later(client: mfac.Client, name: str, net: Net) -> None:
    """It wraps the step too, and warns where it can't: the publisher lets go all the same."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    publisher = mfac.torch.GradientPublisher(model, attached(client, name, model)).attach(optimizer)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for i in range(3):
        train(model, optimizer, range(i, i + 1))
        schedule.step()
    publisher.close()
    train(model, optimizer, range(3, 4))
    schedule.step()
    assert publisher.published == 3 and optimizer.param_groups[0]["lr"] == 0.1 / 16
    assert client.join(name).status()["rows"] == 3


class Slow:
    """Lets publications through one at a time, when it is told to."""

    def __init__(self, run: mfac.Run, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate, self.begun = threading.Semaphore(0), threading.Semaphore(0)
        publish = mfac.Run.publish

        def slow(of: mfac.Run, *args: Any, **options: Any) -> mfac.Commit:
            self.begun.release()
            assert self.gate.acquire(timeout=30)
            return publish(of, *args, **options)

        monkeypatch.setattr(mfac.Run, "publish", slow)


@pytest.mark.parametrize(("policy", "kept"), [("drop", [1, 2, 3]), ("newest", [1, 5, 6])])
def test_what_is_left_out(client: mfac.Client, name: str, net: Net, monkeypatch: pytest.MonkeyPatch, policy: str, kept: List[int]) -> None:
    model = net()
    run = attached(client, name, model)
    slow = Slow(run, monkeypatch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    publisher = mfac.torch.GradientPublisher(model, run, policy=policy, depth=2).attach(optimizer)
    train(model, optimizer, range(1))
    assert slow.begun.acquire(timeout=30)  # the first is on its way, so that two more may wait
    train(model, optimizer, range(1, 6))
    for _ in range(6):
        slow.gate.release()
    publisher.close()
    assert run.steps().steps.tolist() == kept
    assert (publisher.published, publisher.dropped) == (3, 3)


def test_block_waits(client: mfac.Client, name: str, net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    run = attached(client, name, model)
    slow = Slow(run, monkeypatch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    publisher = mfac.torch.GradientPublisher(model, run, depth=1).attach(optimizer)
    train(model, optimizer, range(1))
    assert slow.begun.acquire(timeout=30)
    train(model, optimizer, range(1, 2))
    timer = threading.Timer(0.5, slow.gate.release)
    timer.start()
    began = time.monotonic()
    train(model, optimizer, range(2, 3))
    assert time.monotonic() - began > 0.3
    with pytest.raises(mfac.Timeout):
        publisher.flush(timeout=0.05)
    for _ in range(3):
        slow.gate.release()
    publisher.close()
    assert run.steps().steps.tolist() == [1, 2, 3]


def test_errors_surface(client: mfac.Client, name: str, net: Net) -> None:
    model = net()
    run = attached(client, name, model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    publisher = mfac.torch.GradientPublisher(model, run).attach(optimizer)
    backward(model, 0)
    p = next(model.parameters())
    assert p.grad is not None
    p.grad[0, 0] = float("nan")
    optimizer.step()
    with pytest.raises(mfac.NotFinite):
        publisher.flush()
    client.delete(name)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    publisher.attach(optimizer)
    publisher._flat.params[:] = list(model.parameters())
    backward(model, 0)
    optimizer.step()
    before = weights(model)
    end = time.monotonic() + 20
    with pytest.raises(mfac.UnknownRun):  # at a later step, before it moves a weight
        while time.monotonic() < end:
            before = weights(model)
            backward(model, 0)
            optimizer.step()
            time.sleep(0.02)
    assert (weights(model) == before).all()
    with pytest.raises(mfac.MFACError):
        backward(model, 0)
        optimizer.step()
        publisher.close()
    with pytest.raises(mfac.Closed):
        publisher.push()
    with pytest.raises(mfac.Closed):
        publisher.attach(optimizer)


def test_closures_and_skipped_steps(client: mfac.Client, name: str, net: Net) -> None:
    model = net()
    run = attached(client, name, model)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.as_tensor(model(torch.ones(1, 20)).square().sum())
        loss.backward()
        return loss

    with mfac.torch.GradientPublisher(model, run).attach(optimizer) as publisher:
        for _ in range(2):
            optimizer.step(closure)
        publisher.flush()
        assert run.status()["rows"] == 2
        # As a GradScaler tells an optimizer that unscales by itself.
        other: Any = Still(model.parameters(), {})
        publisher.attach(other)
        other.grad_scale, other.found_inf = torch.tensor(4.0), torch.tensor(1.0)
        backward(model, 0)
        other.step()
        other.found_inf = torch.tensor(0.0)
        g = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
        other.step()
        publisher.flush()
        assert run.status()["rows"] == 3
        assert np.allclose(run.gradient(3), g / 4)


def test_a_step_that_changes_gradients(client: mfac.Client, name: str, net: Net) -> None:
    """Given a closure, what is published is what the closure's last call left, also after a closure that raised. Numbers begin
    where they are told to."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, foreach=True)
    run = attached(client, name, model)
    gradients: List[Any] = []
    with mfac.torch.GradientPublisher(model, run).attach(optimizer) as publisher:
        publisher.skip_to(7)
        for i in range(4):

            def closure(i: int = i) -> torch.Tensor:
                loss = backward(model, i)
                g = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None]).numpy().copy()
                if i == 2:
                    raise ZeroDivisionError
                gradients.append(g)
                return loss

            if i == 2:
                with pytest.raises(ZeroDivisionError):
                    optimizer.step(closure)
            elif i == 3:
                optimizer.step(closure=closure)
            else:
                optimizer.step(closure)
    assert run.steps().steps.tolist() == [8, 9, 10]
    for step, g in zip((8, 9, 10), gradients):
        assert (run.gradient(step) == g).all()


class Still(torch.optim.Optimizer):
    def step(self, closure: Any = None) -> None:  # type: ignore[override,unused-ignore]
        pass


def test_options(client: mfac.Client, name: str, net: Net) -> None:
    model = net()
    run = attached(client, name, model)
    for options, field in (({"policy": "hope"}, "policy"), ({"depth": 0}, "depth")):
        with pytest.raises(mfac.Invalid) as e:
            mfac.torch.GradientPublisher(model, run, **options)
        assert e.value.field == field
    with pytest.raises(mfac.Invalid, match="layout of the run"):
        mfac.torch.GradientPublisher(torch.nn.Linear(2, 2), run)
