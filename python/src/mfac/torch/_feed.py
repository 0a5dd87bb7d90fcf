"""Publishing gradients one after the other, each of them once, whatever happens to the agent meanwhile."""

import contextlib
import secrets
import time
from typing import Callable, Optional, TypeVar

import numpy as np

from .._errors import AgentDied, Denied, Invalid, MFACError, NotFinite, NotGrowing, Overflow, TooLarge, Unavailable, UnknownStep
from .._memory import Array
from .._run import Answer, Commit, Run

T = TypeVar("T")

_REFUSED = (Invalid, NotFinite, Overflow, TooLarge, Denied)  # what is certainly not in the window
_PAUSE = 0.1  # seconds between two tries


class _Another(NotGrowing):
    """Somebody else publishes to the run."""


class Feed:
    """The one publisher of a run. newest is the step that it published last, count how many it has published."""

    def __init__(
        self,
        run: Run,
        newest: int,
        *,
        columns: Optional[int] = None,
        wire: Optional[str] = None,
        damping: Optional[float] = None,
        patience: float = 60.0,
        timeout: Optional[float] = None,
    ) -> None:
        self.run, self.newest, self.count = run, newest, 0
        self._columns, self._wire, self._damping = columns, wire, damping
        self._patience, self._timeout = patience, timeout
        self._unsure: Optional[int] = None  # the step of which it is not known whether it was committed

    def put(self, g: Array, step: Optional[int] = None) -> Commit:
        """Publishes g."""

        token = self._token()

        def ask(step: int) -> Commit:
            return self.run.publish(step, g, columns=self._columns, wire=self._wire, token=token, timeout=self._timeout)

        def settled(_: int) -> Commit:
            info = self.run.status()
            return Commit(info["version"], info["rows"])

        return self._once(g, step, ask, settled)

    def precondition(self, g: Array, out: Array, info: Answer) -> None:
        """Publishes g, and fills out with H⁻¹g."""

        token = self._token()

        def ask(step: int) -> None:
            self.run.precondition(
                step, g, out=out, info=info, columns=self._columns, wire=self._wire, damping=self._damping, token=token,
                timeout=self._timeout,
            )  # fmt: skip

        def settled(step: int) -> None:
            x = self.run.ihvp_step(step, info=info, damping=self._damping, timeout=self._timeout)
            lo = self._columns or 0
            out[:] = x[lo : lo + len(g)]

        self._once(g, None, ask, settled)

    def _token(self) -> Optional[int]:
        """Of one gradient: a second try joins the first, if that is under way still. Ranks have one in common."""
        return secrets.randbits(63) if self._columns is None else None

    def _once(self, g: Array, given: Optional[int], ask: Callable[[int], T], settled: Callable[[int], T]) -> T:
        end = time.monotonic() + self._patience
        found, tries = False, 0
        while True:
            try:
                before = self._unsure
                found = found or (before is not None and self._found(before, g))
                if found:
                    return settled(self.newest)
                if before is not None and self._columns is not None and tries == 0:
                    self.newest = max(self.newest, before)  # some columns of another gradient may be there, under the same token
                tries += 1
                step = max(self.newest + 1, given or 0)
                self._unsure = step
                got = ask(step)
                self._committed(step)
                return got
            except (AgentDied, Unavailable, NotGrowing) as e:
                if time.monotonic() >= end or self._gone(e):
                    raise
                time.sleep(_PAUSE)
            except _REFUSED as e:
                self._refused(e)
                raise
            except MFACError as e:
                if e.committed_version:
                    self._refused(e)
                raise

    def _refused(self, e: MFACError) -> None:
        if e.committed_version and self._unsure is not None:
            self._committed(self._unsure)
        self._unsure = None

    def _committed(self, step: int) -> None:
        self.newest, self._unsure = step, None
        self.count += 1

    def _found(self, step: int, g: Array) -> bool:
        """Whether step was committed after all, and is g."""
        newest = self.run.status()["newest"]
        if newest < step:
            self._unsure = None
            return False
        if newest > step:
            raise _Another(
                f"run {self.run.name} is at step {newest}, {step} is the next one here: another publisher feeds it",
                field="step", value=str(step), limit=f"> {newest}",
            )  # fmt: skip
        same = self._is(step, g)  # the agent may die again: then this is asked again
        self._committed(step)
        return same

    def _is(self, step: int, g: Array) -> bool:
        """Whether g is in the window as step."""
        with contextlib.suppress(UnknownStep):  # committed, and lost since
            lo = self._columns or 0
            kept = self.run.gradient(step)[lo : lo + len(g)]
            if self._wire is None and self.run.spec.get("store", "f32") == "f32":
                return bool((kept == g).all())
            return bool(np.linalg.norm(kept - g) <= 2**-7 * np.linalg.norm(g))  # bf16 is within 2⁻⁸ of each element
        return False

    def _gone(self, e: MFACError) -> bool:
        """Whether there is nothing to wait for."""
        own = self.run._client._local
        return isinstance(e, _Another) or (isinstance(e, AgentDied) and own is not None and not own.alive)
