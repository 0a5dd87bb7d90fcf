"""What gradients, vectors and results are sent in: rounded once, to nearest even, as numpy does it for float16 and as said below for
bfloat16."""

from typing import Callable

import numpy as np
import pytest

import mfac
from mfac._memory import Array


def bfloat16(x: Array) -> Array:
    """The nearest numbers that the upper halves of float32 can say, ties to even."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)


def float16(x: Array) -> Array:
    return x.astype(np.float16).astype(np.float32)


def numbers(run: mfac.Run) -> Array:
    """Of many sizes, ties and small ones among them."""
    rng = np.random.default_rng(5)
    x = (rng.normal(size=run.dim) * 10.0 ** rng.integers(-6, 0, size=run.dim)).astype(np.float32)
    x[:4] = 1 + 2.0**-8, 1 + 3 * 2.0**-8, -(1 + 2.0**-11), 0.0  # half-way between two of bfloat16, and of float16
    return x


@pytest.mark.parametrize(("wire", "rounded"), [("bf16", bfloat16), ("f16", float16)])
def test_gradients_are_rounded_once(run: mfac.Run, wire: str, rounded: Callable[[Array], Array]) -> None:
    g = numbers(run)
    run.publish(10, g, wire=wire)
    assert (run.gradient(10) == rounded(g)).all() and not (run.gradient(10) == g).all()
    run.publish(11, np.stack([g, -g]), wire=wire)
    assert (run.gradient(12) == rounded(-g)).all()
    u = run.precondition(13, g, wire=wire)
    assert (run.gradient(13) == rounded(g)).all()
    assert np.array_equal(u, run.ihvp_step(13))
    run.publish(14, g[:503], columns=0, wire=wire, wait=False)
    run.publish(14, g[503:], columns=503, wire=wire)
    assert (run.gradient(14) == rounded(g)).all()


@pytest.mark.parametrize(("wire", "rounded"), [("bf16", bfloat16), ("f16", float16)])
def test_vectors_and_results(run: mfac.Run, wire: str, rounded: Callable[[Array], Array]) -> None:
    v = numbers(run)
    assert np.array_equal(run.ihvp(v, wire=wire), run.ihvp(rounded(v)))
    exact = run.ihvp(v.astype(np.float64))
    result = run.ihvp(v, result=wire)
    assert result.dtype == np.float32 and np.array_equal(result, rounded(result))  # numbers of that type
    assert (np.abs(result - exact) <= (2.0**-8 if wire == "bf16" else 2.0**-11) * np.abs(exact) + 2.0**-25).all()  # below float16's range


def test_what_it_can_not_say(run: mfac.Run) -> None:
    with pytest.raises(mfac.Overflow):
        run.publish(10, np.full(run.dim, 1e6, dtype=np.float32), wire="f16")
    with pytest.raises(mfac.Invalid, match="wire"):
        run.publish(10, np.ones(run.dim), wire="f8")
    assert run.status()["newest"] == 5
