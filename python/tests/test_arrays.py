"""Arrays: shapes, dtypes, out=, memory that is shared."""

import gc
import os
from typing import Any

import numpy as np
import pytest

import mfac
from mfac._memory import Pool


def pool(client: mfac.Client) -> Pool:
    return client._linked().pool


def test_out(run: mfac.Run) -> None:
    v = np.random.default_rng(0).normal(size=(2, run.dim))
    want = run.ihvp(v)
    out = np.full((2, run.dim), np.nan)
    assert run.ihvp(v, out=out) is out and (out == want).all()
    assert run.ihvp(v, out=v) is v and (v == want).all()  # in place: a vector is copied before it is sent
    strided = np.zeros((run.dim, 2)).T
    assert (run.ihvp(want, out=strided) == run.ihvp(want)).all()
    small = np.zeros(run.dim, dtype=np.float32)
    assert (run.ihvp(want[0], out=small) == run.ihvp(want[0]).astype(np.float32)).all()
    assert run.diag(out=small) is small and run.gradient(3, out=small) is small
    assert run.ihvp_step(2, out=small) is small and (small == run.ihvp_step(2)).all()
    wide = np.zeros(run.dim)
    assert (run.gradient(3, out=wide) == run.gradient(3)).all()
    g = np.ones(run.dim, dtype=np.float32)
    assert run.precondition(50, g, out=g) is g and (g == run.ihvp_step(50)).all()
    for bad, field in (
        (np.zeros(3), "shape of out"), (np.zeros(run.dim, dtype=int), "out"), ([0.0], "out"), (np.broadcast_to(1.0, run.dim), "out"),
    ):  # fmt: skip
        with pytest.raises(mfac.Invalid) as e:
            run.ihvp(v[0], out=bad)  # type: ignore[arg-type]
        assert e.value.field == field


def test_shared_memory_is_not_copied(client: mfac.Client, run: mfac.Run) -> None:
    v, out = client.empty((2, run.dim), np.float64), client.empty(run.dim, np.float64)
    v[:] = np.random.default_rng(1).normal(size=v.shape)
    before = pool(client)._last, len(pool(client)._free)
    assert run.ihvp(v[1], out=out) is out
    assert (pool(client)._last, len(pool(client)._free)) == before  # no block was made or taken
    assert (out == run.ihvp(np.array(v[1]))).all()
    with pytest.raises(mfac.Invalid):  # in one place
        run.ihvp(out, out=out)
    g = client.empty(run.dim)
    g[:] = 1
    run.publish(60, g)
    assert (run.gradient(60) == 1).all()
    for shape, dtype, field in ((0, "f4", "shape"), ((3, -1), "f4", "shape"), (3, "i8", "dtype")):
        with pytest.raises(mfac.Invalid) as e:
            client.empty(shape, dtype)
        assert e.value.field == field


def test_results_outlive_all(vectors: Any) -> None:
    with mfac.local(workers=1) as client:
        run = client.attach("big", dim=1 << 19, window=2, damping=1.0)
        run.publish(1, np.ones(run.dim))
        many = [run.ihvp(np.full(run.dim, k + 1.0)) for k in range(5)]  # 4 MiB: over shared memory
        assert all(x.base is not None for x in many)
        first = [x[0] for x in many]
        assert first == sorted(first) and len(set(first)) == 5  # none was written over
    del client, run
    gc.collect()
    assert [x.sum() for x in many] == [x[0] * len(x) for x in many]
    many[0] += 1  # they are the caller's


def test_memory_is_used_again(client: mfac.Client) -> None:
    run = client.attach("again", dim=1 << 19, window=2, damping=1.0)
    run.publish(1, np.ones(run.dim))
    for _ in range(3):
        run.ihvp(np.ones(run.dim))
    last = pool(client)._last
    for _ in range(20):
        run.ihvp(np.ones(run.dim))
    assert pool(client)._last == last
    # Beyond so many results, they are copies: a block has a descriptor.
    kept = [run.diag(dtype=np.float64) for _ in range(80)]
    pool(client)._collect()
    assert len(pool(client)._out) <= 70
    assert all((x == kept[0]).all() for x in kept)
    client.delete("again")


def test_without_memfd(client: mfac.Client, run: mfac.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS: unlinked files, which the agent reads and writes instead of mapping them."""
    monkeypatch.delattr(os, "memfd_create")
    with mfac.connect(client.url) as other:
        r = other.join(run.name)
        v = np.random.default_rng(0).normal(size=(2, run.dim))
        assert (r.ihvp(v) == run.ihvp(v)).all()
        u = r.precondition(80, v[0])
        assert (u == run.ihvp_step(80)).all()
        kept = other.empty(run.dim, np.float64)
        assert r.diag(out=kept) is kept and (kept == run.diag(dtype=np.float64)).all()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "i4", "u1"])
def test_dtypes(run: mfac.Run, dtype: str) -> None:
    v = np.arange(run.dim).astype(dtype)
    want = np.float32 if np.dtype(dtype).kind == "f" and np.dtype(dtype).itemsize <= 4 else np.float64
    x = run.ihvp(v)
    assert x.dtype == want and (x == run.ihvp(v.astype(want))).all()
    run.publish(70, v)
    assert (run.gradient(70) == v.astype(np.float32)).all()


def test_lists_and_strides(run: mfac.Run) -> None:
    v = np.random.default_rng(2).normal(size=(run.dim, 2))
    assert (run.ihvp(v.T) == run.ihvp(np.ascontiguousarray(v.T))).all()
    assert (run.ihvp(v[:, 0].tolist()) == run.ihvp(v[:, 0])).all()
    assert (run.ihvp(v[::-1, 0]) == run.ihvp(v[::-1, 0].copy())).all()


@pytest.mark.parametrize(
    "v", [np.zeros((2, 2, 2)), np.zeros(0), np.float64(3), np.zeros(5, dtype=complex), np.array(["a"]), [None]], ids=str
)
def test_what_is_no_vector(run: mfac.Run, v: Any) -> None:
    with pytest.raises(mfac.Invalid) as e:
        run.ihvp(v)
    assert e.value.field in ("shape", "dtype")
