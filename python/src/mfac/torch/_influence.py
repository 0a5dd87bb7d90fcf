"""Gradients of single examples, and what they say of each other."""

from typing import Any, Callable, Iterable, Iterator, List, NamedTuple, Tuple

import numpy as np
import torch

from .._memory import Array
from .._run import Run
from ._errors import WindowLost
from ._flat import Flat, named

try:
    from torch.func import functional_call, grad, vmap

    _MAPPED = True
except ImportError:  # torch before 2.0
    _MAPPED = False

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_AT_ONCE = 64 << 20  # bytes of gradients that are worked out at once


class ExampleScores(NamedTuple):
    """gᵀH⁻¹v of each gradient g in the window (uint64 ``steps``, oldest first) and each example's v: (examples, steps), float64."""

    steps: Array
    scores: Array


def per_sample_gradients(model: torch.nn.Module, loss: Loss, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The gradient of each example's loss by itself, (k, d) float32 on the CPU, d the parameters that are trained, in order.

    Args:
        model: in ``eval`` mode, so that no example's output depends on the others'. Neither its gradients nor its buffers change.
        loss: of the model's output and the targets, both of a batch of one; a scalar.
        inputs, targets: k examples along the first dimension.

    By torch.func where there is one (torch 2.0), else an example at a time.

    >>> model = torch.nn.Linear(10, 3).eval()
    >>> x, y = torch.randn(5, 10), torch.tensor([0, 1, 2, 0, 1])
    >>> mfac.torch.per_sample_gradients(model, torch.nn.functional.cross_entropy, x, y).shape
    torch.Size([5, 33])
    """
    flat = Flat([(n, p) for n, p in named(model).items() if p.requires_grad])
    return torch.cat(list(_gradients(model, flat, loss, inputs, targets)))


def _gradients(model: torch.nn.Module, flat: Flat, loss: Loss, inputs: torch.Tensor, targets: torch.Tensor) -> Iterator[torch.Tensor]:
    """Of each example, some at a time, (k, d) each."""
    at_once = max(1, _AT_ONCE // (4 * flat.dim))
    for lo in range(0, len(inputs), at_once):
        x, y = inputs[lo : lo + at_once], targets[lo : lo + at_once]
        rows = torch.empty(len(x), flat.dim)
        grads = (_mapped if _MAPPED else _looped)(model, flat, loss, x, y)
        for (a, b), g in zip(flat.spans, grads):
            rows[:, a:b] = g.reshape(len(x), -1)
        yield rows


def _mapped(model: torch.nn.Module, flat: Flat, loss: Loss, x: torch.Tensor, y: torch.Tensor) -> List[torch.Tensor]:
    mine = {id(p): i for i, p in enumerate(flat.params)}
    names = {mine[id(p)]: n for n, p in model.named_parameters() if id(p) in mine}
    given = {names[i]: p.detach() for i, p in enumerate(flat.params)}
    rest = {n: t.detach() for n, t in [*model.named_parameters(), *model.named_buffers()] if n not in given}

    def of_one(params: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return loss(functional_call(model, ({**rest, **params},), (x.unsqueeze(0),)), y.unsqueeze(0))

    grads = vmap(grad(of_one), in_dims=(None, 0, 0), randomness="different")(given, x, y)
    return [grads[names[i]] for i in range(len(flat.params))]


def _looped(model: torch.nn.Module, flat: Flat, loss: Loss, x: torch.Tensor, y: torch.Tensor) -> List[torch.Tensor]:
    rows: List[Tuple[torch.Tensor, ...]] = []
    for i in range(len(x)):
        with torch.enable_grad():
            value = loss(model(x[i : i + 1]), y[i : i + 1])
            grads = torch.autograd.grad(value, flat.params, allow_unused=True)
        rows.append(tuple(torch.zeros_like(p) if g is None else g for g, p in zip(grads, flat.params)))
    return [torch.stack(column) for column in zip(*rows)]


def publish_examples(model: torch.nn.Module, run: Run, loader: Iterable[Any], loss: Loss) -> Array:
    """Publishes the gradient of each example of loader's batches (inputs, targets) by itself: the rows that influence, and
    pruning, are best asked with. ``influence`` has an example.

    Args:
        model, loss: as for per_sample_gradients; model's parameters are the run's columns.
        run, loader: where to, and of what.

    Returns:
        The step of each example, in the loader's order (uint64). The window keeps the last ``run.window`` of them.
    """
    flat = Flat.of_model(model, run)
    first = step = int(run.status()["newest"]) + 1
    for inputs, targets in loader:
        for rows in _gradients(model, flat, loss, inputs, targets):
            run.publish(step, rows.numpy())
            step += len(rows)
    return np.arange(first, step, dtype=np.uint64)


def influence(model: torch.nn.Module, run: Run, loader: Iterable[Any], loss: Loss, **options: Any) -> ExampleScores:
    """How much each gradient in the window bears on each example of loader's batches (inputs, targets): gᵀH⁻¹v, v being the
    gradient of the example's loss. To leave the example of g out of the training of n raises that loss by about gᵀH⁻¹v/n (Koh and
    Liang, ICML 2017): large scores help, negative ones harm.

    Args:
        model, loss: as for per_sample_gradients; model's parameters are the run's columns.
        options: as for ``run.scores``: damping, divisor, min_rows, ….

    >>> model = torch.nn.Linear(10, 3).eval()
    >>> run = client.attach("influence", layout=mfac.torch.layout(model), window=8, damping=0.1)
    >>> batch = (torch.randn(8, 10), torch.arange(8) % 3)
    >>> steps = mfac.torch.publish_examples(model, run, [batch], torch.nn.functional.cross_entropy)
    >>> mfac.torch.influence(model, run, [batch], torch.nn.functional.cross_entropy).scores.shape
    (8, 8)
    """
    flat = Flat.of_model(model, run)
    parts: List[Array] = []
    steps = np.zeros(0, dtype=np.uint64)
    for inputs, targets in loader:
        for rows in _gradients(model, flat, loss, inputs, targets):
            for lo in range(0, len(rows), run.max_vectors):
                got = run.scores(rows[lo : lo + run.max_vectors].numpy(), **options)
                if parts and not np.array_equal(steps, got.steps):
                    raise WindowLost("the window has changed between two batches", field="run", value=run.name)
                steps = got.steps
                parts.append(got.scores)
    scores = np.concatenate(parts) if parts else np.zeros((0, len(steps)))
    return ExampleScores(steps, scores)
