"""Pruning a model."""

from typing import Any, Callable, Dict, Iterable, Optional, Union

import numpy as np
import torch
from torch.nn.utils import prune as torch_prune

from .._errors import invalid
from .._run import Run
from ._flat import Flat


def prune(
    model: torch.nn.Module,
    run: Run,
    sparsity: float,
    *,
    rule: str = "summed",
    steps: int = 1,
    only: Optional[Union[Iterable[str], Callable[[str, torch.Tensor], bool]]] = None,
    masks: bool = True,
    **options: Any,
) -> Dict[str, torch.Tensor]:
    """Prunes the model's weights by the curvature of the run's window, as ``run.prune`` does: those of least w²/(2[H⁻¹]ᵢᵢ) are
    +0, the others adapted. The bytes are those of ``mfac prune``.

    Args:
        model: its parameters are the run's columns, by the run's layout or in order.
        sparsity: in [0, 1), of all d, those that are pruned already included.
        rule, steps, options: as for ``run.prune``: ``"summed"`` or ``"joint"``, damping, divisor, min_rows, timeout, ….
        only: names of the parameters that may be pruned, or a function of name and parameter that says so; all by default. The
            others stay as they are.
        masks: registers masks as torch.nn.utils.prune does, so that training on leaves pruned weights at zero, and
            ``torch.nn.utils.prune.remove`` makes it permanent. What it has masked already stays pruned.

    Returns:
        The masks by name: bool, in the parameters' shapes, True where a weight is kept. All of those pruned are zero; a kept weight
        that is zero counts as pruned.

    >>> model = torch.nn.Linear(10, 2)
    >>> run = client.attach("pruned", layout=mfac.torch.layout(model), window=8)
    >>> commit = run.publish(1, np.random.default_rng(0).normal(size=(8, run.dim)))
    >>> kept = mfac.torch.prune(model, run, 0.5, rule="joint")
    >>> int(sum((~m).sum() for m in kept.values())), torch.nn.utils.prune.is_pruned(model)
    (11, True)
    """
    flat = Flat.of_model(model, run)
    before = {name: buffer for name, buffer in model.named_buffers() if name.endswith("_mask")}
    mask, state = np.zeros(flat.dim, dtype=np.int8), False
    allowed = _chosen(flat, only)
    for name, (lo, hi) in zip(flat.names, flat.spans):
        old = before.get(f"{name}_mask")
        if name not in allowed:
            mask[lo:hi], state = 1, True
        elif old is not None:
            mask[lo:hi], state = np.where(old.detach().cpu().reshape(-1).numpy() == 0, -1, 0), True
    w = flat.weights()
    pruned = run.prune(w, sparsity, rule=rule, steps=steps, mask=mask if state else None, **options)
    kept: Dict[str, torch.Tensor] = {}
    new = torch.from_numpy(np.array(pruned))
    with torch.no_grad():
        for name, p, view, (lo, hi) in zip(flat.names, flat.params, flat.views(new), flat.spans):
            assert name is not None
            if name not in allowed:
                kept[name] = torch.ones(p.shape, dtype=torch.bool)
                continue
            p.copy_(view)
            kept[name] = (view != 0) & torch.from_numpy(mask[lo:hi] >= 0).view(p.shape)
            if masks:
                _register(model, name, kept[name].to(p.device))
    return kept


def _chosen(flat: Flat, only: Optional[Union[Iterable[str], Callable[[str, torch.Tensor], bool]]]) -> "set[str]":
    names = [str(n) for n in flat.names]
    if only is None:
        return set(names)
    if callable(only):
        return {n for n, p in zip(names, flat.params) if only(n, p)}
    chosen = [only] if isinstance(only, str) else list(only)
    for n in chosen:
        if n not in names:
            raise invalid("only", n, f"of the parameters {', '.join(names)}")
    return set(chosen)


def _register(model: torch.nn.Module, name: str, mask: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if leaf + "_mask" in dict(module.named_buffers(recurse=False)):
        torch_prune.remove(module, leaf)  # the new mask holds what the old one did
    torch_prune.custom_from_mask(module, leaf, mask)
