"""What methods of Run return."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional

from ._memory import Array


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
