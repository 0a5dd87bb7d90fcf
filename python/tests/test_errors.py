"""Errors: typed, with field, value and limit; nothing has changed after one."""

import pickle
from typing import Any, Callable, Dict, Tuple

import numpy as np
import pytest

import mfac


def test_error_fields(run: mfac.Run) -> None:
    with pytest.raises(mfac.Invalid) as e:
        run.ihvp(np.ones(run.dim), damping=-1)
    assert (e.value.code, e.value.field, e.value.value, e.value.limit) == ("invalid", "damping", "-1", "> 0 and finite")
    assert "damping is -1, must be > 0 and finite" in str(e.value) and isinstance(e.value, ValueError)
    again = pickle.loads(pickle.dumps(e.value))
    assert type(again) is mfac.Invalid and str(again) == str(e.value) and again.field == "damping"


CASES: Tuple[Tuple[type, str, Callable[[mfac.Run], Any]], ...] = (
    (mfac.NotGrowing, "step", lambda r: r.publish(5, np.ones(r.dim))),
    (mfac.NotFinite, "gradient", lambda r: r.publish(9, np.full(r.dim, np.nan))),
    (mfac.NotFinite, "gradient", lambda r: r.publish(9, np.full(r.dim, 1e300))),
    (mfac.Invalid, "length of the gradient", lambda r: r.publish(9, np.ones(3))),
    (mfac.Invalid, "step", lambda r: r.publish(-1, np.ones(r.dim))),
    (mfac.Invalid, "step", lambda r: r.publish(1 << 64, np.ones(r.dim))),
    (mfac.Invalid, "wire", lambda r: r.publish(9, np.ones(r.dim), wire="f64")),
    (mfac.Invalid, "timeout", lambda r: r.publish(9, np.ones(r.dim), timeout=0)),
    (mfac.Invalid, "dimensions of g", lambda r: r.precondition(9, np.ones((1, r.dim)))),
    (mfac.Invalid, "length of the vector", lambda r: r.ihvp(np.ones(3))),
    (mfac.Invalid, "vectors", lambda r: r.ihvp(np.ones((r.max_vectors + 1, r.dim)))),
    (mfac.Invalid, "dtype", lambda r: r.ihvp(np.ones(r.dim), dtype=np.int32)),
    (mfac.TooFewRows, "rows", lambda r: r.ihvp(np.ones(r.dim), min_rows=6)),
    (mfac.Behind, "version", lambda r: r.ihvp(np.ones(r.dim), exactly=10**9)),
    (mfac.UnknownStep, "step", lambda r: r.gradient(99)),
    (mfac.UnknownStep, "step", lambda r: r.forget([1, 99])),
    (mfac.Invalid, "index", lambda r: r.element(0, r.dim)),
    (mfac.Invalid, "index", lambda r: r.column(-1)),
    (mfac.Invalid, "index", lambda r: r.subblock([])),
    (mfac.Invalid, "sparsity", lambda r: r.prune(np.ones(r.dim), 1.0)),
    (mfac.Invalid, "rule", lambda r: r.prune(np.ones(r.dim), 0.5, rule="best")),
    (mfac.Invalid, "pattern", lambda r: r.prune(np.ones(r.dim), pattern="2 of 4")),
    (mfac.Invalid, "pattern", lambda r: r.prune(np.ones(r.dim), pattern="5:4")),
    (mfac.Invalid, "pattern", lambda r: r.prune(np.ones(r.dim), pattern="0:0")),
    (mfac.Invalid, "sparsity", lambda r: r.prune(np.ones(r.dim), 0.5, pattern="2:4")),
    (mfac.Invalid, "blocks", lambda r: r.ihvp(np.ones(r.dim), blocks="layer")),
    (mfac.Invalid, "blocks", lambda r: r.ihvp(np.ones(r.dim), blocks=0)),
    (mfac.Invalid, "blocks", lambda r: r.diag(blocks="tensor")),
    (mfac.Invalid, "across", lambda r: r.diag(across=True)),
    (mfac.Invalid, "shape of the mask", lambda r: r.prune(np.ones(r.dim), 0.5, mask=[1])),
    (mfac.Invalid, "mask", lambda r: r.prune(np.ones(r.dim), 0.5, mask=np.full(r.dim, 7))),
    (mfac.Invalid, "steps", lambda r: r.prune(np.ones(r.dim), 0.5, steps=0)),
    (mfac.Invalid, "coefficients", lambda r: r.combine([1, 2], [])),
    (mfac.Invalid, "pair", lambda r: r.pairs(np.ones((1, r.dim)), [(0, 1)])),
    (mfac.Invalid, "shape of pairs", lambda r: r.pairs(np.ones((1, r.dim)), [0, 0])),
    (mfac.Invalid, "dampings", lambda r: r.scalars([])),
    (mfac.Invalid, "damping", lambda r: r.set(damping=0.0)),
    (mfac.Invalid, "weight", lambda r: r.publish(9, np.ones(r.dim), weight=-1)),
    (mfac.Invalid, "gradients", lambda r: r.tune([1.0], np.ones((1, r.dim)))),
    (mfac.Invalid, "dampings", lambda r: r.likelihoods([])),
    (mfac.Invalid, "number", lambda r: r.sample(1, first=-1)),
    (mfac.Invalid, "k", lambda r: r.sample(1, k=0)),
)


def test_refusals_change_nothing(run: mfac.Run) -> None:
    before, steps = run.status(), run.steps().steps.tolist()
    for kind, field, call in CASES:
        with pytest.raises(kind) as e:
            call(run)
        assert isinstance(e.value, mfac.MFACError)
        assert e.value.field in (field, "coef", "value", "column"), (kind, field, str(e.value))
    after = run.status()
    assert (after["version"], after["rows"], run.steps().steps.tolist()) == (before["version"], before["rows"], steps)


def test_attach(client: mfac.Client, run: mfac.Run) -> None:
    with pytest.raises(mfac.Exists) as e:
        client.attach(run.name, dim=run.dim, window=9, damping=1e-2)
    assert (e.value.field, e.value.value) == ("window", "9")
    cases: Tuple[Tuple[Dict[str, Any], str], ...] = (
        ({"dim": 0}, "dim"),
        ({}, "dim"),
        ({"dim": 5, "layout": {"w": (3,)}}, "dim"),
        ({"dim": 3, "damping": 0.0}, "damping"),
        ({"dim": 3, "divisor": "mean"}, "divisor"),
        ({"dim": 3, "store": "f8"}, "store"),
        ({"dim": 3, "shards": -1}, "shards"),
    )
    for bad, field in cases:
        with pytest.raises(mfac.Invalid) as f:
            client.attach("bad", window=4, **bad)
        assert f.value.field == field
    with pytest.raises(mfac.UnknownRun):
        client.join("nobody")
    assert client.join(run.name).dim == run.dim


def test_part_of_a_publication(run: mfac.Run) -> None:
    g = np.ones((3, run.dim))
    g[2, 7] = np.inf
    with pytest.raises(mfac.NotFinite) as e:
        run.publish(20, g)
    assert [rows for _, rows in e.value.commits] == [6, 7]


def test_committed_beside_a_refusal(run: mfac.Run) -> None:
    with pytest.raises(mfac.TooFewRows) as e:
        run.precondition(30, np.ones(run.dim), min_rows=8)
    assert e.value.committed_version == run.status()["version"] and 30 in run.steps().steps


def test_no_server() -> None:
    with pytest.raises(mfac.Unavailable) as e:
        mfac.connect("nats://127.0.0.1:1", timeout=0.2)
    assert "127.0.0.1:1" in str(e.value) and isinstance(e.value, ConnectionError)
    with pytest.raises(mfac.MFACError, match="nope"):
        mfac.connect("nats://127.0.0.1:1", creds="/nope", timeout=0.2)
    with pytest.raises(mfac.Invalid) as f:
        mfac.connect("http://127.0.0.1:1", timeout=0.2)
    assert f.value.field == "NATS url"


def test_closed(client: mfac.Client, run: mfac.Run) -> None:
    with mfac.connect(client.url) as other:
        joined = other.join(run.name)
    other.close()
    for call in (joined.status, other.runs, lambda: other.empty(3)):
        with pytest.raises(mfac.Closed):
            call()
    assert "closed" in repr(other)
