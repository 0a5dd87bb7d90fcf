"""The methods of Run that prune."""

import operator
from typing import TYPE_CHECKING, Optional

import numpy as np
import numpy.typing as npt

from ._answers import Answer
from ._arrays import Blocks, Whole, _asking, _blocks, _one
from ._errors import invalid
from ._link import Phases, Progress
from ._memory import Array

if TYPE_CHECKING:
    from ._run import Run


def prune(self: "Run", w: npt.ArrayLike, sparsity: float = 0.0, *, rule: str = "summed", pattern: str = "",
          mask: Optional[npt.ArrayLike] = None, steps: int = 1, dtype: Optional[npt.DTypeLike] = None,
          damping: Optional[float] = None, divisor: Optional[str] = None,
          blocks: Blocks = None, across: bool = False, min_rows: int = 0, at_least: int = 0,
          exactly: Optional[int] = None, wire: Optional[str] = None, result: Optional[str] = None,
          out: Optional[Array] = None, info: Optional[Answer] = None, timeout: Optional[float] = None,
          progress: Optional[Progress] = None, phases: Optional[Phases] = None) -> Array:  # fmt: skip
    """The weights w (d,), pruned by curvature: the ⌊sparsity·d⌋ of least w²/(2[H⁻¹]ᵢᵢ) are +0, the others adapted
    (docs/pruning.md; Hassibi and Stork, 1993; Frantar, Kurtic and Alistarh, 2021).

    Args:
        sparsity: in [0, 1), of all d; those pruned before included.
        pattern: in place of sparsity ``"N:M"``, such as ``"2:4"``: of each M consecutive weights at most N are kept, along the
            last dimension of each tensor of the run's layout.
        rule: ``"summed"`` as M-FAC does, or ``"joint"``, the least increase of the quadratic.
        mask: (d,) of int8: 0 may be pruned, 1 is not to be touched, −1 was pruned before; or of bool: True is 1.
        steps: prunes in so many steps with the same gradients.
        phases: called with a Phase about once a second while the workers prune, by the thread that asks; ``progress`` hears of
            the columns of the result, which come afterwards.

    >>> p = run.prune(v, 0.8, rule="joint")
    >>> int((p == 0).sum()) == int(0.8 * run.dim)
    True
    """
    args = _asking(damping, divisor, min_rows, at_least, exactly, wire, result)
    args["sparsity"], args["rule"], args["steps"] = float(sparsity), str(rule), operator.index(steps)
    if args["steps"] < 1:
        raise invalid("steps", steps, "> 0")
    if pattern:
        keep_of = pattern.split(":")
        if len(keep_of) != 2 or not all(n.isascii() and n.isdigit() and n.strip("0") for n in keep_of):
            raise invalid("pattern", repr(pattern), '"N:M", such as "2:4"')
        args["keep"], args["of"] = int(keep_of[0]), int(keep_of[1])
    keep = None if mask is None else _mask(self, mask)
    args.update(_blocks(blocks, across))
    return self._vectors("prune", _one(w), None, dtype, out, args, timeout, info, progress, mask=keep, phases=phases)


def compensate(self: "Run", delta: npt.ArrayLike, fixed: npt.ArrayLike, *, dtype: Optional[npt.DTypeLike] = None,
               damping: Optional[float] = None, divisor: Optional[str] = None,
               blocks: Whole = None, min_rows: int = 0, at_least: int = 0,
               exactly: Optional[int] = None, wire: Optional[str] = None, result: Optional[str] = None, out: Optional[Array] = None,
               info: Optional[Answer] = None, timeout: Optional[float] = None,
               progress: Optional[Progress] = None, phases: Optional[Phases] = None) -> Array:  # fmt: skip
    """The change of all weights (d,) that raises the quadratic least when those where fixed (d,) is true change by
    delta (d,), as quantisation does: δ_rest = −G_restᵀ(NλI + A_rest)⁻¹ G_S δ_S (docs/pruning.md).

    Args:
        delta: 0 where it is not prescribed.
        fixed: (d,) of bool.
        phases: as for prune.

    >>> fixed = np.arange(run.dim) < 10
    >>> bool((run.compensate(v, fixed)[:10] == v[:10]).all())
    True
    """
    args = _asking(damping, divisor, min_rows, at_least, exactly, wire, result, whole=blocks)
    which = _mask(self, np.asarray(fixed, dtype=bool))
    return self._vectors("compensate", _one(delta), None, dtype, out, args, timeout, info, progress, mask=which, phases=phases)


def _mask(self: "Run", mask: npt.ArrayLike) -> Array:
    a = np.asarray(mask)
    if a.shape != (self.dim,):
        raise invalid("shape of the mask", a.shape, f"({self.dim},)")
    if a.dtype.kind not in "bi" or (a.dtype.kind == "i" and not np.isin(a, (-1, 0, 1)).all()):
        raise invalid("mask", a.dtype, "of bool, or of integers −1, 0 and 1")
    return np.ascontiguousarray(a, dtype=np.int8)
