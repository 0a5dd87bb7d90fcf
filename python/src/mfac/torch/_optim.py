"""The optimizer."""

import math
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple, Union

import numpy as np
import torch

from .._client import Client
from .._errors import invalid
from .._run import Answer, Blocks, Run
from ._errors import WindowLost
from ._feed import Feed
from ._flat import Buffer, Flat, gradient_of
from ._ranks import Ranks

_AT_ONCE = 16  # rows that a checkpoint puts back in one call

Params = Union[Iterable[torch.Tensor], Iterable[Tuple[str, torch.Tensor]], Iterable[Dict[str, Any]]]


class MFAC(torch.optim.Optimizer):
    """M-FAC (Frantar, Kurtic and Alistarh, NeurIPS 2021): at each step the gradient g goes into the window, and

        v ← μv + (1 − μ)H⁻¹g,   w ← w − lr·v,   H = (1/N) Σ ggᵀ + λI over the window, g included.

    Args:
        params: ``model.named_parameters()``, or parameters, or groups of either. Names make the run's layout. Groups may have
            their own lr, momentum, weight_decay and decoupled.
        lr: the step is lr·v.
        momentum: μ in [0, 1).
        weight_decay: of coupled decay weight_decay·w is added to g, and so is in the window, as the authors' optimizer does.
        decoupled: True takes lr·weight_decay·w off the weights instead, as AdamW does.
        run: the run to feed; or
        client, name: where to make one of that name, or join it. Its d is that of the parameters.
        window, damping: m and λ; 1024 and 1e-5, the authors', where a run is made. Of a run that is given, window must be its own;
            damping may be another λ.
        divisor: N, as for ``client.attach``.
        blocks, across: the diagonal blocks of H that take its place, as for ``client.attach``: ``"tensor"`` is one for each
            parameter. Of a run that is given, they are its own.
        warmup_rows: while the window has fewer gradients, g takes the place of H⁻¹g: plain momentum. v is zeroed where that changes.
        warmup_factor: the learning rate is multiplied by it in these steps, since g and H⁻¹g differ in length.
        max_step_norm: longer steps, over all parameters, are shortened to this 2-norm.
        on_loss: what is done where the window has lost gradients: ``"raise"`` WindowLost, or ``"warmup"``: go on from what is
            there, by plain momentum while that is fewer than warmup_rows, which must be > 1.
        adopt: goes on from the gradients that a run has already. Else they must be those of a state dict that is loaded.
        save_window: state_dict has the window's gradients too (m·d float32), and load_state_dict puts them back.
        group: a process group, or True for the default one: each rank publishes its part of the gradient, which must be averaged
            already (as DistributedDataParallel does), and gets its part of the result; the ranks gather these.
        wire: ``"bf16"`` or ``"f16"`` sends gradients in half the bytes.
        patience: seconds that a step waits for an agent or a NATS that has gone. It publishes nothing twice.
        timeout: seconds of each call; two minutes by default.

    A parameter without gradient is not moved, and has zeros in the window. Sparse gradients are made dense. Gradients are rounded
    to float32. A GradScaler skips steps by not calling them, so they are not published.

    Raises:
        Invalid: a value is out of its range, or the parameters are not the run's.

    >>> model = torch.nn.Linear(10, 2)
    >>> optimizer = mfac.torch.MFAC(model.named_parameters(), lr=1e-3, client=client, name="steps", window=32, damping=1e-2)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = model(torch.ones(4, 10)).square().mean()
    ...     loss.backward()
    ...     return loss
    >>> bool(optimizer.step(closure) > optimizer.step(closure))
    True
    >>> saved = optimizer.state_dict()
    >>> saved["mfac"]["rows"]
    2
    >>> optimizer.load_state_dict(saved)  # the window is the one that belongs to it
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        *,
        decoupled: bool = False,
        run: Optional[Run] = None,
        client: Optional[Client] = None,
        name: Optional[str] = None,
        window: Optional[int] = None,
        damping: Optional[float] = None,
        divisor: str = "",
        blocks: Blocks = None,
        across: bool = False,
        warmup_rows: int = 0,
        warmup_factor: float = 1.0,
        max_step_norm: Optional[float] = None,
        on_loss: str = "raise",
        adopt: bool = False,
        save_window: bool = False,
        group: Union[bool, Any] = False,
        wire: Optional[str] = None,
        patience: float = 60.0,
        timeout: Optional[float] = None,
    ) -> None:
        if on_loss not in ("raise", "warmup"):
            raise invalid("on_loss", on_loss, "raise or warmup")
        if on_loss == "warmup" and warmup_rows < 2:
            raise invalid("warmup_rows", warmup_rows, "> 1 with on_loss='warmup'")
        if max_step_norm is not None and not max_step_norm > 0:
            raise invalid("max_step_norm", max_step_norm, "> 0")
        if not 0 < warmup_factor < math.inf:
            raise invalid("warmup_factor", warmup_factor, "> 0 and finite")
        self._fixed = False
        groups, pairs = _groups(params)
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "decoupled": decoupled})
        self._fixed = True
        for g in self.param_groups:
            _check_group(g)
        self._flat = Flat(pairs)
        self.run = self._attached(run, client, name, window, damping, divisor, blocks, across, timeout)
        self._flat.fit(self.run)
        if not 0 <= warmup_rows <= self.run.window:
            raise invalid("warmup_rows", warmup_rows, f"in [0, {self.run.window}], the window")
        self.warmup_rows, self.warmup_factor, self.max_step_norm = warmup_rows, warmup_factor, max_step_norm
        self._on_loss, self._save_window = on_loss, save_window
        self._ranks = Ranks(group, self._flat.dim) if group is not False and group is not None else None
        info = self.run.status(timeout=timeout)
        self._feed = Feed(
            self.run, info["newest"], columns=None if self._ranks is None else self._ranks.lo, wire=wire,
            damping=damping if run is not None else None, patience=patience, timeout=timeout,
        )  # fmt: skip
        self._in, self._out = Buffer(self.run._client, self._flat), Buffer(self.run._client, self._flat)
        self._plain: Optional[bool] = None  # what the momentum is of
        self._known(info["rows"], info["version"])
        self._lost = ""
        if info["rows"] and not adopt:
            self._lost = (
                f"run {self.run.name} has {info['rows']} gradients already: load the state dict that belongs to them, "
                "give adopt=True to go on from them, or delete the run"
            )

    def _attached(
        self, run: Optional[Run], client: Optional[Client], name: Optional[str], window: Optional[int], damping: Optional[float],
        divisor: str, blocks: Blocks, across: bool, timeout: Optional[float],
    ) -> Run:  # fmt: skip
        if run is not None:
            if client is not None or name is not None or divisor or blocks is not None or across:
                raise invalid("run", run.name, "given without client, name, divisor, blocks and across")
            if window is not None and window != run.window:
                raise invalid("window", window, f"{run.window}, the run's")
            return run
        if client is None or name is None:
            raise invalid("run", "missing", "given, or client and name")
        return client.attach(
            name, dim=self._flat.dim, layout=self._flat.layout, window=1024 if window is None else window,
            damping=1e-5 if damping is None else damping, divisor=divisor,
            blocks=blocks, across=across, timeout=timeout,
        )  # fmt: skip

    def _known(self, rows: int, version: int) -> None:
        self._rows, self._version, self._at = rows, version, self._feed.count

    def _expected(self, more: int = 0) -> int:
        """How many gradients the window has, after so many more, if none is lost."""
        return min(self._rows + self._feed.count - self._at + more, self.run.window)

    def add_param_group(self, param_group: Dict[str, Any]) -> None:
        """Groups are those of the beginning: a run has so many parameters.

        Raises:
            Invalid: whatever ``param_group`` is.
        """
        if self._fixed:
            raise invalid("parameter groups", len(self.param_groups) + 1, f"the {len(self.param_groups)} of the beginning")
        super().add_param_group(param_group)

    def accept_window(self) -> None:
        """Goes on from the gradients that the window has, after WindowLost: another process has published, a worker has died, or the state
        that belongs to them is not at hand.

        >>> run = client.attach("others", dim=3, window=4)
        >>> _ = run.publish(1, torch.ones(3))
        >>> w = torch.nn.Parameter(torch.zeros(3))
        >>> optimizer = mfac.torch.MFAC([w], run=run)
        >>> w.grad = torch.ones(3)
        >>> optimizer.step()  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        mfac.torch...WindowLost: run others has 1 gradients already: ...
        >>> optimizer.accept_window()
        >>> optimizer.step()
        >>> run.status()["rows"]
        2
        """
        info = self.run.status()
        self._known(info["rows"], info["version"])
        self._lost = ""

    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:  # type: ignore[override,unused-ignore]
        """One step. Where it raises, no weight has changed.

        Args:
            closure: works the loss and the gradients out; its value is returned.

        Raises:
            WindowLost: the window is not what the last step left.
            IllConditioned, NotFinite, Timeout, Unavailable, AgentDied: as of ``run.precondition``. After the last three the
                same gradient may be given again: it is not published twice.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            self._step()
        return loss

    def _step(self) -> None:
        if self._lost:
            raise WindowLost(self._lost, field="run", value=self.run.name)
        gradients = self._gradients()
        if all(g is None for g in gradients):
            return
        g, out, info = self._in.fresh(), self._out.fresh(), Answer()
        g.fill(gradients)
        lo, hi = (0, self._flat.dim) if self._ranks is None else (self._ranks.lo, self._ranks.hi)
        plain = self._expected(1) < self.warmup_rows
        if plain:
            info.version, info.rows = self._feed.put(g.array[lo:hi])
        else:
            self._feed.precondition(g.array[lo:hi], out.array[lo:hi], info)
        expected = self._expected()
        self._known(info.rows, info.version)
        if info.rows != expected:
            if self._on_loss == "raise":
                self._lost = f"the window of run {self.run.name} has {info.rows} gradients, must have {expected}: others were lost"
                raise WindowLost(self._lost, field="rows", value=str(info.rows), limit=str(expected))
            plain = plain or info.rows < self.warmup_rows
        if not plain and self._ranks is not None:
            self._ranks.gather(out.tensor)
        self._move((g if plain else out).views, gradients, plain)

    def _gradients(self) -> List[Optional[torch.Tensor]]:
        """One of each parameter, with the coupled weight decay in it."""
        gradients: List[Optional[torch.Tensor]] = []
        for group in self.param_groups:
            decay = 0.0 if group["decoupled"] else group["weight_decay"]
            for p in group["params"]:
                g = gradient_of(p)
                if g is not None and decay:
                    g = (g.to_dense() if g.is_sparse else g).add(p, alpha=decay)
                gradients.append(g)
        return gradients

    def _move(self, directions: List[torch.Tensor], gradients: List[Optional[torch.Tensor]], plain: bool) -> None:
        if plain != self._plain:  # an average of gradients says nothing of H⁻¹g
            for state in self.state.values():
                state["momentum_buffer"].zero_()
            self._plain = plain
        steps: List[Tuple[torch.Tensor, torch.Tensor, Dict[str, Any]]] = []
        of = iter(zip(directions, gradients))
        for group in self.param_groups:
            for p in group["params"]:
                u, g = next(of)
                if g is None:
                    continue
                u = u.to(p.device)
                if p.dtype == torch.float64:
                    u = u.double()
                if group["momentum"]:
                    state = self.state[p]
                    if "momentum_buffer" not in state:
                        state["momentum_buffer"] = torch.zeros_like(u)
                    u = state["momentum_buffer"].mul_(group["momentum"]).add_(u, alpha=1 - group["momentum"])
                steps.append((p, u, group))
        factor = self.warmup_factor if plain else 1.0
        if self.max_step_norm is not None:
            squares = sum(float((group["lr"] * factor * u.double()).square().sum()) for _, u, group in steps)
            if squares > self.max_step_norm**2:
                factor *= self.max_step_norm / math.sqrt(squares)
        for p, u, group in steps:
            if group["decoupled"] and group["weight_decay"]:
                p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(u.to(p.dtype), alpha=-group["lr"] * factor)

    def state_dict(self) -> Dict[str, Any]:  # type: ignore[override,unused-ignore]
        """The optimizer's state, and under ``"mfac"`` which window belongs to it; with save_window its gradients."""
        state: Dict[str, Any] = dict(super().state_dict())
        mine: Dict[str, Any] = {
            "run": self.run.name, "uid": self.run._uid, "dim": self._flat.dim, "window": self.run.window, "newest": self._feed.newest,
            "version": self._version, "rows": self._rows, "plain": self._plain,
            "lost": self._lost,  # accelerate loads what it has just been given: that accepts no window
        }  # fmt: skip
        if self._save_window:
            steps = self.run.steps()
            if (steps.version, len(steps.steps)) != (self._version, self._rows):
                raise WindowLost(f"the window of run {self.run.name} is not what the last step left", field="run", value=self.run.name)
            rows = torch.empty(len(steps.steps), self._flat.dim)
            for row, step in zip(rows, steps.steps):
                self.run.gradient(int(step), exactly=steps.version, out=row.numpy())
            mine["gradients"] = rows
        state["mfac"] = mine
        return state

    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:  # type: ignore[override,unused-ignore]
        """Takes the state over, if the window is the one that belongs to it, or can be put back.

        Args:
            state_dict: of ``state_dict``, of this optimizer or of one before it.

        Raises:
            WindowLost: it is not, and on_loss is ``"raise"``. Nothing has changed.
            Invalid: the state is of another optimizer.
        """
        mine = state_dict.get("mfac")
        if not isinstance(mine, dict):
            raise invalid("state_dict", "without 'mfac'", "one of mfac.torch.MFAC")
        for key, value in (("dim", self._flat.dim), ("window", self.run.window)):
            if mine[key] != value:
                raise invalid(f"{key} of the state_dict", mine[key], f"{value}, the run's")
        info = self.run.status()
        same = all(mine[k] == v for k, v in (("uid", self.run._uid), ("version", info["version"]), ("rows", info["rows"])))
        if not same and "gradients" not in mine and self._on_loss == "raise":
            raise WindowLost(
                f"the state is of {mine['rows']} gradients at version {mine['version']}, newest step {mine['newest']}; run {self.run.name} "
                f"has {info['rows']} at version {info['version']}, newest step {info['newest']}, "
                f"and is {'the same' if mine['uid'] == self.run._uid else 'another'} run",
                field="version", value=str(info["version"]), limit=str(mine["version"]),
                hint="save checkpoints with save_window=True, or go on without those gradients by on_loss='warmup'",
            )  # fmt: skip
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "mfac"})
        order = [p for group in self.param_groups for p in group["params"]]
        for i, saved in state_dict["state"].items():  # torch casts it to the parameter's dtype: not rounded, it is what it was
            p = order[i]
            kind = torch.float64 if p.dtype == torch.float64 else torch.float32
            self.state[p]["momentum_buffer"] = saved["momentum_buffer"].detach().to(p.device, kind, copy=True)
        if not same:
            self._put_back(mine)
            info = self.run.status()
        self._feed.newest, self._feed._unsure = info["newest"], None
        self._known(info["rows"], info["version"])
        self._plain, self._lost = mine["plain"], mine.get("lost", "") if same else ""

    def _put_back(self, mine: Dict[str, Any]) -> None:
        """Makes the window what it was, as far as it is known. With ranks, the first one does."""
        if self._ranks is None or self._ranks.rank == 0:
            steps = self.run.steps().steps
            if "gradients" not in mine:
                others = mine["uid"] != self.run._uid
                steps = steps[(steps > mine["newest"]) | others]  # published after the state was saved, or not by this job
            if len(steps):
                self.run.forget([int(s) for s in steps])
            rows = mine.get("gradients", torch.empty(0)).to("cpu", torch.float32).numpy()
            first = self.run.status()["newest"] + 1
            for lo in range(0, len(rows), _AT_ONCE):
                self.run.publish(first + lo, np.ascontiguousarray(rows[lo : lo + _AT_ONCE]))
        if self._ranks is not None:
            torch.distributed.barrier(self._ranks.group)


def _groups(params: Params) -> "Tuple[List[Dict[str, Any]], List[Tuple[Optional[str], torch.Tensor]]]":
    """Groups as torch takes them, of tensors alone, and all parameters with their names."""
    given = list(params)
    if not given:
        raise invalid("parameters", 0, "> 0")
    groups = [dict(g) for g in given if isinstance(g, dict)]
    if not groups:
        groups = [{"params": given}]
    elif len(groups) < len(given):
        raise invalid("params", "mixed", "parameters, or groups of them")
    pairs: List[Tuple[Optional[str], torch.Tensor]] = []
    for group in groups:
        members = [group["params"]] if isinstance(group["params"], torch.Tensor) else list(group["params"])
        new = [(str(m[0]), m[1]) if isinstance(m, tuple) else (None, m) for m in members]
        pairs += new
        group["params"] = [p for _, p in new]
    return groups, pairs


def _check_group(group: Dict[str, Any]) -> None:
    for key, lowest in (("lr", 0.0), ("weight_decay", 0.0)):
        if not lowest <= group[key] < math.inf:
            raise invalid(key, group[key], "≥ 0 and finite")
    if not 0 <= group["momentum"] < 1:
        raise invalid("momentum", group["momentum"], "in [0, 1)")
