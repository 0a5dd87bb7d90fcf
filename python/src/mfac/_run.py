"""A run: publishing gradients to it, and asking it."""

import json
import math
import operator
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import numpy.typing as npt

from ._errors import UnknownRun, invalid
from ._link import Link, Progress
from ._memory import Array

if TYPE_CHECKING:
    from ._client import Client, Layout

_DTYPES = {"float32": "f32", "float64": "f64", "int8": "i8"}
_COPIED = 1 << 20  # bytes of a result that is small enough to be copied out of shared memory
_F32, _F64 = np.dtype(np.float32), np.dtype(np.float64)


Blocks = Optional[Union[str, int]]
"""``"tensor"``, a block for each tensor of the layout, or the columns of a block."""
Whole = Optional[str]
"""``"whole"``, where nothing else can be given."""


@dataclass
class Answer:
    """Which window an answer is of, and how wrong it can be. Pass one as ``info=`` to have it filled.

    >>> a = mfac.Answer()
    >>> x = run.ihvp(v, info=a)
    >>> a.rows == run.status()["rows"], 0 < a.bound < 1e-6
    (True, True)
    """

    version: int = 0
    """Of the window."""
    rows: int = 0
    """Gradients in it."""
    bounds: List[float] = field(default_factory=list)
    """Of the relative error in the 2-norm, one a vector (of elements: relative to √([H⁻¹]ᵢᵢ[H⁻¹]ⱼⱼ)); empty where an answer
    has none, or has errors of its own."""
    residuals: List[float] = field(default_factory=list)
    """‖Hx − v‖/‖v‖ of each vector, where verify or refine asks for them."""

    @property
    def bound(self) -> float:
        """The largest of the bounds, 0 if there is none.

        >>> mfac.Answer(bounds=[1e-9, 3e-9]).bound
        3e-09
        """
        return max(self.bounds, default=0.0)

    def _fill(self, reply: Dict[str, Any]) -> None:
        self.version, self.rows = reply["version"], reply["rows"]
        self.bounds, self.residuals = list(reply.get("bounds") or []), list(reply.get("residuals") or [])


class Commit(NamedTuple):
    """A gradient is in the window: at which version, among how many."""

    version: int
    rows: int


Labels = Optional[List[str]]
"""Of the gradients in the window, ``""`` where there is none; None where none has one."""


class Window(NamedTuple):
    """The steps in the window, oldest first (uint64), and their labels where these were asked for."""

    version: int
    steps: Array
    labels: Labels = None


class Scores(NamedTuple):
    """gᵀH⁻¹v of each gradient in the window (uint64 ``steps``, oldest first): (n,), or (k, n) of k vectors, float64."""

    steps: Array
    scores: Array
    labels: Labels = None


class Pairs(NamedTuple):
    """uᵀH⁻¹v of each pair, and a bound of its error, absolute; float64."""

    values: Array
    errors: Array


class Influence(NamedTuple):
    """g_iᵀH⁻¹g_j of the gradients in the window, (n, n) float64, and a bound of each row's error in the 2-norm, absolute."""

    steps: Array
    values: Array
    errors: Array
    labels: Labels = None


class SelfInfluence(NamedTuple):
    """gᵀH⁻¹g of each gradient in the window, and ``left_out``: the same with the gradient left out of H, N as it is. (n,)
    float64, each with bounds of its errors, absolute."""

    steps: Array
    values: Array
    left_out: Array
    errors: Array
    left_out_errors: Array
    labels: Labels = None


class Spectrum(NamedTuple):
    """The min(rows, d) largest eigenvalues of F, the largest first, float64; each is within ``error`` of the exact one."""

    eigenvalues: Array
    error: float


class Likelihoods(NamedTuple):
    """log N(h; 0, H) of n gradients in nats at L dampings: (L, n) float64, and bounds of the errors, absolute. ``steps`` names the
    window's gradients where each was left out, else it is empty."""

    dampings: Array
    values: Array
    errors: Array
    steps: Array


class Tuning(NamedTuple):
    """The dampings by the mean likelihood of gradients, (L,) float64 each: ``below`` is by how much a mean is below the best one, and
    ``below_error`` the standard error of that difference, taken gradient by gradient. ``best`` is the best damping."""

    best: float
    dampings: Array
    mean: Array
    std_error: Array
    below: Array
    below_error: Array


class Block(NamedTuple):
    """Columns [lo, hi) of H, in the tensor of that name, ``""`` without a layout, and the numbers of that block."""

    lo: int
    hi: int
    tensor: str
    scalars: "Scalars"


class Scalars(Dict[str, Any]):
    """Numbers of the spectrum by name; ``errors`` has a bound of each, absolute."""

    errors: Dict[str, Any]


class Run:
    """A run, made by Client.attach or Client.join. It may be used by several threads at once.

    **Arrays.** Vectors are (d,), or (k, d) for k at once, of at most ``max_vectors``, and results have their shape. float64 is
    sent and answered as such, integers too; float32 as such, float16 too. ``dtype=`` asks for another result: float32 is
    float64 rounded once. A vector is copied once into memory shared with the agent, unless it lies there (Client.empty); a
    large result is an array over such memory.

    **Options** that most queries have:

    - ``dtype``: of the result, float32 or float64; the vector's by default, else float32.
    - ``damping``: λ of this answer instead of the run's; > 0.
    - ``divisor``: N of this answer, ``"capacity"`` or ``"count"``.
    - ``min_rows``: TooFewRows where the window has fewer.
    - ``blocks``, ``across``: H's diagonal blocks in its place (docs/blocks.md): ``"tensor"``, one for each tensor of the layout, or so
      many columns each, which end at tensors' borders unless across. In a run that was attached with blocks, these by default, and
      ``"whole"`` is the whole of H: where nothing else can be given, the call is not answered by blocks and needs it there.
    - ``at_least``, ``exactly``: a version of the window; Behind, VersionGone.
    - ``wire``, ``result``: what vectors are sent in, and results fetched in, to save bytes: ``"f32"``, ``"bf16"``, ``"f16"``.
    - ``out``: the array to fill, of the result's shape, float32 or float64; it is returned.
    - ``info``: an Answer to fill: version, rows, bounds.
    - ``timeout``: seconds, two minutes by default; Timeout.
    - ``progress``: called with (done, total), by the thread that asks: of what is being worked out, where that takes long, then of
      the columns of the result.

    An interrupt (Ctrl-C), or an exception in progress, cancels the call and frees the workers.

    **Errors** that every call may raise: Invalid (an argument, which ``field`` names), UnknownRun (it was deleted), Timeout,
    Unavailable (NATS, the coordinator or a worker is away), Busy, Denied, AgentDied, Cancelled, Closed. Queries of vectors may raise
    NotFinite (a NaN or an infinity in a vector), Overflow (a number that the result's dtype does not have), IllConditioned (the bound
    of the error is above 1e-3, or K has no factor), TooFewRows, Behind and VersionGone. Methods name those of their own.

    **Letters**: G (n, d) the window's gradients, one a row; N the divisor; F = GᵀG/N, the empirical Fisher matrix; H = F + λI. Nothing
    has a unit but likelihoods, in nats, and times, in seconds. H⁻¹ is that of M-FAC (Frantar, Kurtic and Alistarh, NeurIPS 2021,
    section 3), by the formulas of docs/maths.md.

    >>> run
    <mfac.Run demo: dim 1000, window 64, damping 0.0001>
    """

    def __init__(self, client: "Client", name: str, uid: int) -> None:
        self._client, self.name, self._uid = client, name, uid
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._link: Optional[Link] = None
        self._number = 0
        self._spec: Dict[str, Any] = {}
        self.max_vectors = 0

    @classmethod
    def _joined(cls, client: "Client", link: Link, name: str, reply: Dict[str, Any]) -> "Run":
        run = cls(client, name, reply["info"]["uid"])
        run._take(link, reply)
        return run

    def _take(self, link: Link, reply: Dict[str, Any]) -> None:
        self._link, self._number = link, reply["run"]
        self._heard(reply)

    def _heard(self, reply: Dict[str, Any]) -> None:
        self._spec, self.max_vectors = reply["info"]["spec"], reply["max_vectors"]

    def __repr__(self) -> str:
        return f"<mfac.Run {self.name}: dim {self.dim}, window {self.window}, damping {self.damping:g}>"

    def __reduce__(self) -> Any:
        return _rejoin, (self._client, self.name, self._uid)

    @property
    def dim(self) -> int:
        """d, the number of parameters.

        >>> run.dim
        1000
        """
        return int(self._spec["dim"])

    @property
    def window(self) -> int:
        """m, how many gradients are kept.

        >>> run.window
        64
        """
        return int(self._spec["window"])

    @property
    def damping(self) -> float:
        """λ, as was heard last.

        >>> run.damping
        0.0001
        """
        return float(self._spec["damping"])

    @property
    def spec(self) -> Dict[str, Any]:
        """What the run is, as was heard last: dim, window, spare, shards, damping, divisor, store, durability; where it has them layout,
        half_life and scales (docs/protocol.md).

        >>> run.spec["divisor"], run.spec["store"]
        ('capacity', 'f32')
        """
        return dict(self._spec)

    def _linked(self) -> Tuple[Link, int]:
        """The connection, and the run's handle there: joined again on one that is new."""
        link = self._client._linked()
        if self._pid != os.getpid():  # its lock may have been held when the process was forked
            self._lock, self._pid = threading.Lock(), os.getpid()
        with self._lock:
            if self._link is not link:
                reply = link.request("join", {"name": self.name})
                if reply["info"]["uid"] != self._uid:
                    link.request("leave", {"run": reply["run"]})
                    raise UnknownRun(
                        f"run {self.name} was deleted and another one made under its name: attach again",
                        field="run",
                        value=self.name,
                    )
                self._take(link, reply)
            return link, self._number

    def _ask(
        self, op: str, args: Dict[str, Any], timeout: Optional[float], info: Optional[Answer] = None, progress: Optional[Progress] = None,
        link: Optional[Tuple[Link, int]] = None, held: object = None,
    ) -> Dict[str, Any]:  # fmt: skip
        to, number = link or self._linked()
        reply = to.request(op, {**args, "run": number}, timeout=timeout, progress=progress, held=held)
        if info is not None:
            info._fill(reply)
        return reply

    def _vectors(
        self, op: str, v: Optional[npt.ArrayLike], shape: Optional[Tuple[int, ...]], dtype: Optional[npt.DTypeLike], out: Optional[Array],
        args: Dict[str, Any], timeout: Optional[float], info: Optional[Answer], progress: Optional[Progress],
        mask: Optional[Array] = None, sent: Optional["np.dtype[Any]"] = None, comes: Optional["np.dtype[Any]"] = None,
    ) -> Array:  # fmt: skip
        """Asks for vectors made of v, or of nothing; of v's shape, or shape. sent is what v is sent in, and comes what the
        result comes in, where there is no choice."""
        a = None if v is None else _vector(v, sent)
        of = shape if a is None else a.shape
        assert of is not None
        if a is not None and sent is None and of[-1] != self.dim:
            raise invalid("length of the vector", of[-1], f"{self.dim}, the run's dim")
        want = None if dtype is None else _float(dtype)
        if out is not None:
            if not isinstance(out, np.ndarray) or out.dtype not in (_F32, _F64) or not out.flags.writeable:
                raise invalid("out", type(out).__name__, "a writeable array of float32 or float64")
            if out.shape != of:
                raise invalid("shape of out", out.shape, f"{of}, the result's")
            if want is not None and want != out.dtype:
                raise invalid("dtype", want, f"out's, {out.dtype}")
            want = out.dtype
        if want is None:
            want = _F32 if a is None else a.dtype
        # The agent has one type for what is sent and what comes. Of float64, a float32 result is rounded once by the workers.
        if a is not None and sent is None and a.dtype != want:
            if want == _F64:
                a = a.astype(_F64)
            else:
                args.setdefault("result", "f32")
                args["result"] = args["result"] or "f32"
        kind = comes or (want if a is None or sent is not None else a.dtype)
        link = self._linked()
        pool = link[0].pool
        fetched = out if out is not None and out.dtype == kind and pool.find(out) is not None else pool.array(of, kind)
        held: List[Any] = [fetched]
        if a is not None:
            args["in"] = _view(pool, a, held)
        if mask is not None:
            args["mask"] = _view(pool, mask, held)
        args["out"] = _view(pool, fetched, held)
        self._ask(op, args, timeout, info, progress, link, held)
        if out is not None:
            if out is not fetched:
                np.copyto(out, fetched, casting="same_kind")
            return out
        if kind != want or fetched.nbytes <= _COPIED or pool.many():
            return np.array(fetched, dtype=want)
        return fetched

    # Publishing.

    def publish(
        self,
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
        args = self._sending(link[0], step, g, columns, wire, weight, label, token, step_deadline, held)
        reply = self._ask("publish", {**args, "no_wait": None if wait else True}, timeout, link=link, held=held)
        versions = np.frombuffer(reply["versions"] or b"", dtype="<u8")
        return Commit(int(versions[-1]), int(reply["rows"][-1]))

    def _sending(
        self, link: Link, step: int, g: npt.ArrayLike, columns: Optional[int], wire: Optional[str], weight: Optional[float],
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
        self,
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
        sending = self._sending(link[0], step, g, columns, wire, weight, label, token, step_deadline, [])
        sending.pop("in")
        args = {**sending, "damping": _number(damping), "divisor": divisor, "min_rows": min_rows or None, "result": result}
        args["whole"] = _is_whole(blocks)
        return self._vectors("precondition", g, None, dtype if out is None else None, out, args, timeout, info, None, sent=_F32)

    def forget(self, steps: Union[int, Iterable[int]], *, timeout: Optional[float] = None) -> Commit:
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

    def set(self, *, damping: Optional[float] = None, divisor: Optional[str] = None, timeout: Optional[float] = None) -> Commit:
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

    def resize(self, window: int, *, timeout: Optional[float] = None) -> Commit:
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

    def freeze(self, *, timeout: Optional[float] = None, progress: Optional[Progress] = None) -> Commit:
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

    def thaw(self, *, timeout: Optional[float] = None) -> Commit:
        """Lets the window of a frozen run change again, and the workers give the memory back.

        >>> _ = run.freeze()
        >>> _ = run.thaw()
        >>> run.publish(200, np.ones(run.dim)).rows
        11
        """
        reply = self._ask("freeze", {"thaw": True}, timeout)
        return Commit(reply["version"], reply["rows"])

    def frozen(self, *, timeout: Optional[float] = None) -> Dict[str, Any]:
        """Whether the run is frozen (``state``), and what that takes on each of its ``workers``, or would take: ``kept``, ``making``
        and ``free``, in bytes.

        >>> run.frozen()["state"]
        'thawed'
        """
        reply: Dict[str, Any] = self._ask("frozen", {}, timeout)["frozen"]
        return reply

    # What the run is.

    def status(self, *, timeout: Optional[float] = None) -> Dict[str, Any]:
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

    def steps(self, *, timeout: Optional[float] = None) -> Window:
        """Which steps are in the window, oldest first.

        >>> run.steps().steps[:3]
        array([0, 1, 2], dtype=uint64)
        """
        reply = self._ask("steps", {}, timeout)
        return Window(reply["version"], _numbers(reply, "steps", "<u8"))

    def labels(self, *, timeout: Optional[float] = None) -> Window:
        """Which steps are in the window, with their labels.

        >>> _ = run.publish(102, np.ones(run.dim), label="img-7")
        >>> run.labels().labels[-2:]
        ['', 'img-7']
        """
        reply = self._ask("labels", {}, timeout)
        return Window(reply["version"], _numbers(reply, "steps", "<u8"), reply.get("labels"))

    def layout(self, *, timeout: Optional[float] = None) -> Optional[Dict[str, Tuple[int, ...]]]:
        """The named tensors that the parameters are, in order, with their shapes; None if the run has no layout.

        >>> client.attach("named", layout={"w": (3, 4), "b": (4,)}, window=2).layout()
        {'w': (3, 4), 'b': (4,)}
        """
        payload = self._ask("layout", {}, timeout).get("layout")
        if payload is None:
            return None
        return {str(t["name"]): tuple(t["shape"]) for t in json.loads(payload)}

    def gradient(self, step: int, *, at_least: int = 0, exactly: Optional[int] = None, out: Optional[Array] = None,
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

    # Products.

    def ihvp(self, v: npt.ArrayLike, *, damping: Optional[float] = None, dtype: Optional[npt.DTypeLike] = None,
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

    def ihvp_step(self, step: Union[int, Sequence[int]], *, dtype: npt.DTypeLike = np.float32, damping: Optional[float] = None,
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

    def combine(self, steps: Sequence[int], coef: npt.ArrayLike, *, dtype: npt.DTypeLike = np.float32, damping: Optional[float] = None,
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

    def fvp(self, v: npt.ArrayLike, *, dtype: Optional[npt.DTypeLike] = None, divisor: Optional[str] = None,
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

    def hvp(self, v: npt.ArrayLike, *, dtype: Optional[npt.DTypeLike] = None, damping: Optional[float] = None,
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

    def invsqrt(self, v: npt.ArrayLike, *, dtype: Optional[npt.DTypeLike] = None, damping: Optional[float] = None,
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

    def sample(self, seed: int, *, k: Optional[int] = None, first: int = 0, dtype: npt.DTypeLike = np.float32,
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

    # Elements.

    def diag(self, *, dtype: npt.DTypeLike = np.float32, damping: Optional[float] = None, divisor: Optional[str] = None,
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

    def column(self, j: Union[int, Sequence[int]], *, dtype: npt.DTypeLike = np.float32, damping: Optional[float] = None,
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

    def element(self, i: int, j: int, *, damping: Optional[float] = None, divisor: Optional[str] = None,
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

    def subblock(self, index: Sequence[int], *, damping: Optional[float] = None, divisor: Optional[str] = None,
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

    # Pruning.

    def prune(self, w: npt.ArrayLike, sparsity: float = 0.0, *, rule: str = "summed", pattern: str = "",
              mask: Optional[npt.ArrayLike] = None, steps: int = 1, dtype: Optional[npt.DTypeLike] = None,
              damping: Optional[float] = None, divisor: Optional[str] = None,
              blocks: Blocks = None, across: bool = False, min_rows: int = 0, at_least: int = 0,
              exactly: Optional[int] = None, wire: Optional[str] = None, result: Optional[str] = None,
              out: Optional[Array] = None, info: Optional[Answer] = None, timeout: Optional[float] = None,
              progress: Optional[Progress] = None) -> Array:  # fmt: skip
        """The weights w (d,), pruned by curvature: the ⌊sparsity·d⌋ of least w²/(2[H⁻¹]ᵢᵢ) are +0, the others adapted
        (docs/pruning.md; Hassibi and Stork, 1993; Frantar, Kurtic and Alistarh, 2021).

        Args:
            sparsity: in [0, 1), of all d; those pruned before included.
            pattern: in place of sparsity ``"N:M"``, such as ``"2:4"``: of each M consecutive weights at most N are kept, along the
                last dimension of each tensor of the run's layout.
            rule: ``"summed"`` as M-FAC does, or ``"joint"``, the least increase of the quadratic.
            mask: (d,) of int8: 0 may be pruned, 1 is not to be touched, −1 was pruned before; or of bool: True is 1.
            steps: prunes in so many steps with the same gradients.

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
        keep = None if mask is None else self._mask(mask)
        args.update(_blocks(blocks, across))
        return self._vectors("prune", _one(w), None, dtype, out, args, timeout, info, progress, mask=keep)

    def compensate(self, delta: npt.ArrayLike, fixed: npt.ArrayLike, *, dtype: Optional[npt.DTypeLike] = None,
                   damping: Optional[float] = None, divisor: Optional[str] = None,
                   blocks: Whole = None, min_rows: int = 0, at_least: int = 0,
                   exactly: Optional[int] = None, wire: Optional[str] = None, result: Optional[str] = None, out: Optional[Array] = None,
                   info: Optional[Answer] = None, timeout: Optional[float] = None,
                   progress: Optional[Progress] = None) -> Array:  # fmt: skip
        """The change of all weights (d,) that raises the quadratic least when those where fixed (d,) is true change by
        delta (d,), as quantisation does: δ_rest = −G_restᵀ(NλI + A_rest)⁻¹ G_S δ_S (docs/pruning.md).

        Args:
            delta: 0 where it is not prescribed.
            fixed: (d,) of bool.

        >>> fixed = np.arange(run.dim) < 10
        >>> bool((run.compensate(v, fixed)[:10] == v[:10]).all())
        True
        """
        args = _asking(damping, divisor, min_rows, at_least, exactly, wire, result, whole=blocks)
        which = self._mask(np.asarray(fixed, dtype=bool))
        return self._vectors("compensate", _one(delta), None, dtype, out, args, timeout, info, progress, mask=which)

    def _mask(self, mask: npt.ArrayLike) -> Array:
        a = np.asarray(mask)
        if a.shape != (self.dim,):
            raise invalid("shape of the mask", a.shape, f"({self.dim},)")
        if a.dtype.kind not in "bi" or (a.dtype.kind == "i" and not np.isin(a, (-1, 0, 1)).all()):
            raise invalid("mask", a.dtype, "of bool, or of integers −1, 0 and 1")
        return np.ascontiguousarray(a, dtype=np.int8)

    # Numbers.

    def scores(self, v: npt.ArrayLike, *, damping: Optional[float] = None, divisor: Optional[str] = None,
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
        reply = self._numbers_of("scores", a, _asking(damping, divisor, min_rows, at_least, exactly, wire, whole=blocks), timeout, info)
        steps = _numbers(reply, "steps", "<u8")
        return Scores(steps, _numbers(reply, "values").reshape(*a.shape[:-1], len(steps)), reply.get("labels"))

    def pairs(self, v: npt.ArrayLike, pairs: npt.ArrayLike, *, damping: Optional[float] = None, divisor: Optional[str] = None,
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
        reply = self._numbers_of("pairs", _vector(v), {**args, "pairs": q.tobytes()}, timeout, info)
        return Pairs(_numbers(reply, "values"), _numbers(reply, "errors"))

    def _numbers_of(self, op: str, a: Array, args: Dict[str, Any], timeout: Optional[float], info: Optional[Answer]) -> Dict[str, Any]:
        link = self._linked()
        held: List[Any] = []
        return self._ask(op, {**args, "in": _view(link[0].pool, a, held)}, timeout, info, link=link, held=held)

    def influence(self, *, damping: Optional[float] = None, divisor: Optional[str] = None,
                  blocks: Whole = None, min_rows: int = 0, at_least: int = 0,
                  exactly: Optional[int] = None, info: Optional[Answer] = None, timeout: Optional[float] = None) -> Influence:  # fmt: skip
        """G H⁻¹Gᵀ of the gradients in the window, (n, n), from what the coordinator has: no pass over them (docs/influence.md).

        >>> run.influence().values.shape == (run.status()["rows"],) * 2
        True
        """
        reply = self._ask("influence", _asking(damping, divisor, min_rows, at_least, exactly, whole=blocks), timeout, info)
        steps = _numbers(reply, "steps", "<u8")
        return Influence(steps, _numbers(reply, "values").reshape(len(steps), len(steps)), _numbers(reply, "errors"), reply.get("labels"))

    def self_influence(self, *, damping: Optional[float] = None, divisor: Optional[str] = None,
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

    def scalars(self, damping: Optional[npt.ArrayLike] = None, *, divisor: Optional[str] = None,
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
        args, dampings = self._dampings(damping, _asking(None, divisor, min_rows, at_least, exactly, whole=blocks))
        reply = self._ask("scalars", args, timeout, info)
        return self._scalars(damping, dampings, _numbers(reply, "values"), _numbers(reply, "errors"))

    def block_scalars(self, damping: Optional[npt.ArrayLike] = None, *, blocks: Blocks = None, across: bool = False,
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
        args, dampings = self._dampings(damping, _asking(None, divisor, min_rows, at_least, exactly))
        if blocks is None and not across:
            of, _, crossing = str(self._spec.get("blocks") or "tensor").partition(" ")
            blocks, across = of if of == "tensor" else int(of), bool(crossing)
        reply = self._ask("scalars", {**args, **run_blocks(blocks, across)}, timeout, info)
        ends = _numbers(reply, "steps", "<i8").tolist()
        shape = (len(ends), -1)
        values, errors = _numbers(reply, "values").reshape(shape), _numbers(reply, "errors").reshape(shape)
        tensors = reply.get("labels") or [""] * len(ends)
        return [
            Block(lo, hi, tensor, self._scalars(damping, dampings, x, e))
            for lo, hi, tensor, x, e in zip([0, *ends], ends, tensors, values, errors)
        ]

    def _dampings(self, damping: Optional[npt.ArrayLike], args: Dict[str, Any]) -> Tuple[Dict[str, Any], Array]:
        dampings = np.zeros(0) if damping is None else np.asarray(damping, dtype=np.float64)
        if dampings.ndim > 1:
            raise invalid("dimensions of damping", dampings.ndim, "0 or 1")
        if damping is not None and dampings.size == 0:
            raise invalid("dampings", 0, "in [1, 1024]")
        return {**args, "dampings": np.ascontiguousarray(dampings, dtype="<f8").tobytes()}, dampings

    def _scalars(self, damping: Optional[npt.ArrayLike], dampings: Array, values: Array, errors: Array) -> Scalars:
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

    def likelihoods(self, damping: Optional[npt.ArrayLike] = None, h: Optional[npt.ArrayLike] = None, *, divisor: Optional[str] = None,
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
            reply = self._numbers_of("likelihoods", _vector(h), args, timeout, info)
        shape = (len(dampings), -1)
        values, errors = _numbers(reply, "values").reshape(shape), _numbers(reply, "errors").reshape(shape)
        return Likelihoods(dampings, values, errors, _numbers(reply, "steps", "<u8"))

    def tune(self, damping: npt.ArrayLike, h: Optional[npt.ArrayLike] = None, *, divisor: Optional[str] = None,
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

    def spectrum(self, *, divisor: Optional[str] = None,
                 blocks: Whole = None, min_rows: int = 0, at_least: int = 0, exactly: Optional[int] = None,
                 info: Optional[Answer] = None, timeout: Optional[float] = None) -> Spectrum:  # fmt: skip
        """The eigenvalues of F, the min(n, d) largest; those of H are λ more, and λ itself d − n times (docs/queries.md).

        >>> e = run.spectrum().eigenvalues
        >>> bool((np.diff(e) <= 0).all()), len(e) == run.status()["rows"]
        (True, True)
        """
        reply = self._ask("spectrum", _asking(None, divisor, min_rows, at_least, exactly, whole=blocks), timeout, info)
        return Spectrum(_numbers(reply, "values"), float(_numbers(reply, "errors")[0]))


def _rejoin(client: "Client", name: str, uid: int) -> Run:
    run = Run(client, name, uid)
    run._linked()
    return run


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
