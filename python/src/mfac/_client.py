"""Connections: connect, local, Client."""

import math
import operator
import os
import threading
import weakref
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import numpy.typing as npt

from . import _agent
from ._arrays import Blocks, run_blocks, settle_layout
from ._errors import AgentDied, Closed, invalid
from ._link import Link
from ._memory import Array
from ._run import Run

Layout = Union[Mapping[str, Sequence[int]], Iterable[Tuple[str, Sequence[int]]]]


class TLS(NamedTuple):
    """Files for TLS: the authorities that the server's certificate is checked against, and the certificate and its key
    that are shown to the server. What is ``""`` is left out.

    >>> mfac.TLS("ca.pem").cert
    ''
    """

    ca: str = ""
    cert: str = ""
    key: str = ""


def connect(
    url: str = "",
    *,
    creds: Union[str, "os.PathLike[str]"] = "",
    nkey: Union[str, "os.PathLike[str]"] = "",
    tls: Optional[Union[TLS, Sequence[str]]] = None,
    tenant: str = "",
    name: str = "",
    timeout: float = 10.0,
    binary: Optional[str] = None,
) -> "Client":
    """Connects to a cluster by NATS.

    Args:
        url: of a NATS server, or of several with commas between; ``NATS_URL`` or ``nats://127.0.0.1:4222`` if empty.
        creds: file of JWT credentials.
        nkey: file of an nkey's seed.
        tls: files for TLS, ``TLS(ca, cert, key)``.
        tenant: whose runs these are; ``"default"`` if empty.
        name: this client's, which NATS permissions are given to; random if empty.
        timeout: seconds for the first connection. Later ones are made again by themselves.
        binary: the ``mfac`` binary; else that of ``MFAC_BIN``, of the wheel, of the checkout, or of ``PATH``.

    Raises:
        Unavailable: there is no NATS, or it refuses this client.
        VersionMismatch: the binary is not of this package's version.
        AgentNotStarted: there is no binary, or it does not run.

    >>> with mfac.connect(client.url) as other:
    ...     "demo" in other.runs()
    True
    """
    args: Dict[str, Any] = {
        "url": url or os.environ.get("NATS_URL") or "nats://127.0.0.1:4222",
        "creds": os.fspath(creds),
        "nkey": os.fspath(nkey),
        "tenant": tenant,
        "name": name,
        "connect_ms": math.ceil(timeout * 1000) if 0 < timeout <= 86400 else -1,
    }
    if tls is not None:
        args["tls_ca"], args["tls_cert"], args["tls_key"] = (os.fspath(f) for f in TLS(*tls))
    return Client(args, binary)


def local(workers: int = 2, *, memory: Union[int, str] = "", binary: Optional[str] = None) -> "Client":
    """A cluster of its own in a process beside this one, for notebooks and tests: NATS on a free port of 127.0.0.1, a
    coordinator and workers. It ends with the client, and with this process however that dies; what it held is gone then.

    Args:
        workers: how many, 1 to 64.
        memory: of each worker, bytes or as ``"2GiB"``; half of what is available, shared, by default.
        binary: as for connect.

    >>> with mfac.local(workers=3) as c:
    ...     len(c.workers())
    3
    """
    options = ["--workers", str(operator.index(workers))]
    if memory:
        options += ["--memory", str(memory)]
    agent = _agent.Agent(binary, options)
    try:
        return Client({"url": agent.url}, binary, agent)
    except BaseException:
        agent.stop()
        raise


class Client:
    """A connection to the cluster, made by connect or local. It may be used by several threads at once, is a context
    manager, and can be handed to other processes: a forked child, or one that it is pickled for, makes a connection of
    its own at its first call.

    Where the agent dies, the calls in progress raise AgentDied, and the next one starts another agent and joins its run
    again.

    Every call has ``timeout``, in seconds, two minutes by default, and may raise Timeout, Unavailable (NATS or the coordinator is away),
    Denied (by NATS' permissions), AgentDied and Closed.

    >>> client  # doctest: +ELLIPSIS
    <mfac.Client at nats://127.0.0.1:...>
    """

    def __init__(self, args: Dict[str, Any], binary: Optional[str], agent: Optional[_agent.Agent] = None) -> None:
        self._args, self._binary = args, binary
        self._local = agent  # whose cluster it is, or None
        self._lock = threading.RLock()
        self._link: Optional[Link] = None
        self._name = ""  # that the agent goes by in NATS
        self._closed = False
        self._finalizer = weakref.finalize(self, _let_go, [None, agent])
        _clients.add(self)
        self._linked()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<mfac.Client at {self.url}{', closed' if self._closed else ''}>"

    def __reduce__(self) -> Any:
        return Client, (self._args, self._binary)

    @property
    def url(self) -> str:
        """Of NATS, as given.

        >>> client.url.startswith("nats://")
        True
        """
        return str(self._args["url"])

    def close(self) -> None:
        """Ends the calls in progress with Closed, and the connection; of ``local`` the cluster too.

        >>> other = mfac.connect(client.url)
        >>> other.close()
        >>> other.runs()
        Traceback (most recent call last):
        mfac.Closed: the client is closed
        """
        with self._lock:
            self._closed = True
            link, self._link = self._link, None
        if link is not None:
            link.close()
        if self._local is not None:
            self._local.stop()
        self._finalizer.detach()

    def _linked(self) -> Link:
        """The connection to the agent, made anew where it has ended or the process was forked."""
        with self._lock:
            if self._closed:
                raise Closed("the client is closed")
            link, args = self._link, self._args
            if link is not None and link.alive:
                return link
            if link is not None:
                link.close()
                if link.pid == os.getpid():  # the next agent closes the queries that this one had open
                    args = {**args, "name": self._name, "again": True}
            own = self._local if self._local is not None and self._local.pid == os.getpid() else None
            if own is not None and not own.alive:
                raise AgentDied("the agent has died, and with it the cluster of mfac.local and all windows: make another one")
            link = own.connect() if own is not None else _agent.shared(self._binary)
            try:
                reply = link.request("connect", args, timeout=max(self._args.get("connect_ms", 0), 10_000) / 1000 + 1)
            except BaseException:
                link.close()
                raise
            self._link, self._name = link, str(reply["name"])
            self._finalizer.detach()
            self._finalizer = weakref.finalize(self, _let_go, [link, own])
            return link

    def _ask(self, op: str, timeout: Optional[float] = None, **args: Any) -> Dict[str, Any]:
        return self._linked().request(op, args, timeout=timeout)

    def attach(
        self,
        name: str,
        *,
        dim: Optional[int] = None,
        layout: Optional[Layout] = None,
        window: int,
        damping: Optional[float] = None,
        divisor: str = "",
        shards: int = 0,
        spare: int = 0,
        store: str = "",
        half_life: float = 0.0,
        tensor_damping: Optional[Mapping[str, float]] = None,
        blocks: Blocks = None,
        across: bool = False,
        timeout: Optional[float] = None,
    ) -> Run:
        """Creates a run, or joins the one of that name, which must be the same.

        H = F + λI with F = GᵀG/N of the last ``window`` gradients G (Frantar, Kurtic and Alistarh, NeurIPS 2021).

        Args:
            name: letters, digits, ``-`` and ``_``.
            dim: d, the number of parameters; may be left out beside a layout.
            layout: the named tensors that the parameters are, in order: ``{"w": (3, 4), "b": (4,)}``.
            window: m, how many gradients are kept.
            damping: λ > 0; 1e-5 by default.
            divisor: of F: ``"capacity"`` (N = window, the default) or ``"count"`` (N = the gradients that there are).
            shards: in how many pieces columns are cut; one for each worker by default.
            spare: slots for steps that are being published; 2 by default.
            store: what gradients are kept in: ``"f32"`` (the default), ``"bf16"`` or ``"f16"``.
            half_life: in steps: a gradient counts 2^(−k/half_life) times its weight when the newest is k steps ahead
                (docs/weights.md); 0, the default: gradients don't fade.
            tensor_damping: λ of tensors of the layout, by their names, where it is another one (docs/weights.md).
            blocks, across: the diagonal blocks of H that the run answers by, in place of the whole: ``"tensor"``, one for each
                tensor of the layout, or so many columns each, which end at tensors' borders unless across (docs/blocks.md).
            timeout: seconds; two minutes by default. While there is no worker, attach waits.

        Raises:
            Exists: there is a run of that name that differs in ``field``.
            Invalid: a value is out of its range.

        >>> client.attach("small", dim=10, window=4, damping=1e-3)
        <mfac.Run small: dim 10, window 4, damping 0.001>
        """
        payload, dim = settle_layout(layout, dim)
        link = self._linked()
        return Run._joined(
            self,
            link,
            name,
            link.request(
                "attach",
                {
                    "name": name,
                    "dim": dim,
                    "layout": payload,
                    "window": operator.index(window),
                    "damping": None if damping is None else float(damping),
                    "divisor": divisor or None,
                    "shards": operator.index(shards),
                    "spare": operator.index(spare),
                    "store": store or None,
                    "half_life": float(half_life) or None,
                    "tensors": list(tensor_damping) if tensor_damping else None,
                    "tensor_dampings": np.array(list(tensor_damping.values()), dtype="<f8").tobytes() if tensor_damping else None,
                    **run_blocks(blocks, across),
                },
                timeout=timeout,
            ),
        )

    def join(self, name: str, *, timeout: Optional[float] = None) -> Run:
        """Joins a run that exists, as it is.

        Args:
            name: the run's.

        Raises:
            UnknownRun: there is none of that name.

        >>> client.join("demo").window
        64
        """
        link = self._linked()
        return Run._joined(self, link, name, link.request("join", {"name": name}, timeout=timeout))

    def runs(self, *, timeout: Optional[float] = None) -> List[str]:
        """The names of the tenant's runs, in order.

        >>> "demo" in client.runs()
        True
        """
        return [str(n) for n in self._ask("runs", timeout)["runs"] or []]

    def workers(self, *, timeout: Optional[float] = None) -> List[Dict[str, Any]]:
        """The workers: ``id``, ``instance``, ``capacity`` and ``used`` (bytes), ``shards`` (how many), and ``silent_ms``, milliseconds
        since the coordinator has heard of it.

        >>> [w["id"] for w in client.workers()]
        ['w1', 'w2']
        """
        return list(self._ask("workers", timeout)["workers"] or [])

    def delete(self, name: str, *, timeout: Optional[float] = None) -> None:
        """Ends a run and frees its memory everywhere.

        Args:
            name: the run's.

        Raises:
            UnknownRun: there is none of that name.

        >>> _ = client.attach("gone", dim=3, window=2)
        >>> client.delete("gone")
        >>> client.join("gone")
        Traceback (most recent call last):
        mfac.UnknownRun: join run gone: run is gone, must be one that exists: mfac run ls lists them
        """
        self._ask("delete", timeout, name=name)

    def empty(self, shape: Union[int, Sequence[int]], dtype: npt.DTypeLike = np.float32) -> Array:
        """A new array whose memory the agent shares: what is passed from it is not copied, and as ``out=`` it is
        written to directly. Its numbers are any. It must not be written to while a call reads it.

        Args:
            shape: of the array, or its length.
            dtype: float32, float64 or int8.

        Raises:
            Invalid: another dtype, or a side that is not above 0.

        >>> g = client.empty(1000)
        >>> g[:] = 1.0
        >>> g.shape, g.dtype
        ((1000,), dtype('float32'))
        """
        sizes = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        sizes = tuple(operator.index(n) for n in sizes)
        if any(n < 1 for n in sizes):
            raise invalid("shape", sizes, "of sides > 0")
        kind = np.dtype(dtype)
        if kind not in (np.float32, np.float64, np.int8):
            raise invalid("dtype", kind, "float32, float64 or int8")
        return self._linked().pool.array(sizes, kind)


def _let_go(what: List[Any]) -> None:
    """Of a client that nobody has any more."""
    link, agent = what
    if link is not None and link.pid == os.getpid():
        link.close()
    if agent is not None:
        agent.stop()


_clients: "weakref.WeakSet[Client]" = weakref.WeakSet()


def _in_child() -> None:
    for client in list(_clients):
        client._lock = threading.RLock()
        client._finalizer.detach()


os.register_at_fork(after_in_child=_in_child)
