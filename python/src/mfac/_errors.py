"""Errors: one class for each code that a program may want to catch by itself, below MFACError."""

from typing import Any, Dict, List, Mapping, Optional, Tuple, Type


class MFACError(Exception):
    """What went wrong: ``code`` is a stable word (docs/protocol.md, "Errors"), ``field`` has ``value`` and must be
    ``limit``; ``hint`` says what to do next. What is not known is ``""``.

    >>> try:
    ...     run.ihvp(v, damping=-1)
    ... except mfac.MFACError as e:
    ...     print(e.code, e.field, e.value, e.limit, sep="; ")
    invalid; damping; -1; > 0 and finite
    """

    code = "internal"

    def __init__(
        self,
        message: str = "",
        *,
        code: Optional[str] = None,
        field: str = "",
        value: str = "",
        limit: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.field, self.value, self.limit, self.hint = field, value, limit, hint
        self.commits: List[Tuple[int, int]] = []
        """Of a publication of several rows: version and rows of those before the one that was refused."""
        self.committed_version = 0
        """Of a precondition that was refused: the version at which the gradient is in the window all the same, or 0."""

    def __reduce__(self) -> Any:
        return _restore, (type(self), str(self), self.__dict__)


def _restore(cls: Type[MFACError], message: str, state: Dict[str, Any]) -> MFACError:
    e = cls(message)
    e.__dict__.update(state)
    return e


class Invalid(MFACError, ValueError):
    """A value is out of its range."""

    code = "invalid"


class Timeout(MFACError, TimeoutError):
    """No answer before the deadline."""

    code = "timeout"


class VersionMismatch(MFACError):
    """Package, agent and services don't speak the same version of their protocols."""

    code = "protocol"


class AgentDied(MFACError):
    """The agent has ended in the midst of a call: whether what was asked has been done is not known. The next call starts
    another one, unless the agent was a cluster too (``mfac.local``): its windows are gone."""

    code = "agent_died"


class AgentNotStarted(MFACError):
    """The agent could not be started."""

    code = "agent_not_started"


class Closed(MFACError):
    """The client has been closed."""

    code = "closed"


class Unavailable(MFACError, ConnectionError):
    """There is no NATS where it was said to be, or a service is away for longer than the call may take."""

    code = "unavailable"


class Denied(MFACError, PermissionError):
    """NATS' permissions don't allow it."""

    code = "denied"


class Exists(MFACError):
    """The run exists and differs in ``field``."""

    code = "exists"


class UnknownRun(MFACError, LookupError):
    """No such run, or it is another one than was attached to."""

    code = "unknown_run"


class UnknownStep(MFACError, LookupError):
    """The step is not in the window."""

    code = "unknown_step"


class NotGrowing(MFACError):
    """The step is not above the newest one."""

    code = "not_growing"


class NotFinite(MFACError, ValueError):
    """NaN or infinity."""

    code = "not_finite"


class Overflow(MFACError, OverflowError):
    """A number does not fit its dtype."""

    code = "overflow"


class IllConditioned(MFACError, ArithmeticError):
    """The bound of the answer's error is above the limit."""

    code = "ill_conditioned"


class TooFewRows(MFACError):
    """The window has fewer rows than ``min_rows``."""

    code = "too_few_rows"


class Behind(MFACError):
    """The window has not reached the version asked for."""

    code = "behind"


class VersionGone(MFACError):
    """The version asked for is not held any more."""

    code = "version_gone"


class Frozen(MFACError):
    """The run is frozen: its window does not change."""

    code = "frozen"


class TooLarge(MFACError):
    """More than a limit."""

    code = "too_large"


class Busy(MFACError):
    """No room now; the same may succeed later."""

    code = "busy"


class Cancelled(MFACError):
    """The call was cancelled by another thread."""

    code = "cancelled"


_classes: Dict[str, Type[MFACError]] = {
    cls.code: cls
    for cls in (
        Invalid, Timeout, VersionMismatch, Closed, Unavailable, Denied, Exists, UnknownRun, UnknownStep, NotGrowing,
        NotFinite, Overflow, IllConditioned, TooFewRows, Behind, VersionGone, Frozen, TooLarge, Busy, Cancelled,
    )
}  # fmt: skip


def error_of(reply: Mapping[str, Any]) -> MFACError:
    """The error that a reply tells of. A code without a class of its own is MFACError."""
    code = str(reply.get("code", "internal"))
    parts = {k: str(reply.get(k, "")) for k in ("field", "value", "limit", "hint")}
    return _classes.get(code, MFACError)(str(reply.get("message", code)), code=code, **parts)


def invalid(field: str, value: object, limit: str) -> Invalid:
    """The error of a check here, as the services word theirs."""
    text = str(value)
    text = text if len(text) <= 100 else text[:100] + "…"
    return Invalid(f"{field} is {text}, must be {limit}", field=field, value=text, limit=limit)
