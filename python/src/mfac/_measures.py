"""The methods of Run whose answers are numbers."""

from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import numpy as np
import numpy.typing as npt

from ._answers import Answer, Block, Influence, Likelihoods, Pairs, Scalars, Scores, SelfInfluence, Spectrum, Tuning
from ._arrays import Blocks, Whole, _asking, _numbers, _vector, _view, run_blocks
from ._errors import invalid
from ._memory import Array

if TYPE_CHECKING:
    from ._run import Run


def scores(self: "Run", v: npt.ArrayLike, *, damping: Optional[float] = None, divisor: Optional[str] = None,
           blocks: Whole = None, min_rows: int = 0,
           at_least: int = 0, exactly: Optional[int] = None, wire: Optional[str] = None, info: Optional[Answer] = None,
           timeout: Optional[float] = None) -> Scores:  # fmt: skip
    """gᵀH⁻¹v for every gradient g in the window, (n,) or (k, n) float64: one pass (docs/influence.md; Koh and Liang, 2017, with F in
    the place of the Hessian).

    Args:
        v: (d,), or (k, d).

    >>> s = run.scores(v)
    >>> len(s.steps) == len(s.scores) == run.status()["rows"]
    True
    """
    a = _vector(v)
    reply = _numbers_of(self, "scores", a, _asking(damping, divisor, min_rows, at_least, exactly, wire, whole=blocks), timeout, info)
    steps = _numbers(reply, "steps", "<u8")
    return Scores(steps, _numbers(reply, "values").reshape(*a.shape[:-1], len(steps)), reply.get("labels"))


def pairs(self: "Run", v: npt.ArrayLike, pairs: npt.ArrayLike, *, damping: Optional[float] = None, divisor: Optional[str] = None,
          blocks: Whole = None,
          min_rows: int = 0, at_least: int = 0, exactly: Optional[int] = None, wire: Optional[str] = None,
          info: Optional[Answer] = None, timeout: Optional[float] = None) -> Pairs:  # fmt: skip
    """uᵀH⁻¹v for pairs (p, 2) of the vectors v (k, d), by their indices; each vector is sent once (docs/influence.md).

    Args:
        v: (k, d).
        pairs: p pairs of indices in [0, k).

    >>> p = run.pairs(np.stack([v, -v]), [(0, 0), (0, 1)])
    >>> bool(np.isclose(p.values[0], -p.values[1]))
    True
    """
    q = np.ascontiguousarray(pairs, dtype="<i8")
    if q.ndim != 2 or q.shape[1] != 2:
        raise invalid("shape of pairs", q.shape, "(p, 2)")
    args = _asking(damping, divisor, min_rows, at_least, exactly, wire, whole=blocks)
    reply = _numbers_of(self, "pairs", _vector(v), {**args, "pairs": q.tobytes()}, timeout, info)
    return Pairs(_numbers(reply, "values"), _numbers(reply, "errors"))


def _numbers_of(self: "Run", op: str, a: Array, args: Dict[str, Any], timeout: Optional[float], info: Optional[Answer]) -> Dict[str, Any]:
    link = self._linked()
    held: List[Any] = []
    return self._ask(op, {**args, "in": _view(link[0].pool, a, held)}, timeout, info, link=link, held=held)


def influence(self: "Run", *, damping: Optional[float] = None, divisor: Optional[str] = None,
              blocks: Whole = None, min_rows: int = 0, at_least: int = 0,
              exactly: Optional[int] = None, info: Optional[Answer] = None, timeout: Optional[float] = None) -> Influence:  # fmt: skip
    """G H⁻¹Gᵀ of the gradients in the window, (n, n), from what the coordinator has: no pass over them (docs/influence.md).

    >>> run.influence().values.shape == (run.status()["rows"],) * 2
    True
    """
    reply = self._ask("influence", _asking(damping, divisor, min_rows, at_least, exactly, whole=blocks), timeout, info)
    steps = _numbers(reply, "steps", "<u8")
    return Influence(steps, _numbers(reply, "values").reshape(len(steps), len(steps)), _numbers(reply, "errors"), reply.get("labels"))


def self_influence(self: "Run", *, damping: Optional[float] = None, divisor: Optional[str] = None,
                   blocks: Whole = None, min_rows: int = 0, at_least: int = 0,
                   exactly: Optional[int] = None, info: Optional[Answer] = None,
                   timeout: Optional[float] = None) -> SelfInfluence:  # fmt: skip
    """gᵀH⁻¹g of each gradient in the window, and gᵀ(H − ggᵀ/N)⁻¹g, with it left out, (n,) each; no pass over them (docs/influence.md).

    >>> s = run.self_influence()
    >>> bool((s.left_out >= s.values).all())
    True
    """
    reply = self._ask("self_influence", _asking(damping, divisor, min_rows, at_least, exactly, whole=blocks), timeout, info)
    steps = _numbers(reply, "steps", "<u8")
    values, errors = _numbers(reply, "values").reshape(2, -1), _numbers(reply, "errors").reshape(2, -1)
    return SelfInfluence(steps, values[0], values[1], errors[0], errors[1], reply.get("labels"))


def scalars(self: "Run", damping: Optional[npt.ArrayLike] = None, *, divisor: Optional[str] = None,
            blocks: Whole = None, min_rows: int = 0, at_least: int = 0,
            exactly: Optional[int] = None, info: Optional[Answer] = None, timeout: Optional[float] = None) -> Scalars:  # fmt: skip
    """Numbers of the spectrum (docs/queries.md), from what the coordinator has.

    Args:
        damping: λ, the run's by default; or a list of at most 1,024.

    Returns:
        A dict of floats: of the window ``n`` (N), ``trace`` (tr F), ``frobenius`` (‖F‖), ``spectral`` (‖F‖₂); at λ ``damping``,
        ``logdet`` (log det H), ``trace_inverse`` (tr H⁻¹), ``effective_dim`` (tr FH⁻¹), ``largest`` and ``smallest`` (eigenvalues of
        H), ``cond_h``, ``cond_k``, arrays where damping is a list; in a run of blocks of all of them, and ``cond_k`` is 0.
        ``.errors`` has a bound of the error of each, absolute.

    >>> s = run.scalars()
    >>> bool(s["logdet"] == run.scalars([1e-2, run.damping])["logdet"][1])
    True
    """
    args, dampings = _dampings(self, damping, _asking(None, divisor, min_rows, at_least, exactly, whole=blocks))
    reply = self._ask("scalars", args, timeout, info)
    return _scalars(self, damping, dampings, _numbers(reply, "values"), _numbers(reply, "errors"))


def block_scalars(self: "Run", damping: Optional[npt.ArrayLike] = None, *, blocks: Blocks = None, across: bool = False,
                  divisor: Optional[str] = None, min_rows: int = 0, at_least: int = 0, exactly: Optional[int] = None,
                  info: Optional[Answer] = None, timeout: Optional[float] = None) -> List[Block]:  # fmt: skip
    """scalars of each diagonal block of H, as if its columns were all there are: HAWQ ranks layers by their traces
    (docs/blocks.md). The blocks are the run's by default, in a run without one a tensor. Where tensors have dampings of their own,
    ``damping`` names these by λ, as elsewhere.

    Args:
        damping: as for scalars.

    >>> parts = run.block_scalars(blocks=600)
    >>> [(b.lo, b.hi) for b in parts]
    [(0, 600), (600, 1000)]
    >>> bool(np.isclose(sum(b.scalars["trace"] for b in parts), run.scalars()["trace"]))
    True
    """
    args, dampings = _dampings(self, damping, _asking(None, divisor, min_rows, at_least, exactly))
    if blocks is None and not across:
        of, _, crossing = str(self._spec.get("blocks") or "tensor").partition(" ")
        blocks, across = of if of == "tensor" else int(of), bool(crossing)
    reply = self._ask("scalars", {**args, **run_blocks(blocks, across)}, timeout, info)
    ends = _numbers(reply, "steps", "<i8").tolist()
    shape = (len(ends), -1)
    values, errors = _numbers(reply, "values").reshape(shape), _numbers(reply, "errors").reshape(shape)
    tensors = reply.get("labels") or [""] * len(ends)
    return [
        Block(lo, hi, tensor, _scalars(self, damping, dampings, x, e))
        for lo, hi, tensor, x, e in zip([0, *ends], ends, tensors, values, errors)
    ]


def _dampings(self: "Run", damping: Optional[npt.ArrayLike], args: Dict[str, Any]) -> Tuple[Dict[str, Any], Array]:
    dampings = np.zeros(0) if damping is None else np.asarray(damping, dtype=np.float64)
    if dampings.ndim > 1:
        raise invalid("dimensions of damping", dampings.ndim, "0 or 1")
    if damping is not None and dampings.size == 0:
        raise invalid("dampings", 0, "in [1, 1024]")
    return {**args, "dampings": np.ascontiguousarray(dampings, dtype="<f8").tobytes()}, dampings


def _scalars(self: "Run", damping: Optional[npt.ArrayLike], dampings: Array, values: Array, errors: Array) -> Scalars:
    s = Scalars()
    s.errors = {}
    many = damping is not None and dampings.ndim == 1
    for into, x in ((s, values), (s.errors, errors)):
        into.update(zip(("n", "trace", "frobenius", "spectral"), x[:4].tolist()))
        names = ("logdet", "trace_inverse", "effective_dim", "largest", "smallest", "cond_h", "cond_k")
        for name, at in zip(names, x[4:].reshape(-1, len(names)).T):
            into[name] = at.copy() if many else float(at[0])
    s["damping"] = dampings if many else (self.damping if damping is None else float(dampings))
    return s


def likelihoods(self: "Run", damping: Optional[npt.ArrayLike] = None, h: Optional[npt.ArrayLike] = None, *, divisor: Optional[str] = None,
                blocks: Whole = None,
                min_rows: int = 0, at_least: int = 0, exactly: Optional[int] = None, wire: Optional[str] = None,
                info: Optional[Answer] = None, timeout: Optional[float] = None) -> Likelihoods:  # fmt: skip
    """log N(h; 0, H) = −½(d log 2π + log det H + hᵀH⁻¹h) in nats of gradients h (k, d) at each λ of damping, the run's by default, at
    most 64; or, without h, of the window's own gradients, each left out of H (docs/damping.md).

    Args:
        damping: λ, or a list.
        h: gradients that are not in the window.

    >>> run.likelihoods([1e-3, 1e-2]).values.shape
    (2, 10)
    """
    dampings = np.atleast_1d(np.asarray(self.damping if damping is None else damping, dtype="<f8"))
    args = _asking(None, divisor, min_rows, at_least, exactly, wire, whole=blocks)
    args["dampings"] = np.ascontiguousarray(dampings).tobytes()
    if dampings.ndim != 1 or dampings.size == 0:
        raise invalid("dampings", dampings.shape, "one, or a list of them")
    if h is None:
        reply = self._ask("likelihoods", args, timeout, info)
    else:
        reply = _numbers_of(self, "likelihoods", _vector(h), args, timeout, info)
    shape = (len(dampings), -1)
    values, errors = _numbers(reply, "values").reshape(shape), _numbers(reply, "errors").reshape(shape)
    return Likelihoods(dampings, values, errors, _numbers(reply, "steps", "<u8"))


def tune(self: "Run", damping: npt.ArrayLike, h: Optional[npt.ArrayLike] = None, *, divisor: Optional[str] = None,
         blocks: Whole = None, min_rows: int = 0,
         at_least: int = 0, exactly: Optional[int] = None, wire: Optional[str] = None, info: Optional[Answer] = None,
         timeout: Optional[float] = None) -> Tuning:  # fmt: skip
    """Ranks dampings by how well H predicts gradients that are not in it: held-out ones h (k, d),
    two or more, or, without, the window's, each left out. The criterion is the mean of likelihoods (docs/damping.md has
    its source, and where it fails).

    Args:
        damping: a list of λ, at most 64.
        h: (k, d), k ≥ 2.

    >>> t = run.tune(np.geomspace(1e-4, 1e2, 7))
    >>> float(t.below.min()), t.best in t.dampings
    (0.0, True)
    """
    info = Answer() if info is None else info
    if h is None:
        some = [self.likelihoods(damping, None, divisor=divisor, blocks=blocks, min_rows=min_rows, at_least=at_least, exactly=exactly,
                                 info=info, timeout=timeout)]  # fmt: skip
    else:
        held_out = np.atleast_2d(_vector(h))
        some = []
        for k in range(0, len(held_out), self.max_vectors):  # all at the version of the first
            some.append(self.likelihoods(damping, held_out[k : k + self.max_vectors], divisor=divisor, blocks=blocks, min_rows=min_rows,
                                         at_least=at_least, exactly=exactly, wire=wire, info=info, timeout=timeout))  # fmt: skip
            exactly, at_least = info.version or None, 0
    values, dampings = np.concatenate([x.values for x in some], axis=1), some[0].dampings
    n = values.shape[1]
    if n < 2:
        raise invalid("gradients", n, "at least 2, for a standard error")
    mean = values.mean(axis=1)
    best = max(range(len(dampings)), key=lambda i: (mean[i], dampings[i]))
    less = values[best] - values
    error = [x.std(axis=1, ddof=1) / np.sqrt(n) for x in (values, less)]
    return Tuning(float(dampings[best]), dampings, mean, error[0], less.mean(axis=1), error[1])


def spectrum(self: "Run", *, divisor: Optional[str] = None,
             blocks: Whole = None, min_rows: int = 0, at_least: int = 0, exactly: Optional[int] = None,
             info: Optional[Answer] = None, timeout: Optional[float] = None) -> Spectrum:  # fmt: skip
    """The eigenvalues of F, the min(n, d) largest; those of H are λ more, and λ itself d − n times (docs/queries.md).

    >>> e = run.spectrum().eigenvalues
    >>> bool((np.diff(e) <= 0).all()), len(e) == run.status()["rows"]
    (True, True)
    """
    reply = self._ask("spectrum", _asking(None, divisor, min_rows, at_least, exactly, whole=blocks), timeout, info)
    return Spectrum(_numbers(reply, "values"), float(_numbers(reply, "errors")[0]))
