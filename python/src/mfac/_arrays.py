"""Arguments as they are sent to the agent, and numbers as they come."""

import json
import math
import operator
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import numpy.typing as npt

from ._errors import invalid
from ._memory import Array

if TYPE_CHECKING:
    from ._client import Layout

_DTYPES = {"float32": "f32", "float64": "f64", "int8": "i8"}
_F32, _F64 = np.dtype(np.float32), np.dtype(np.float64)

Blocks = Optional[Union[str, int]]
"""``"tensor"``, a block for each tensor of the layout, or the columns of a block."""
Whole = Optional[str]
"""``"whole"``, the whole of H where the run has blocks."""


def settle_layout(layout: "Optional[Layout]", dim: Optional[int]) -> Tuple[Optional[bytes], Optional[int]]:
    """The layout as it is sent, and the number of parameters."""
    d = None if dim is None else operator.index(dim)
    if layout is None:
        if d is None:
            raise invalid("dim", "missing", "given, or a layout")
        return None, d
    pairs = layout.items() if hasattr(layout, "items") else layout
    shapes = [(str(name), [operator.index(n) for n in shape]) for name, shape in pairs]
    size = sum(math.prod(shape) for _, shape in shapes)
    if d is not None and d != size:
        raise invalid("dim", d, f"{size}, the size of the layout")
    return json.dumps([{"name": name, "shape": shape} for name, shape in shapes], ensure_ascii=False).encode(), size


def _vector(v: npt.ArrayLike, dtype: Optional["np.dtype[Any]"] = None) -> Array:
    """v as an array of one or two dimensions, float64 if it is, or holds integers, else float32; or as dtype."""
    a = _array(v)
    if a.dtype.kind not in "fiub":
        raise invalid("dtype", a.dtype, "a real number's")
    if a.ndim not in (1, 2) or a.size == 0:
        raise invalid("shape", a.shape, "(d,) or (k, d)")
    if dtype is None:
        dtype = _F32 if a.dtype.kind == "f" and a.dtype.itemsize <= 4 else _F64
    if a.dtype == dtype:
        return a
    with np.errstate(over="ignore"):  # an infinity is refused where it arrives
        return a.astype(dtype)


def _array(v: Any) -> Array:
    """v as an array. A tensor of torch may want a gradient, lie on a device, or be of bfloat16, which numpy doesn't have: it is
    float32 exactly."""
    if type(v).__module__.partition(".")[0] == "torch" and hasattr(v, "detach"):
        v = v.detach()
        v = (v.float() if str(v.dtype) == "torch.bfloat16" else v).cpu()
    return np.asarray(v)


def _one(v: npt.ArrayLike) -> Array:
    a = _array(v)
    if a.ndim != 1:
        raise invalid("shape", a.shape, "(d,)")
    return a


def _float(dtype: npt.DTypeLike) -> "np.dtype[Any]":
    kind = np.dtype(dtype)
    if kind not in (_F32, _F64):
        raise invalid("dtype", kind, "float32 or float64")
    return kind


def _view(pool: Any, a: Array, held: List[Any]) -> Dict[str, Any]:
    """Where a's numbers lie in shared memory, into which it is copied if it isn't there."""
    found = pool.find(a)
    if found is None:
        shared = pool.array(a.shape, a.dtype.newbyteorder("="))
        np.copyto(shared, a)
        found, a = pool.find(shared), shared
    held.append(a)
    block, offset = found
    rows, cols = a.shape if a.ndim == 2 else (1, a.shape[0])
    return {"buffer": block.number, "offset": offset, "dtype": _DTYPES[a.dtype.name], "rows": rows, "cols": cols}


def run_blocks(blocks: Blocks, across: bool) -> Dict[str, Any]:
    """Blocks of a run, as they are sent."""
    if blocks is None:
        if across:
            raise invalid("across", across, "left out without blocks")
        return {}
    if isinstance(blocks, str):
        if blocks != "tensor" or across:
            raise invalid("blocks", repr(blocks), '"tensor", or a number of columns; across is for the latter')
        return {"blocks": 0}
    n = operator.index(blocks)
    if not 0 < n < 1 << 63:
        raise invalid("blocks", n, "at least 1 column")
    return {"blocks": n, "across": across or None}


def _blocks(blocks: Blocks, across: bool) -> Dict[str, Any]:
    """Blocks of a query: ``"whole"`` too."""
    if blocks == "whole" and not across:
        return {"whole": True}
    return run_blocks(blocks, across)


def _is_whole(blocks: Whole) -> Optional[bool]:
    if blocks not in (None, "whole"):
        raise invalid("blocks", repr(blocks), '"whole", or left out: this is not answered by blocks')
    return blocks == "whole" or None


def _asking(
    damping: Optional[float], divisor: Optional[str], min_rows: int, at_least: int, exactly: Optional[int],
    wire: Optional[str] = None, result: Optional[str] = None, verify: bool = False, refine: bool = False, whole: Whole = None,
) -> Dict[str, Any]:  # fmt: skip
    return {
        "damping": _number(damping), "divisor": divisor, "min_rows": operator.index(min_rows) or None,
        "at_least": _uint64("at least", at_least) or None, "exactly": None if exactly is None else _uint64("exactly", exactly),
        "wire": wire, "result": result, "verify": bool(verify) or None, "refine": bool(refine) or None,
        "whole": _is_whole(whole),
    }  # fmt: skip


def _number(x: Optional[float]) -> Optional[float]:
    return None if x is None else float(x)


def _uint64(what: str, x: int) -> int:
    n = operator.index(x)
    if not 0 <= n < 1 << 64:
        raise invalid(what, n, f"in [0, {(1 << 64) - 1}]")
    return n


def _indices(j: Union[int, Sequence[int]]) -> Array:
    a = np.asarray(j)
    if a.dtype.kind not in "iu" or a.ndim > 1 or a.size == 0:
        raise invalid("index", a.dtype if a.size else "empty", "an integer, or a list of integers")
    return np.ascontiguousarray(a.reshape(-1), dtype="<i8")


def _numbers(reply: Dict[str, Any], key: str, dtype: str = "<f8") -> Array:
    return np.frombuffer(reply.get(key) or b"", dtype=dtype).astype(np.dtype(dtype).newbyteorder("="))
