"""The agent's process: found, started, stopped. One a process; another in a process that was forked."""

import atexit
import contextlib
import functools
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any, List, Optional, Sequence

from ._errors import AgentDied, AgentNotStarted, VersionMismatch
from ._link import Link
from ._version import PROTOCOL

_START = 40.0  # seconds until it listens, its cluster included
_STOP = 10.0  # seconds until it has ended of itself


def binary_of(binary: Optional[str]) -> str:
    """The tool's binary: the one given, MFAC_BIN's, the wheel's, one built from the checkout, or the one on PATH."""
    for given, whence in ((binary, "binary="), (os.environ.get("MFAC_BIN"), "MFAC_BIN")):
        if given:
            path = shutil.which(given)
            if path is None:
                raise AgentNotStarted(f"{whence} is {given}, must be an executable file", field=whence, value=given)
            return path
    packaged = Path(__file__).with_name("bin") / "mfac"
    if packaged.exists():
        return str(packaged)
    checkout = Path(__file__).resolve().parents[3]
    if (checkout / "cmd" / "mfac").is_dir() and shutil.which("go"):
        return _build(checkout)
    path = shutil.which("mfac")
    if path is None:
        raise AgentNotStarted(
            "no mfac binary: install a wheel that has one, or set MFAC_BIN or binary= to one built by `go build ./cmd/mfac`"
        )
    return path


@functools.lru_cache(1)
def _build(checkout: Path) -> str:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mfac-python"
    cache.mkdir(parents=True, exist_ok=True)
    target = cache / "mfac"
    # Under a name of its own first: another process may be doing the same.
    new = cache / f"mfac.{os.getpid()}.{threading.get_ident()}"
    done = subprocess.run(["go", "build", "-o", str(new), "./cmd/mfac"], cwd=checkout, check=False, capture_output=True)
    if done.returncode != 0:
        raise AgentNotStarted(f"go build failed: {done.stderr.decode(errors='replace').strip()}")
    os.replace(new, target)
    return str(target)


class Agent:
    """A running agent."""

    def __init__(self, binary: Optional[str], options: Sequence[str] = ()) -> None:
        self.pid = os.getpid()
        path = binary_of(binary)
        command = [path, "agent", "--parent", str(self.pid), *options]
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        self._folder: Optional[Path] = None
        try:
            # In a session of its own: Ctrl-C in a terminal is for the program, which ends calls itself.
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True
            )
        except OSError as e:
            self._errors.close()
            raise AgentNotStarted(f"{path} can't be started: {e}") from e
        try:
            ready = self._ready()
            self.socket = str(ready["socket"])
            self.url = str(ready.get("url", ""))
            self._folder = Path(self.socket).parent
            if ready.get("protocol") != PROTOCOL:
                raise VersionMismatch(
                    f"the agent {path} (version {ready.get('version')}) speaks protocol {ready.get('protocol')}, this package {PROTOCOL}: "
                    "use those that belong together",
                    field="protocol",
                    value=str(ready.get("protocol")),
                    limit=str(PROTOCOL),
                )
        except BaseException:
            self.stop()
            raise
        _agents.append(self)

    def _ready(self) -> Any:
        """The line that the agent prints when it listens."""
        out = self.process.stdout
        assert out is not None
        end = time.monotonic() + _START
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise AgentNotStarted(f"the agent is not ready after {_START:.0f} s{self._said()}")
                piece = os.read(out.fileno(), 4096)
                if not piece:
                    self.process.wait(_STOP)
                    raise AgentNotStarted(f"the agent has ended with {self.process.returncode}{self._said()}")
                line += piece
        try:
            ready = json.loads(line)
            ready["socket"]
        except (ValueError, TypeError, KeyError):
            raise AgentNotStarted(f"{line[:200]!r} is no agent's first line: is {self.process.args!r} mfac?") from None
        return ready

    def _said(self) -> str:
        self._errors.seek(0)
        text = self._errors.read(4096).decode(errors="replace").strip()
        return f": {text}" if text else ""

    @property
    def alive(self) -> bool:
        return self.pid == os.getpid() and self.process.poll() is None

    def connect(self) -> Link:
        try:
            return Link(self.socket)
        except OSError as e:
            raise AgentDied(f"the agent has gone: {e}") from e

    def stop(self) -> None:
        """Ends the agent and waits until it has ended. It may be called again, or after the agent has died."""
        if self.pid != os.getpid():
            return
        p = self.process
        for pipe in (p.stdin, p.stdout):
            if pipe is not None:
                pipe.close()  # the first is what ends it
        try:
            p.wait(_STOP)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
        self._errors.close()
        if self._folder is not None:  # there still if it was killed
            shutil.rmtree(self._folder, ignore_errors=True)
        if self in _agents:
            _agents.remove(self)


_agents: List[Agent] = []  # that this process has started, for its end
_shared: Optional[Agent] = None
_lock = threading.Lock()


def shared(binary: Optional[str]) -> Link:
    """A connection to the process' agent, which is started where there is none."""
    global _shared
    with _lock:
        for _ in range(2):
            agent = _shared
            if agent is not None and not agent.alive:
                agent.stop()
                agent = _shared = None
            if agent is None:
                agent = _shared = Agent(binary)
                return agent.connect()
            try:
                return agent.connect()
            except AgentDied:  # it was ending, for nobody was connected
                agent.stop()
                _shared = None
    return Agent(binary).connect()


@atexit.register
def _stop_all() -> None:
    for agent in list(_agents):
        if agent.pid == os.getpid():
            agent.stop()


def _in_child() -> None:
    """A forked child has none of the parent's. Its copy of the pipe would keep the parent's agent alive."""
    global _shared, _lock
    for agent in list(_agents):
        for pipe in (agent.process.stdin, agent.process.stdout, agent._errors):
            if pipe is not None:
                with contextlib.suppress(OSError, ValueError):
                    pipe.close()
        agent.process.returncode = 0  # not this process' child: nothing to wait for
    _agents.clear()
    _shared, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_in_child)
if sys.platform == "win32":  # pragma: no cover
    raise ImportError("mfac needs Unix sockets that carry descriptors: Linux or macOS")
