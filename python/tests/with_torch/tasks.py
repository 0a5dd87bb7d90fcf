"""What is trained in tests."""

from typing import Any, Callable, Optional

import torch

X = torch.randn(256, 20, generator=torch.Generator().manual_seed(1))
Y = (X[:, 0] * X[:, 1] > 0).long() + (X[:, 2] > 1).long()


def backward(model: torch.nn.Module, i: int) -> torch.Tensor:
    """The loss on mini-batch i, whose gradients are left in the model."""
    for p in model.parameters():
        p.grad = None
    at = torch.arange(32 * i, 32 * i + 32) % len(X)
    loss = torch.nn.functional.cross_entropy(model(X[at]), Y[at])
    loss.backward()
    return loss.detach()


def train(model: torch.nn.Module, optimizer: Any, steps: range, between: Optional[Callable[[int], None]] = None) -> None:
    for i in steps:
        backward(model, i)
        optimizer.step()
        if between is not None:
            between(i)


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1).clone() for p in model.parameters()])
