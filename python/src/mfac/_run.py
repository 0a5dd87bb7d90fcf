"""A run: its connection, and what can be asked of it. The methods are in _window, _products, _pruning and _measures."""

import os
import threading
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import numpy as np
import numpy.typing as npt

from . import _measures, _products, _pruning, _window
from ._answers import Answer, Commit
from ._arrays import _F32, _F64, Blocks, _float, _vector, _view
from ._errors import UnknownRun, invalid
from ._link import Link, Phases, Progress
from ._memory import Array

if TYPE_CHECKING:
    from ._client import Client

__all__ = ["Answer", "Blocks", "Commit", "Run"]

_COPIED = 1 << 20  # bytes of a result that is small enough to be copied out of shared memory


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

    An interrupt (Ctrl-C), or an exception in progress or phases, cancels the call and frees the workers.

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
        link: Optional[Tuple[Link, int]] = None, held: object = None, phases: Optional[Phases] = None,
    ) -> Dict[str, Any]:  # fmt: skip
        to, number = link or self._linked()
        reply = to.request(op, {**args, "run": number}, timeout=timeout, progress=progress, phases=phases, held=held)
        if info is not None:
            info._fill(reply)
        return reply

    def _vectors(
        self, op: str, v: Optional[npt.ArrayLike], shape: Optional[Tuple[int, ...]], dtype: Optional[npt.DTypeLike], out: Optional[Array],
        args: Dict[str, Any], timeout: Optional[float], info: Optional[Answer], progress: Optional[Progress],
        mask: Optional[Array] = None, sent: Optional["np.dtype[Any]"] = None, comes: Optional["np.dtype[Any]"] = None,
        phases: Optional[Phases] = None,
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
        self._ask(op, args, timeout, info, progress, link, held, phases)
        if out is not None:
            if out is not fetched:
                np.copyto(out, fetched, casting="same_kind")
            return out
        if kind != want or fetched.nbytes <= _COPIED or pool.many():
            return np.array(fetched, dtype=want)
        return fetched

    # Publishing.

    publish = _window.publish
    precondition = _window.precondition
    forget = _window.forget
    set = _window.set
    resize = _window.resize
    freeze = _window.freeze
    thaw = _window.thaw
    frozen = _window.frozen

    # What the run is.

    status = _window.status
    steps = _window.steps
    labels = _window.labels
    layout = _window.layout
    gradient = _window.gradient

    # Products.

    ihvp = _products.ihvp
    ihvp_step = _products.ihvp_step
    combine = _products.combine
    fvp = _products.fvp
    hvp = _products.hvp
    invsqrt = _products.invsqrt
    sample = _products.sample

    # Elements.

    diag = _products.diag
    column = _products.column
    element = _products.element
    subblock = _products.subblock

    # Pruning.

    prune = _pruning.prune
    compensate = _pruning.compensate

    # Numbers.

    scores = _measures.scores
    pairs = _measures.pairs
    influence = _measures.influence
    self_influence = _measures.self_influence
    scalars = _measures.scalars
    block_scalars = _measures.block_scalars
    likelihoods = _measures.likelihoods
    tune = _measures.tune
    spectrum = _measures.spectrum


def _rejoin(client: "Client", name: str, uid: int) -> Run:
    run = Run(client, name, uid)
    run._linked()
    return run
