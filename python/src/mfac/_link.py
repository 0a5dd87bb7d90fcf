"""A connection to the agent: requests out, replies in, as docs/agent.md has them."""

import array
import itertools
import math
import os
import queue
import socket
import struct
import threading
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import msgpack

from ._errors import AgentDied, Closed, MFACError, Timeout, error_of, invalid
from ._memory import Block, Pool
from ._version import PROTOCOL, __version__

Progress = Callable[[int, int], None]


class Phase(NamedTuple):
    """How far pruning is: ``done`` of ``total`` parts of what ``name`` names (``"gram"``, ``"scores"``, ``"selection"``, ``"update"``), in
    step ``step`` of ``steps``, from 1."""

    name: str
    done: int
    total: int
    step: int
    steps: int


Phases = Callable[[Phase], None]

_PATIENCE = 10.0  # seconds after a deadline that the agent gets to say so itself
_CANCEL = 5.0  # seconds that a cancelled call gets to end
_MOST_REQUEST = 4 << 20


class _Call:
    """A request whose reply has not come. held keeps its memory until it has, whoever waits for it or doesn't."""

    def __init__(self, held: object) -> None:
        self.replies: queue.SimpleQueue[Optional[Dict[str, Any]]] = queue.SimpleQueue()
        self.held = held


class Link:
    """Safe for many threads. It belongs to the process that made it."""

    def __init__(self, path: str) -> None:
        self.pid = os.getpid()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.connect(path)
        except BaseException:
            self._sock.close()
            raise
        self._write = threading.Lock()
        self._lock = threading.Lock()
        self._calls: Dict[int, _Call] = {}
        self._ids = itertools.count(1)
        self._end: Optional[MFACError] = None
        self.pool = Pool(self._hand_over, self._release)
        self._reader = threading.Thread(target=_read, args=(self,), name="mfac", daemon=True)
        self._reader.start()
        try:
            self.hello = self.request("hello", {"protocol": PROTOCOL, "version": __version__}, timeout=_PATIENCE)
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        return self._end is None and self.pid == os.getpid()

    def close(self) -> None:
        """Ends the connection, and the calls in progress with Closed."""
        if self.pid != os.getpid():  # the parent's: it goes on there
            self._sock.close()
            return
        self._ended(Closed("the client is closed"))
        with _suppress():
            self._sock.shutdown(socket.SHUT_RDWR)
        if threading.current_thread() is not self._reader:
            self._reader.join(_PATIENCE)
        self._sock.close()
        self.pool.close()

    def request(
        self,
        op: str,
        args: Mapping[str, Any],
        *,
        timeout: Optional[float] = None,
        progress: Optional[Progress] = None,
        phases: Optional[Phases] = None,
        held: object = None,
        fds: Tuple[int, ...] = (),
    ) -> Dict[str, Any]:
        """Asks, and returns what came. An interrupt, or an exception in progress or phases, cancels the call."""
        number, call = self._send(op, args, timeout, (progress is not None, phases is not None), held, fds)
        last = None if timeout is None else time.monotonic() + timeout + _PATIENCE
        try:
            while True:
                try:
                    reply = call.replies.get(timeout=None if last is None else max(0.0, last - time.monotonic()))
                except queue.Empty:
                    raise Timeout(f"the agent does not answer ({op})") from None
                if reply is None:
                    raise self._why()
                if _last(reply):
                    return _result(reply)
                if progress is not None and "progress" in reply:
                    progress(*reply["progress"])
                elif phases is not None and "phase" in reply:
                    phases(Phase(**reply["phase"]))
        except BaseException:
            if number in self._calls:
                self._cancel(number, call)
            raise

    def _cancel(self, number: int, call: _Call) -> None:
        """Ends a call, and gives it a while to end, so that it has gone when its caller goes on."""
        try:
            self._send("cancel", {"call": number}, None, (False, False), None, ())
            end = time.monotonic() + _CANCEL
            while number in self._calls and time.monotonic() < end:
                call.replies.get(timeout=max(0.0, end - time.monotonic()))
        except (MFACError, queue.Empty):
            pass

    def _send(
        self, op: str, args: Mapping[str, Any], timeout: Optional[float], told: Tuple[bool, bool], held: object, fds: Tuple[int, ...]
    ) -> Tuple[int, _Call]:
        request = {k: v for k, v in args.items() if v is not None}
        request["op"] = op
        request["id"] = number = next(self._ids)
        if timeout is not None:
            request["timeout_ms"] = _milliseconds(timeout)
        for word, wanted in zip(("progress", "phases"), told):
            if wanted:
                request[word] = True
        body = msgpack.packb(request)
        if len(body) > _MOST_REQUEST:
            raise invalid("bytes of the request", len(body), f"at most {_MOST_REQUEST}")
        frame = struct.pack(">I", len(body)) + body
        call = _Call(held)
        with self._lock:
            if self._end is not None:
                raise self._why()
            self._calls[number] = call
        try:
            with self._write:
                sent = 0
                if fds:
                    passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                    sent = self._sock.sendmsg([frame], passed)
                self._sock.sendall(frame[sent:])
        except OSError as e:
            self._ended(AgentDied(f"the agent has gone: {e}"))
            raise self._why() from e
        return number, call

    def _hand_over(self, block: Block) -> None:
        self.request("buffer", {"buffer": block.number, "size": block.size}, timeout=60.0, fds=(block.fd,))

    def _release(self, number: int) -> None:
        with _suppress():
            self._send("release", {"buffer": number}, None, (False, False), None, ())

    def _took(self, reply: Dict[str, Any]) -> None:
        number = reply.get("id", 0)
        with self._lock:
            call = self._calls.get(number)
            if _last(reply):
                self._calls.pop(number, None)
        if number == 0:
            self._ended(error_of(reply["error"]))
        elif call is not None:
            call.replies.put(reply)

    def _ended(self, why: MFACError) -> None:
        with self._lock:
            if self._end is None:
                self._end = why
            calls = list(self._calls.values())
            self._calls.clear()
        for call in calls:
            call.replies.put(None)

    def _why(self) -> MFACError:
        """A new exception, since each has a traceback of its own."""
        e = self._end
        if e is None:
            return AgentDied("the agent has gone")
        return type(e)(str(e), code=e.code, field=e.field, value=e.value, limit=e.limit, hint=e.hint)


def _last(reply: Mapping[str, Any]) -> bool:
    return "progress" not in reply and "phase" not in reply


def _read(link: Link) -> None:
    """Reads replies until the connection ends."""
    sock = link._sock
    try:
        while True:
            (size,) = struct.unpack(">I", _exactly(sock, 4))
            link._took(msgpack.unpackb(_exactly(sock, size), strict_map_key=False))
    except (OSError, EOFError) as e:
        link._ended(AgentDied(f"the agent has ended: {e}" if str(e) else "the agent has ended"))
    except BaseException as e:
        link._ended(AgentDied(f"the agent's reply can't be read: {e!r}"))


def _exactly(sock: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        n = sock.recv_into(view)
        if n == 0:
            raise EOFError
        view = view[n:]
    return data


def _result(reply: Dict[str, Any]) -> Dict[str, Any]:
    ok: Dict[str, Any] = reply.get("ok") or {}
    if "error" not in reply:
        return ok
    e = error_of(reply["error"])
    if "versions" in ok:
        rows: List[int] = ok.get("rows") or []
        versions = struct.unpack(f"<{len(rows)}Q", ok["versions"] or b"")
        e.commits = [(v, n) for v, n in zip(versions, rows) if v]
    e.committed_version = ok.get("version", 0)
    raise e


def _milliseconds(seconds: float) -> int:
    if not 0 < seconds <= 86400:
        raise invalid("timeout", seconds, "in (0, 86400] seconds")
    return max(1, math.ceil(seconds * 1000))


class _suppress:
    """contextlib.suppress for what a connection that has ended may raise; it takes no lock."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, _: Any) -> bool:
        return isinstance(error, (OSError, MFACError))
