"""The methods of Run that publish gradients, change the window, and say what the run is."""

import json
import math
import operator
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np
import numpy.typing as npt

from ._answers import Answer, Commit, Window
from ._arrays import _F32, Whole, _is_whole, _number, _numbers, _uint64, _vector, _view
from ._errors import invalid
from ._link import Link, Progress
from ._memory import Array

if TYPE_CHECKING:
    from ._run import Run


def publish(
    self: "Run",
    step: int,
    g: npt.ArrayLike,
    *,
    columns: Optional[int] = None,
    wire: Optional[str] = None,
    weight: Optional[float] = None,
    label: Union[str, Sequence[str]] = (),
    token: Optional[int] = None,
    step_deadline: Optional[float] = None,
    wait: bool = True,
    timeout: Optional[float] = None,
) -> Commit:
    """Puts a gradient in the window and returns when it is committed, everywhere or nowhere.

    Args:
        step: its number, above all before it.
        g: (d,), or (k, d) for the steps step … step + k − 1, several under way at once. Sent as float32, rounded once.
        columns: g is columns from this one on alone; others publish the rest of the same step.
        wire: ``"bf16"`` or ``"f16"`` to send it in half the bytes.
        weight: w of the gradient in F = (1/N) Σ w g gᵀ; 1 by default (docs/weights.md).
        label: comes back with the gradient's scores, such as its example's id: at most 256 bytes; of k gradients a list of k.
        token: tells publications of a step apart (docs/protocol.md); by default random, or 0 beside columns.
        step_deadline: seconds after which the step is dropped if it is not whole.
        wait: False returns once it is staged, with a Commit of zeros.
        timeout: seconds; two minutes a gradient by default.

    Returns:
        The version and rows of the window, after the last of the gradients.

    Raises:
        NotGrowing: the step is not above the newest one.
        NotFinite: there is a NaN or an infinity. Of several gradients, ``commits`` of the error has those before it.
        Overflow: a number that ``wire``, or the run's ``store``, does not have.
        Frozen: the run is.

    >>> run.publish(100, np.ones(run.dim)).rows
    9
    """
    link = self._linked()
    held: List[Any] = []
    args = _sending(self, link[0], step, g, columns, wire, weight, label, token, step_deadline, held)
    reply = self._ask("publish", {**args, "no_wait": None if wait else True}, timeout, link=link, held=held)
    versions = np.frombuffer(reply["versions"] or b"", dtype="<u8")
    return Commit(int(versions[-1]), int(reply["rows"][-1]))


def _sending(
    self: "Run", link: Link, step: int, g: npt.ArrayLike, columns: Optional[int], wire: Optional[str], weight: Optional[float],
    label: Union[str, Sequence[str]], token: Optional[int], step_deadline: Optional[float], held: List[Any],
) -> Dict[str, Any]:  # fmt: skip
    args: Dict[str, Any] = {"step": _uint64("step", step), "in": _view(link.pool, _vector(g, _F32), held), "wire": wire}
    if weight is not None:
        args["weight"] = float(weight)
    if label:
        args["labels"] = [label] if isinstance(label, str) else [str(x) for x in label]
    if columns is not None:
        args["columns"], args["lo"] = True, operator.index(columns)
    if token is not None:
        args["token"] = _uint64("token", token)
    if step_deadline is not None:
        if not 0 < step_deadline <= 86400:
            raise invalid("step deadline", step_deadline, "in (0, 86400] seconds")
        args["step_deadline_ms"] = max(1, math.ceil(step_deadline * 1000))
    return args


def precondition(
    self: "Run",
    step: int,
    g: npt.ArrayLike,
    *,
    dtype: npt.DTypeLike = np.float32,
    damping: Optional[float] = None,
    divisor: Optional[str] = None,
    blocks: Whole = None,
    min_rows: int = 0,
    columns: Optional[int] = None,
    wire: Optional[str] = None,
    weight: Optional[float] = None,
    label: str = "",
    result: Optional[str] = None,
    token: Optional[int] = None,
    step_deadline: Optional[float] = None,
    out: Optional[Array] = None,
    info: Optional[Answer] = None,
    timeout: Optional[float] = None,
) -> Array:
    """Publishes a gradient and returns H⁻¹g with g in the window: what an optimizer does at each step, in less than
    publish and ihvp take.

    Args:
        step, g, columns, wire, weight, label, token, step_deadline: as for publish; g is (d,), or the columns.
        dtype: of the result, float32 or float64.
        damping, divisor, min_rows, result, info, timeout: as for ihvp.
        out: may be g.

    Returns:
        H⁻¹g, (d,) or the columns' part of it: (g − Gᵀ(NλI + GGᵀ)⁻¹Gg)/λ, by one pass over the window and one over the result.

    Raises:
        IllConditioned, TooFewRows, Overflow: the result alone is refused; the gradient is in the window at
            ``committed_version`` of the error.

    >>> u = run.precondition(101, np.ones(run.dim))
    >>> u.shape == (run.dim,), u.dtype
    (True, dtype('float32'))
    """
    if np.ndim(g) != 1:
        raise invalid("dimensions of g", np.ndim(g), "1: a gradient at a time")
    link = self._linked()
    sending = _sending(self, link[0], step, g, columns, wire, weight, label, token, step_deadline, [])
    sending.pop("in")
    args = {**sending, "damping": _number(damping), "divisor": divisor, "min_rows": min_rows or None, "result": result}
    args["whole"] = _is_whole(blocks)
    return self._vectors("precondition", g, None, dtype if out is None else None, out, args, timeout, info, None, sent=_F32)


def forget(self: "Run", steps: Union[int, Iterable[int]], *, timeout: Optional[float] = None) -> Commit:
    """Takes gradients out of the window, all or none, and returns when their memory is zeroed on every worker: answers are then
    those of a window that never had them (docs/forgetting.md).

    Args:
        steps: one, or several.

    Raises:
        UnknownStep: one is not in the window; nothing is forgotten.

    >>> run.forget([3, 7]).rows
    8
    """
    listed = [steps] if isinstance(steps, (int, np.integer)) else list(steps)
    payload = np.array([_uint64("step", s) for s in listed], dtype="<u8").tobytes()
    reply = self._ask("forget", {"steps": payload}, timeout)
    return Commit(reply["version"], reply["rows"])


def set(self: "Run", *, damping: Optional[float] = None, divisor: Optional[str] = None, timeout: Optional[float] = None) -> Commit:
    """Gives the run another λ or divisor, for all of its clients. The window stays.

    Args:
        damping: λ > 0.
        divisor: ``"capacity"`` or ``"count"``.

    >>> run.set(damping=1e-3).rows
    10
    >>> run.damping
    0.001
    """
    reply = self._ask("set", {"damping": _number(damping), "divisor": divisor}, timeout)
    self.status(timeout=timeout)
    return Commit(reply["version"], reply["rows"])


def resize(self: "Run", window: int, *, timeout: Optional[float] = None) -> Commit:
    """Gives the run a window of another size, for all of its clients. Of a smaller one the oldest gradients leave; those that
    stay keep every bit. It waits for the steps that are open.

    Args:
        window: m, in [1, 4096].

    Raises:
        TooLarge: a worker has not the memory; the run stays as it was.

    >>> run.resize(9).rows, run.window
    (9, 9)
    """
    reply = self._ask("resize", {"window": operator.index(window)}, timeout)
    self.status(timeout=timeout)
    return Commit(reply["version"], reply["rows"])


def freeze(self: "Run", *, timeout: Optional[float] = None, progress: Optional[Progress] = None) -> Commit:
    """Makes the run one of a fixed window, and returns when its workers keep W = L⁻¹G of it (M-FAC's static algorithm): the
    diagonal then takes O(n) a column and an element O(m), the same bytes as without, at the run's damping and divisor. It takes
    8n bytes a column (``frozen`` tells). Publishing raises Frozen; thaw and forget end it.

    Raises:
        TooLarge: a worker has not that memory; nothing has changed.

    >>> before = run.diag()
    >>> _ = run.freeze()
    >>> run.frozen()["state"], bool((run.diag() == before).all())
    ('frozen', True)
    >>> run.thaw().rows
    10
    """
    reply = self._ask("freeze", {}, timeout, None, progress)
    return Commit(reply["version"], reply["rows"])


def thaw(self: "Run", *, timeout: Optional[float] = None) -> Commit:
    """Lets the window of a frozen run change again, and the workers give the memory back.

    >>> _ = run.freeze()
    >>> _ = run.thaw()
    >>> run.publish(200, np.ones(run.dim)).rows
    11
    """
    reply = self._ask("freeze", {"thaw": True}, timeout)
    return Commit(reply["version"], reply["rows"])


def frozen(self: "Run", *, timeout: Optional[float] = None) -> Dict[str, Any]:
    """Whether the run is frozen (``state``), and what that takes on each of its ``workers``, or would take: ``kept``, ``making``
    and ``free``, in bytes.

    >>> run.frozen()["state"]
    'thawed'
    """
    reply: Dict[str, Any] = self._ask("frozen", {}, timeout)["frozen"]
    return reply


def status(self: "Run", *, timeout: Optional[float] = None) -> Dict[str, Any]:
    """How the run stands: ``version``, ``rows``, ``newest``, ``cond``, ``state``, ``lost``, ``spec`` and more (``info`` in
    docs/protocol.md).

    >>> s = run.status()
    >>> s["rows"], s["newest"], s["state"]
    (10, 101, 'ready')
    """
    reply = self._ask("status", {}, timeout)
    self._heard(reply)
    info: Dict[str, Any] = reply["info"]
    return info


def steps(self: "Run", *, timeout: Optional[float] = None) -> Window:
    """Which steps are in the window, oldest first.

    >>> run.steps().steps[:3]
    array([0, 1, 2], dtype=uint64)
    """
    reply = self._ask("steps", {}, timeout)
    return Window(reply["version"], _numbers(reply, "steps", "<u8"))


def labels(self: "Run", *, timeout: Optional[float] = None) -> Window:
    """Which steps are in the window, with their labels.

    >>> _ = run.publish(102, np.ones(run.dim), label="img-7")
    >>> run.labels().labels[-2:]
    ['', 'img-7']
    """
    reply = self._ask("labels", {}, timeout)
    return Window(reply["version"], _numbers(reply, "steps", "<u8"), reply.get("labels"))


def layout(self: "Run", *, timeout: Optional[float] = None) -> Optional[Dict[str, Tuple[int, ...]]]:
    """The named tensors that the parameters are, in order, with their shapes; None if the run has no layout.

    >>> client.attach("named", layout={"w": (3, 4), "b": (4,)}, window=2).layout()
    {'w': (3, 4), 'b': (4,)}
    """
    payload = self._ask("layout", {}, timeout).get("layout")
    if payload is None:
        return None
    return {str(t["name"]): tuple(t["shape"]) for t in json.loads(payload)}


def gradient(self: "Run", step: int, *, at_least: int = 0, exactly: Optional[int] = None, out: Optional[Array] = None,
             info: Optional[Answer] = None, timeout: Optional[float] = None) -> Array:  # fmt: skip
    """The gradient in the window as step, (d,), exactly as it is stored: float32, whatever ``store`` and ``wire``.

    Args:
        step: its number.

    Raises:
        UnknownStep: it is not in the window.

    >>> bool((run.gradient(100) == 1).all())
    True
    """
    args = {"step": _uint64("step", step), "at_least": at_least or None, "exactly": exactly}
    return self._vectors("gradient", None, (self.dim,), _F32 if out is None else None, out, args, timeout, info, None, comes=_F32)
