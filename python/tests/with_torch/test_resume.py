"""Checkpoints."""

import io
from typing import Any, Callable

import numpy as np
import pytest
import torch

import mfac
import mfac.torch

from .tasks import train, weights

Net = Callable[[], torch.nn.Module]


def saved(model: torch.nn.Module, optimizer: Any) -> Any:
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    return torch.load(file)  # by default newer versions load nothing but tensors and plain values


def made(model: torch.nn.Module, **options: Any) -> mfac.torch.MFAC:
    return mfac.torch.MFAC(model.named_parameters(), 0.02, 0.9, warmup_rows=3, **options)


def uninterrupted(client: mfac.Client, name: str, net: Net, steps: int) -> torch.Tensor:
    model = net()
    train(model, made(model, client=client, name=f"{name}-whole", window=6, damping=0.01), range(steps))
    return weights(model)


@pytest.mark.parametrize("at", [2, 4, 9])
def test_the_rows_are_still_there(client: mfac.Client, name: str, net: Net, at: int) -> None:
    model = net()
    optimizer = made(model, client=client, name=name, window=6, damping=0.01)
    train(model, optimizer, range(at))
    state = saved(model, optimizer)
    del model, optimizer  # the job ends, and another one goes on
    model = net()
    optimizer = made(model, client=client, name=name, window=6, damping=0.01)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    train(model, optimizer, range(at, 14))
    assert weights(model).numpy().tobytes() == uninterrupted(client, name, net, 14).numpy().tobytes()


@pytest.mark.parametrize("lost", ["deleted", "ahead"])
def test_the_checkpoint_has_the_rows(client: mfac.Client, name: str, net: Net, lost: str) -> None:
    model = net()
    optimizer = made(model, client=client, name=name, window=6, damping=0.01, save_window=True)
    train(model, optimizer, range(9))
    state = saved(model, optimizer)
    assert state["optimizer"]["mfac"]["gradients"].shape == (6, optimizer.run.dim)
    if lost == "deleted":
        client.delete(name)
    else:
        train(model, optimizer, range(9, 12))  # it went on after the checkpoint, and was killed
    model = net()
    optimizer = made(model, client=client, name=name, window=6, damping=0.01, save_window=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    train(model, optimizer, range(9, 14))
    # Rows may lie in other slots, and sums over them be rounded in another order: float64, before float32 is.
    assert torch.allclose(weights(model), uninterrupted(client, name, net, 14), rtol=1e-5, atol=1e-6)


def test_the_window_is_another_one(client: mfac.Client, name: str, net: Net) -> None:
    model = net()
    optimizer = made(model, client=client, name=name, window=6, damping=0.01)
    train(model, optimizer, range(5))
    state = saved(model, optimizer)
    train(model, optimizer, range(5, 8))
    model = net()
    optimizer = made(model, client=client, name=name, window=6, damping=0.01)
    with pytest.raises(mfac.torch.WindowLost, match=r"state is of 5 gradients at version 5, newest step 5.* has 6 at version 8"):
        optimizer.load_state_dict(state["optimizer"])
    assert not optimizer.state and optimizer.run.status()["rows"] == 6
    # By plain momentum until enough have come: what was published later is taken out.
    optimizer = made(model, client=client, name=name, window=6, damping=0.01, on_loss="warmup")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    assert optimizer.run.steps().steps.tolist() == [3, 4, 5]
    train(model, optimizer, range(5, 7))
    assert optimizer.run.steps().steps.tolist() == [3, 4, 5, 9, 10]
    client.delete(name)
    optimizer = made(model, client=client, name=name, window=6, damping=0.01)
    with pytest.raises(mfac.torch.WindowLost, match="another run"):
        optimizer.load_state_dict(state["optimizer"])


def test_states_of_others(client: mfac.Client, name: str, net: Net) -> None:
    model = net()
    optimizer = made(model, client=client, name=name, window=6, damping=0.01)
    with pytest.raises(mfac.Invalid, match=r"one of mfac\.torch\.MFAC"):
        optimizer.load_state_dict(torch.optim.SGD(model.parameters(), lr=0.1).state_dict())
    state = optimizer.state_dict()
    other = mfac.torch.MFAC(net().named_parameters(), client=client, name=f"{name}-other", window=5)
    with pytest.raises(mfac.Invalid, match="window of the state_dict is 6, must be 5, the run's"):
        other.load_state_dict(state)


def test_rows_that_were_forgotten(client: mfac.Client, name: str, net: Net) -> None:
    """Somebody takes gradients out in the middle: never a step with what is left, unless it is said."""
    model = net()
    optimizer = made(model, client=client, name=name, window=6, damping=0.01)
    train(model, optimizer, range(5))
    optimizer.run.forget([2, 3])
    before = weights(model)
    for _ in range(2):
        with pytest.raises(mfac.torch.WindowLost, match="has 4 gradients, must have 6"):
            train(model, optimizer, range(5, 6))
        assert (weights(model) == before).all()
    optimizer.accept_window()
    train(model, optimizer, range(6, 8))
    assert np.isfinite(weights(model).numpy()).all() and optimizer.run.status()["rows"] == 6
    # By the other policy training goes on by itself: by plain momentum where few are left.
    model = net()
    optimizer = made(model, client=client, name=f"{name}-on", window=6, damping=0.01, on_loss="warmup")
    train(model, optimizer, range(5))
    optimizer.run.forget([1, 2, 3, 4, 5])
    before = weights(model)
    train(model, optimizer, range(5, 6))
    g = torch.from_numpy(optimizer.run.gradient(6))
    assert torch.allclose(weights(model), before - 0.02 * 0.1 * g, rtol=1e-6, atol=1e-7)
