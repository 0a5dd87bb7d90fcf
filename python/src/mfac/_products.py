"""The methods of Run that multiply vectors, and read elements of H⁻¹."""

import operator
from typing import TYPE_CHECKING, List, Optional, Sequence, Union

import numpy as np
import numpy.typing as npt

from ._answers import Answer
from ._arrays import Blocks, Whole, _asking, _blocks, _indices, _numbers, _uint64
from ._errors import invalid
from ._link import Progress
from ._memory import Array

if TYPE_CHECKING:
    from ._run import Run


def ihvp(self: "Run", v: npt.ArrayLike, *, damping: Optional[float] = None, dtype: Optional[npt.DTypeLike] = None,
         divisor: Optional[str] = None,
         blocks: Blocks = None, across: bool = False, min_rows: int = 0, at_least: int = 0, exactly: Optional[int] = None,
         wire: Optional[str] = None, result: Optional[str] = None, verify: bool = False, refine: bool = False,
         out: Optional[Array] = None, info: Optional[Answer] = None, timeout: Optional[float] = None,
         progress: Optional[Progress] = None) -> Array:  # fmt: skip
    """H⁻¹v, exactly: (v − Gᵀ(NλI + GGᵀ)⁻¹Gv)/λ (Woodbury), float64 throughout, with a bound of its error.

    Args:
        v: (d,), or (k, d) for k vectors at once, for the price of two passes over the window.
        dtype: of the result, float32 or float64; v's by default.
        verify: measures ‖Hx − v‖/‖v‖, by two more passes: ``info.residuals``.
        refine: refines once, and keeps what has the smaller residual.

    Raises:
        IllConditioned: the bound is above 1e-3.

    >>> x = run.ihvp(v)
    >>> X = run.ihvp(np.stack([v, 2 * v]), dtype=np.float64, damping=1e-2)
    >>> x.shape == v.shape, X.shape == (2, run.dim), X.dtype
    (True, True, dtype('float64'))
    """
    args = _asking(damping, divisor, min_rows, at_least, exactly, wire, result, verify, refine)
    args.update(_blocks(blocks, across))
    return self._vectors("ihvp", v, None, dtype, out, args, timeout, info, progress)


def ihvp_step(self: "Run", step: Union[int, Sequence[int]], *, dtype: npt.DTypeLike = np.float32, damping: Optional[float] = None,
              divisor: Optional[str] = None,
              blocks: Blocks = None, across: bool = False, min_rows: int = 0, at_least: int = 0, exactly: Optional[int] = None,
              result: Optional[str] = None, out: Optional[Array] = None, info: Optional[Answer] = None,
              timeout: Optional[float] = None, progress: Optional[Progress] = None) -> Array:  # fmt: skip
    """H⁻¹g of the gradient in the window as step, (d,); of k steps (k, d). One pass, nothing of length d is sent.

    Args:
        step: one, or a list.

    Raises:
        UnknownStep: one is not in the window.

    >>> run.ihvp_step(100).shape == (run.dim,)
    True
    """
    one = isinstance(step, (int, np.integer))
    steps: List[int] = [operator.index(step)] if isinstance(step, (int, np.integer)) else list(step)
    coef = np.eye(len(steps))
    x = None if out is None else (out[None] if one else out)
    y = self.combine(steps, coef, dtype=dtype, damping=damping, divisor=divisor, blocks=blocks, across=across,
                     min_rows=min_rows, at_least=at_least,
                     exactly=exactly, result=result, out=x, info=info, timeout=timeout, progress=progress)  # fmt: skip
    if out is not None:
        return out
    return np.asarray(y[0]) if one else y


def combine(self: "Run", steps: Sequence[int], coef: npt.ArrayLike, *, dtype: npt.DTypeLike = np.float32, damping: Optional[float] = None,
            divisor: Optional[str] = None,
            blocks: Blocks = None, across: bool = False, min_rows: int = 0, at_least: int = 0, exactly: Optional[int] = None,
            result: Optional[str] = None, out: Optional[Array] = None, info: Optional[Answer] = None,
            timeout: Optional[float] = None, progress: Optional[Progress] = None) -> Array:  # fmt: skip
    """H⁻¹ Σ coef[i]·g[i] over gradients in the window, named by their n steps: coef (n,) gives (d,), (k, n) gives (k, d).
    It is Gᵀ(NλI + GGᵀ)⁻¹N·coef: one pass (docs/maths.md, "A combination of stored gradients").

    Args:
        steps: n of those in the window.
        coef: float64.

    Raises:
        UnknownStep: one is not in the window.

    >>> run.combine([100, 101], [0.5, -0.5]).shape == (run.dim,)
    True
    """
    c = np.ascontiguousarray(coef, dtype="<f8")
    if c.ndim not in (1, 2):
        raise invalid("dimensions of coef", c.ndim, "1 or 2")
    if c.shape[-1] != len(steps) or c.size == 0:
        raise invalid("coefficients", c.shape[-1], f"{len(steps)}, one a step")
    args = _asking(damping, divisor, min_rows, at_least, exactly, None, result)
    args["steps"] = np.array([_uint64("step", s) for s in steps], dtype="<u8").tobytes()
    args["coef"] = c.tobytes()
    args.update(_blocks(blocks, across))
    return self._vectors("combine", None, (*c.shape[:-1], self.dim), dtype if out is None else None, out, args, timeout, info, progress)


def fvp(self: "Run", v: npt.ArrayLike, *, dtype: Optional[npt.DTypeLike] = None, divisor: Optional[str] = None,
        blocks: Whole = None, min_rows: int = 0,
        at_least: int = 0, exactly: Optional[int] = None, wire: Optional[str] = None, result: Optional[str] = None,
        out: Optional[Array] = None, info: Optional[Answer] = None, timeout: Optional[float] = None,
        progress: Optional[Progress] = None) -> Array:  # fmt: skip
    """F v with F = GᵀG/N, (d,) or (k, d): Gᵀ(Gv)/N, two passes (docs/functions.md).

    Args:
        v: (d,), or (k, d).

    Raises:
        IllConditioned: v is all but orthogonal to the gradients, so that F v has no relative error that is bounded.

    >>> bool(np.allclose(run.hvp(v), run.fvp(v) + run.damping * v, rtol=1e-5, atol=1e-7))
    True
    """
    args = _asking(None, divisor, min_rows, at_least, exactly, wire, result, whole=blocks)
    return self._vectors("fvp", v, None, dtype, out, args, timeout, info, progress)


def hvp(self: "Run", v: npt.ArrayLike, *, dtype: Optional[npt.DTypeLike] = None, damping: Optional[float] = None,
        divisor: Optional[str] = None,
        blocks: Whole = None, min_rows: int = 0, at_least: int = 0, exactly: Optional[int] = None, wire: Optional[str] = None,
        result: Optional[str] = None, out: Optional[Array] = None, info: Optional[Answer] = None,
        timeout: Optional[float] = None, progress: Optional[Progress] = None) -> Array:  # fmt: skip
    """H v with H = F + λI, (d,) or (k, d): λv + Gᵀ(Gv)/N, two passes (docs/functions.md).

    Args:
        v: (d,), or (k, d).

    >>> bool(np.allclose(run.ihvp(run.hvp(v.astype(float))), v, rtol=1e-6))
    True
    """
    args = _asking(damping, divisor, min_rows, at_least, exactly, wire, result, whole=blocks)
    return self._vectors("hvp", v, None, dtype, out, args, timeout, info, progress)


def invsqrt(self: "Run", v: npt.ArrayLike, *, dtype: Optional[npt.DTypeLike] = None, damping: Optional[float] = None,
            divisor: Optional[str] = None, blocks: Whole = None, min_rows: int = 0, at_least: int = 0, exactly: Optional[int] = None,
            wire: Optional[str] = None, result: Optional[str] = None, out: Optional[Array] = None, info: Optional[Answer] = None,
            timeout: Optional[float] = None, progress: Optional[Progress] = None) -> Array:  # fmt: skip
    """H^(−½)v, the symmetric root, (d,) or (k, d): applied twice it is H⁻¹v (docs/functions.md; the contour integral of Hale, Higham
    and Trefethen, 2008).

    Args:
        v: (d,), or (k, d).

    >>> bool(np.allclose(run.invsqrt(run.invsqrt(v.astype(float))), run.ihvp(v), rtol=1e-5))
    True
    """
    args = _asking(damping, divisor, min_rows, at_least, exactly, wire, result, whole=blocks)
    return self._vectors("invsqrt", v, None, dtype, out, args, timeout, info, progress)


def sample(self: "Run", seed: int, *, k: Optional[int] = None, first: int = 0, dtype: npt.DTypeLike = np.float32,
           damping: Optional[float] = None, divisor: Optional[str] = None, blocks: Whole = None, min_rows: int = 0, at_least: int = 0,
           exactly: Optional[int] = None, result: Optional[str] = None, out: Optional[Array] = None, info: Optional[Answer] = None,
           timeout: Optional[float] = None, progress: Optional[Progress] = None) -> Array:  # fmt: skip
    """Sample number ``first`` of seed from N(0, H⁻¹), (d,); with k the samples first … first + k − 1, (k, d). The same
    bytes whatever the number of workers, and of samples asked for together (docs/functions.md).

    Args:
        seed, first: of the stream, and the number in it, uint64.
        k: how many; ``max_vectors`` at most.

    >>> bool((run.sample(42, k=3)[2] == run.sample(42, first=2)).all())
    True
    """
    args = _asking(damping, divisor, min_rows, at_least, exactly, None, result, whole=blocks)
    args["seed"], args["first"] = _uint64("seed", seed), operator.index(first)
    if k is not None and operator.index(k) < 1:
        raise invalid("k", k, "> 0")
    shape = (self.dim,) if k is None else (operator.index(k), self.dim)
    return self._vectors("sample", None, shape, dtype if out is None else None, out, args, timeout, info, progress)


def diag(self: "Run", *, dtype: npt.DTypeLike = np.float32, damping: Optional[float] = None, divisor: Optional[str] = None,
         blocks: Blocks = None, across: bool = False, min_rows: int = 0,
         at_least: int = 0, exactly: Optional[int] = None, result: Optional[str] = None, out: Optional[Array] = None,
         info: Optional[Answer] = None, timeout: Optional[float] = None, progress: Optional[Progress] = None) -> Array:  # fmt: skip
    """The diagonal of H⁻¹, (d,): (1 − ‖L⁻¹G[:, j]‖²)/λ with LLᵀ = NλI + GGᵀ. It takes d·m²/2 products, so give large
    runs the time (docs/elements.md).

    >>> bool(np.isclose(run.diag(dtype=np.float64)[5], run.element(5, 5)))
    True
    """
    args = _asking(damping, divisor, min_rows, at_least, exactly, None, result)
    args.update(_blocks(blocks, across))
    return self._vectors("diag", None, (self.dim,), dtype if out is None else None, out, args, timeout, info, progress)


def column(self: "Run", j: Union[int, Sequence[int]], *, dtype: npt.DTypeLike = np.float32, damping: Optional[float] = None,
           divisor: Optional[str] = None, blocks: Whole = None, min_rows: int = 0, at_least: int = 0, exactly: Optional[int] = None,
           result: Optional[str] = None, out: Optional[Array] = None, info: Optional[Answer] = None,
           timeout: Optional[float] = None, progress: Optional[Progress] = None) -> Array:  # fmt: skip
    """Column j of H⁻¹, (d,): (eⱼ − Gᵀ(NλI + GGᵀ)⁻¹G[:, j])/λ; of k indices (k, d), a row for each (docs/elements.md).

    Args:
        j: an index in [0, d), or a list.

    >>> bool(np.isclose(run.column(5, dtype=np.float64)[7], run.element(5, 7)))
    True
    """
    index = _indices(j)
    args = _asking(damping, divisor, min_rows, at_least, exactly, None, result, whole=blocks)
    args["index"] = index.tobytes()
    shape = (self.dim,) if isinstance(j, (int, np.integer)) else (len(index), self.dim)
    return self._vectors("column", None, shape, dtype if out is None else None, out, args, timeout, info, progress)


def element(self: "Run", i: int, j: int, *, damping: Optional[float] = None, divisor: Optional[str] = None,
            blocks: Blocks = None, across: bool = False, min_rows: int = 0,
            at_least: int = 0, exactly: Optional[int] = None, info: Optional[Answer] = None,
            timeout: Optional[float] = None) -> float:  # fmt: skip
    """[H⁻¹]ᵢⱼ, float64: what subblock has for two columns (docs/elements.md).

    Args:
        i, j: indices in [0, d).

    >>> run.element(3, 5) == run.element(5, 3)
    True
    """
    q = [i] if i == j else [i, j]
    x = self.subblock(
        q,
        damping=damping,
        divisor=divisor,
        blocks=blocks,
        across=across,
        min_rows=min_rows,
        at_least=at_least,
        exactly=exactly,
        info=info,
        timeout=timeout,
    )
    return float(x[0, -1])


def subblock(self: "Run", index: Sequence[int], *, damping: Optional[float] = None, divisor: Optional[str] = None,
             blocks: Blocks = None, across: bool = False, min_rows: int = 0,
             at_least: int = 0, exactly: Optional[int] = None, info: Optional[Answer] = None,
             timeout: Optional[float] = None) -> Array:  # fmt: skip
    """[H⁻¹]_QQ of the q columns that index names, at most 2,048: (q, q) float64 (docs/elements.md).

    Args:
        index: q different ones in [0, d).

    Raises:
        TooLarge: the coordinator has not that memory or time.

    >>> run.subblock([3, 5, 8]).shape
    (3, 3)
    """
    q = _indices(index)
    args = _asking(damping, divisor, min_rows, at_least, exactly)
    args.update(_blocks(blocks, across))
    args["index"] = q.tobytes()
    return _numbers(self._ask("subblock", args, timeout, info), "values").reshape(len(q), len(q))
