"""Parameters as the columns of a run, and the buffers that gradients are copied to."""

import contextlib
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np
import torch

from .._client import Client
from .._errors import MFACError, invalid
from .._memory import Array
from .._run import Run

Named = Sequence[Tuple[Optional[str], torch.Tensor]]


def layout(model: torch.nn.Module) -> Dict[str, Tuple[int, ...]]:
    """The names and shapes of the parameters of model that are trained, in order, for ``client.attach(layout=…)``.

    >>> mfac.torch.layout(torch.nn.Linear(10, 2))
    {'weight': (2, 10), 'bias': (2,)}
    """
    return {name: tuple(p.shape) for name, p in named(model).items() if p.requires_grad}


def named(model: torch.nn.Module) -> Dict[str, torch.Tensor]:
    """The parameters by name. One that torch.nn.utils.prune has masked has the name that it had before."""
    masks = {name for name, _ in model.named_buffers() if name.endswith("_mask")}
    return {
        name[: -len("_orig")] if name.endswith("_orig") and name[: -len("_orig")] + "_mask" in masks else name: p
        for name, p in model.named_parameters()
    }


class Flat:
    """Parameters, and which columns each of them is."""

    def __init__(self, params: Named) -> None:
        if not params:
            raise invalid("parameters", 0, "> 0")
        for name, p in params:
            if not torch.is_floating_point(p):
                raise invalid(f"dtype of parameter {name or ''}".rstrip(), p.dtype, "a real number's")
        self.names = [name for name, _ in params]
        self.params = [p for _, p in params]
        if None not in self.names and len(set(self.names)) < len(self.names):
            raise invalid("names of parameters", self.names, "different from each other")
        self.place([p.numel() for p in self.params])

    def place(self, sizes: Sequence[int], order: Optional[Sequence[int]] = None) -> None:
        """Gives the parameters their columns, one after the other in this order."""
        self.spans: List[Tuple[int, int]] = [(0, 0)] * len(sizes)
        at = 0
        for i in order if order is not None else range(len(sizes)):
            self.spans[i] = (at, at + sizes[i])
            at += sizes[i]
        self.dim = at

    @classmethod
    def of_model(cls, model: torch.nn.Module, run: Run) -> "Flat":
        """Those that the run's layout names, or all that are trained."""
        all_of = named(model)
        names = run.layout()
        if names is None:
            flat = cls([(name, p) for name, p in all_of.items() if p.requires_grad])
        else:
            missing = [name for name in names if name not in all_of]
            if missing:
                raise invalid("layout of the run", missing[0], f"of parameters of the model: {', '.join(all_of)}")
            flat = cls([(name, all_of[name]) for name in names])
        flat.fit(run)
        return flat

    @property
    def layout(self) -> Optional[List[Tuple[str, Tuple[int, ...]]]]:
        if None in self.names:
            return None
        return [(str(name), tuple(p.shape)) for name, p in zip(self.names, self.params)]

    def fit(self, run: Run) -> None:
        """Puts the parameters where the run's layout has them.

        Raises:
            Invalid: they are not the run's.
        """
        if self.dim != run.dim:
            raise invalid("number of parameters", self.dim, f"{run.dim}, the run's dim")
        theirs = run.layout()
        if theirs is None:
            return
        if None in self.names:
            mine = [tuple(p.shape) for p in self.params]
            if mine != list(theirs.values()):
                raise invalid("shapes of parameters", mine, f"{list(theirs.values())}, the run's; or give named parameters")
            return
        ours = dict(self.layout or ())
        if ours != theirs:
            wrong = next(n for n in {**ours, **theirs} if ours.get(n) != theirs.get(n))
            raise invalid(f"shape of parameter {wrong}", ours.get(wrong, "none"), f"{theirs.get(wrong, 'none')}, as in the run's layout")
        at = {name: i for i, name in enumerate(self.names)}
        self.place([p.numel() for p in self.params], [at[name] for name in theirs])

    def views(self, flat: torch.Tensor) -> List[torch.Tensor]:
        """The parts of flat (d,) in the parameters' shapes."""
        return [flat[lo:hi].view(p.shape) for p, (lo, hi) in zip(self.params, self.spans)]

    def weights(self) -> Array:
        """The parameters (d,): float64 if one of them is, else float32."""
        wide = any(p.dtype == torch.float64 for p in self.params)
        flat = torch.empty(self.dim, dtype=torch.float64 if wide else torch.float32)
        with torch.no_grad():
            for view, p in zip(self.views(flat), self.params):
                view.copy_(p)
        return np.asarray(flat.numpy())


class Buffer:
    """A vector (d,) in memory that the agent shares, as an array, as a tensor and as views in the parameters' shapes."""

    def __init__(self, client: Client, flat: Flat) -> None:
        self.client, self.flat = client, flat
        self.array: Array
        self._pinned: Optional[torch.Tensor] = None
        if any(p.is_cuda for p in flat.params):
            self._pinned = torch.empty(flat.dim, dtype=torch.float32, pin_memory=True)
            self._pinned_views = flat.views(self._pinned)
        self._make()

    def _make(self) -> None:
        self.array = self.client.empty(self.flat.dim, np.float32)
        self.tensor = torch.from_numpy(self.array)
        self.views = self.flat.views(self.tensor)

    def fresh(self) -> "Buffer":
        """This one, in memory of the agent that there is now."""
        with contextlib.suppress(MFACError):  # said by the call that sends it, which waits; there it is copied
            if self.client._linked().pool.find(self.array) is None:
                self._make()
        return self

    def fill(self, gradients: Iterable[Optional[torch.Tensor]]) -> None:
        """Copies gradients to it, one of each parameter: zeros where there is none."""
        views = self.views if self._pinned is None else self._pinned_views
        with torch.no_grad():
            for view, g in zip(views, gradients):
                if g is None:
                    view.zero_()
                else:
                    view.copy_(g.to_dense() if g.is_sparse else g, non_blocking=self._pinned is not None)
            if self._pinned is not None:
                for device in {p.device for p in self.flat.params if p.is_cuda}:
                    torch.cuda.synchronize(device)
                self.tensor.copy_(self._pinned)


def gradient_of(p: torch.Tensor) -> Optional[torch.Tensor]:
    g: Any = p.grad
    return None if g is None else g.detach()
