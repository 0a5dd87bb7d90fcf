"""Numbers: against dense truth (testdata), and byte for byte against the tool, which is the Go client."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pytest

import mfac

Tool = Callable[..., str]

# Of testdata/README.md, relative to the largest element of the answer.
F64, SPAN, F32_EACH, F32_MOST = 1e-12, 1e-9, 1.2e-7, 6e-8


def assert_close(got: npt.NDArray[Any], want: npt.NDArray[Any], tolerance: float = F64) -> None:
    most = np.abs(want).max()
    if got.dtype == np.float32:
        off = np.abs(got.astype(np.float64) - want) - np.maximum(F32_EACH * np.abs(want), F32_MOST * most)
        assert (off <= max(0.0, tolerance - F64) * most).all()
    else:
        assert (np.abs(got - want) <= tolerance * most).all()


@pytest.fixture(scope="module")
def mnist(client: mfac.Client, vectors: Mapping[str, Any]) -> Iterator[mfac.Run]:
    r = client.attach("mnist", dim=12730, window=32, damping=0.01)
    r.publish(1, vectors["grads"])
    yield r
    client.delete("mnist")


@pytest.mark.parametrize("damping", ["0.01", "1e-05"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shared_vectors(mnist: mfac.Run, vectors: Mapping[str, Any], damping: str, dtype: Any) -> None:
    lam = float(damping)
    key = next(k for k in vectors if k.startswith("ihvp_") and k.count("_") == 1 and float(k[5:]) == lam)
    suffix = key[len("ihvp_") :]
    info = mfac.Answer()
    x = mnist.ihvp(vectors["v"], damping=lam, dtype=dtype, info=info)
    assert x.dtype == dtype and info.rows == 32 and len(info.bounds) == 1
    assert_close(x, vectors[f"ihvp_{suffix}"], SPAN if lam < 1e-3 else F64)
    truth = vectors[f"ihvp_{suffix}"]
    assert np.linalg.norm(x - truth) <= info.bound * np.linalg.norm(truth) + 1e-12 * np.linalg.norm(truth)  # the truth's own error
    last = mnist.ihvp_step(44, damping=lam, dtype=dtype)
    assert_close(last, vectors[f"ihvp_last_{suffix}"], SPAN if lam < 1e-3 else F64)
    assert_close(mnist.diag(damping=lam, dtype=dtype), vectors[f"diag_{suffix}"], F64)


def test_part_of_a_window(client: mfac.Client, vectors: Mapping[str, Any]) -> None:
    run = client.attach("part", dim=12730, window=32, damping=0.01)
    run.publish(1, vectors["grads"][:10])
    key = next(k for k in vectors if k.startswith("ihvp_part_") and float(k[10:]) == 0.01)
    assert_close(run.ihvp(vectors["v"].astype(np.float64)), vectors[key])
    client.delete("part")


def npy(tool: Tool, tmp_path: Path, *command: object) -> npt.NDArray[Any]:
    out = tmp_path / "out.npy"
    tool(*command, "-o", out)
    x: npt.NDArray[Any] = np.load(out)
    return x


def test_same_bytes_as_go(client: mfac.Client, mnist: mfac.Run, vectors: Mapping[str, Any], tool: Tool, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    V = rng.normal(size=(3, mnist.dim))
    w = vectors["weights"]
    keep = rng.integers(-1, 2, size=mnist.dim).astype(np.int8)
    v32, v64, wf, mask = (tmp_path / f"{n}.npy" for n in ("v32", "v64", "w", "mask"))
    np.save(v32, V.astype(np.float32))
    np.save(v64, V)
    np.save(wf, w)
    server = ("--server", client.url)

    def same(got: npt.NDArray[Any], *command: object) -> None:
        want = npy(tool, tmp_path, *command, *server)
        assert got.dtype == want.dtype and got.shape == want.shape
        assert got.tobytes() == want.tobytes()

    same(mnist.ihvp(V), "ihvp", "mnist", v64, "--float64")
    same(mnist.ihvp(V.astype(np.float32)), "ihvp", "mnist", v32)
    same(mnist.ihvp(V, damping=0.5), "ihvp", "mnist", v64, "--damping", 0.5, "--float64")
    same(mnist.fvp(V), "fvp", "mnist", v64, "--float64")
    same(mnist.hvp(V.astype(np.float32)), "hvp", "mnist", v32)
    same(mnist.diag(), "diag", "mnist")
    same(mnist.column(77), "column", "mnist", 77)
    same(mnist.sample(9, k=2), "sample", "mnist", "--seed", 9, "--count", 2)
    same(mnist.prune(w, 0.8), "prune", "mnist", wf, "--sparsity", 0.8)
    np.save(mask, keep.astype(np.float32))
    same(
        mnist.prune(w, 0.6, rule="joint", mask=keep, steps=3),
        "prune", "mnist", wf, "--sparsity", 0.6, "--rule", "joint", "--mask", mask, "--steps", 3,
    )  # fmt: skip
    same(mnist.prune(w, pattern="2:4"), "prune", "mnist", wf, "--pattern", "2:4")
    s = mnist.scalars([1e-3, 1e-1])
    told = json.loads(tool("scalars", "mnist", "--damping", "1e-3:1e-1:log2", "--json", *server))
    assert [a["log_det"]["value"] for a in told["at"]] == s["logdet"].tolist()
    assert told["trace"] == {"value": s["trace"], "error": s.errors["trace"]}


def test_batches_are_single_ones(run: mfac.Run) -> None:
    V = np.random.default_rng(7).normal(size=(4, run.dim))
    both = run.ihvp(V)
    for k, v in enumerate(V):
        assert run.ihvp(v).tobytes() == both[k].tobytes()
    # Float32 results are the float64 ones rounded once.
    assert run.ihvp(V, dtype=np.float32).tobytes() == both.astype(np.float32).tobytes()
    assert run.ihvp(V.astype(np.float32), dtype=np.float64).tobytes() == run.ihvp(V.astype(np.float32).astype(np.float64)).tobytes()
    assert run.diag(dtype=np.float64).astype(np.float32).tobytes() == run.diag().tobytes()


def test_dense_truth(run: mfac.Run) -> None:
    """All of it on a small run, against dense float64."""
    rng = np.random.default_rng(11)
    lam, N, d = run.damping, run.window, run.dim
    G = np.stack([run.gradient(s) for s in range(1, 6)]).astype(np.float64)
    assert (np.random.default_rng(3).normal(size=(5, d)).astype(np.float32) == G).all()
    H = G.T @ G / N + lam * np.eye(d)
    inverse = np.linalg.inv(H)
    v, u = rng.normal(size=(2, d))

    def near(got: Any, want: Any) -> bool:
        return bool(np.allclose(got, want, rtol=1e-9, atol=1e-9))  # of the dense inversion: cond H is 1e4

    assert near(run.ihvp(v), inverse @ v)
    assert near(run.hvp(v), H @ v)
    assert near(run.fvp(v), H @ v - lam * v)
    assert near(run.column([3, 9], dtype=np.float64), inverse[[3, 9]])
    assert near(run.subblock([3, 9, 500]), inverse[np.ix_([3, 9, 500], [3, 9, 500])])
    assert near(run.element(3, 9), inverse[3, 9])
    assert near(run.element(4, 4), inverse[4, 4])
    assert near(run.combine([2, 4], [2.0, -1.0], dtype=np.float64), inverse @ (2 * G[1] - G[3]))
    assert near(run.scores(np.stack([v, u])).scores, np.stack([v, u]) @ inverse @ G.T)
    p = run.pairs(np.stack([v, u]), [(0, 1), (1, 1)])
    assert (np.abs(p.values - [v @ inverse @ u, u @ inverse @ u]) <= p.errors + 1e-9 * np.abs(p.values)).all()
    inf = run.influence()
    assert near(inf.values, G @ inverse @ G.T) and inf.steps.tolist() == [1, 2, 3, 4, 5]
    alone = run.self_influence()
    assert near(alone.values, np.diag(inf.values))
    out = [g @ np.linalg.inv(H - np.outer(g, g) / N) @ g for g in G]
    assert np.allclose(alone.left_out, out, rtol=1e-7)  # of a second inversion, cond 1e6
    s = run.scalars()
    assert np.isclose(s["logdet"], np.linalg.slogdet(H)[1]) and np.isclose(s["trace_inverse"], np.trace(inverse))
    assert np.isclose(s["effective_dim"], np.trace((H - lam * np.eye(d)) @ inverse)) and s["n"] == N and s["damping"] == lam
    e = run.spectrum()
    assert np.allclose(e.eigenvalues, np.linalg.eigvalsh(G @ G.T / N)[::-1], atol=max(e.error, 1e-9))
    values, vectors = np.linalg.eigh(H)
    assert near(run.invsqrt(v), vectors @ ((vectors.T @ v) / np.sqrt(values)))
    lh = run.likelihoods([0.1, 1.0], np.stack([v, u]))
    for k, at in enumerate((0.1, 1.0)):
        K = G.T @ G / N + at * np.eye(d)
        want = [-0.5 * (d * np.log(2 * np.pi) + np.linalg.slogdet(K)[1] + h @ np.linalg.solve(K, h)) for h in (v, u)]
        assert (np.abs(lh.values[k] - want) <= lh.errors[k] + 1e-9 * np.abs(want)).all()  # of the dense algebra
    t = run.tune([0.1, 1.0], np.stack([v, u]))
    assert near(t.mean, lh.values.mean(axis=1)) and t.below.min() == 0 and t.best == t.dampings[t.mean.argmax()]
    assert run.likelihoods().steps.tolist() == [1, 2, 3, 4, 5]
    fixed = np.zeros(d, dtype=bool)
    fixed[:20] = True
    c = run.compensate(v, fixed)
    assert (c[:20] == v[:20]).all()
    assert np.abs((H @ c)[20:]).max() <= 1e-9 * np.abs(H @ c).max()  # the gradient of the quadratic on the rest is zero
    run.set(damping=0.5)
    assert run.damping == 0.5
    assert near(run.ihvp(v), np.linalg.solve(H + (0.5 - lam) * np.eye(d), v))


def test_weights_and_half_lives(client: mfac.Client) -> None:
    rng = np.random.default_rng(2)
    G = rng.normal(size=(3, 200)).astype(np.float32)
    run = client.attach("weights", dim=200, window=4, damping=1e-2, half_life=2.0)
    for step, w in ((1, 4.0), (2, 1.0), (5, 0.5)):
        run.publish(step, G[min(step - 1, 2)], weight=w)
    weights = np.array([4 * 2**-2.0, 1 * 2**-1.5, 0.5])
    G64 = G.astype(np.float64)
    H = (G64.T * weights) @ G64 / 4 + 1e-2 * np.eye(200)
    v = rng.normal(size=200)
    assert np.allclose(run.ihvp(v), np.linalg.solve(H, v), rtol=1e-9)  # of the dense solution: cond H is 1e4
    assert run.spec["half_life"] == 2
    client.delete("weights")


def test_blocks(client: mfac.Client) -> None:
    rng = np.random.default_rng(6)
    G = rng.normal(size=(3, 210)).astype(np.float32)
    run = client.attach("blocks", layout={"w": (10, 20), "b": (10,)}, window=3, damping=1e-2)
    run.publish(1, G)
    v = rng.normal(size=210)
    H = G.astype(np.float64).T @ G.astype(np.float64) / 3 + 1e-2 * np.eye(210)
    for blocks, across, borders in (("tensor", False, [0, 200, 210]), (80, False, [0, 80, 160, 200, 210]), (80, True, [0, 80, 160, 210])):
        x, diag, w = np.zeros(210), np.zeros(210), [(lo, hi) for lo, hi in zip(borders, borders[1:])]
        for lo, hi in w:
            part = np.linalg.inv(H[lo:hi, lo:hi])
            x[lo:hi], diag[lo:hi] = part @ v[lo:hi], np.diag(part)
        near = 1e-9  # of the dense inversion: cond H is 1e4
        assert np.allclose(run.ihvp(v, blocks=blocks, across=across), x, rtol=near, atol=near)
        assert np.allclose(run.diag(dtype=np.float64, blocks=blocks, across=across), diag, rtol=near)
        assert np.isclose(run.element(5, 5, blocks=blocks, across=across), diag[5], rtol=near)
        assert run.element(5, 205, blocks="tensor") == 0
        parts = run.block_scalars(blocks=blocks, across=across)
        assert [(b.lo, b.hi) for b in parts] == w and {b.tensor for b in parts} <= {"w", "b"}
        assert np.allclose([b.scalars["logdet"] for b in parts], [np.linalg.slogdet(H[lo:hi, lo:hi])[1] for lo, hi in w], rtol=near)
    step = run.ihvp_step(2, dtype=np.float64, blocks="tensor")
    assert np.allclose(step[200:], np.linalg.solve(H[200:, 200:], G[1, 200:]), rtol=1e-9)
    assert (run.prune(v, 0.5, rule="joint", blocks="tensor") == 0).sum() == 105
    client.delete("blocks")


def test_labels_and_resize(run: mfac.Run) -> None:
    assert run.labels().labels is None and run.scores(np.ones(run.dim)).labels is None
    run.publish(9, np.ones((2, run.dim)), label=["a", "ä"])
    run.precondition(11, np.ones(run.dim), label="last")
    want = [""] * 5 + ["a", "ä", "last"]
    assert run.labels().labels == run.influence().labels == run.self_influence().labels == want
    assert run.scores(np.ones(run.dim)).labels == want
    many = run.max_vectors
    assert run.resize(3).rows == 3 and run.window == 3 and run.max_vectors >= many
    assert run.labels().labels == want[5:] and run.steps().steps.tolist() == [9, 10, 11]
    with pytest.raises(mfac.TooLarge):
        run.publish(12, np.ones(run.dim), label="x" * 257)
    with pytest.raises(mfac.Invalid) as e:
        run.publish(12, np.ones(run.dim), label=["a", "b"])
    assert e.value.field == "labels"


def test_dampings_of_tensors(client: mfac.Client) -> None:
    rng = np.random.default_rng(8)
    layout = {"w": (10, 20), "b": (10,)}
    run = client.attach("tensors", layout=layout, window=3, damping=1e-2, tensor_damping={"b": 0.5})
    G = rng.normal(size=(3, 210)).astype(np.float32)
    run.publish(1, G)
    H = G.astype(np.float64).T @ G.astype(np.float64) / 3 + np.diag(np.repeat([1e-2, 0.5], [200, 10]))
    v = rng.normal(size=210)
    assert np.allclose(run.ihvp(v), np.linalg.solve(H, v), rtol=1e-9)  # of the dense solution: cond H is 1e4
    assert np.allclose(run.hvp(v), H @ v, rtol=1e-9)
    with pytest.raises(mfac.Exists):
        client.attach("tensors", layout=layout, window=3, damping=1e-2)
    with pytest.raises(mfac.Invalid) as e:
        client.attach("no-tensor", layout=layout, window=3, tensor_damping={"c": 1.0})
    assert e.value.field == "damping" and '"c"' in e.value.value
    client.delete("tensors")


def test_frozen(run: mfac.Run) -> None:
    before, said = run.diag(dtype=np.float64), []
    assert run.frozen()["state"] == "thawed"
    run.freeze(progress=lambda done, total: said.append((done, total)))
    assert said[-1] == (run.dim, run.dim) and run.frozen()["state"] == "frozen"
    with pytest.raises(mfac.Frozen):
        run.publish(9, np.ones(run.dim))
    assert run.diag(dtype=np.float64).tobytes() == before.tobytes()
    run.thaw()
    assert run.publish(9, np.ones(run.dim)).rows == 6


def test_verify_and_refine(run: mfac.Run) -> None:
    info = mfac.Answer()
    v = np.random.default_rng(1).normal(size=run.dim)
    run.ihvp(v, verify=True, info=info)
    assert len(info.residuals) == 1 and info.residuals[0] < 1e-12
    run.ihvp(v, refine=True, info=info)
    assert len(info.residuals) == 1


def test_layout(client: mfac.Client) -> None:
    run = client.attach("layout", layout={"w": (3, 4), "b": (4,), "s": ()}, window=2)
    assert run.dim == 17 and run.damping == 1e-5
    assert run.layout() == {"w": (3, 4), "b": (4,), "s": ()}
    assert client.attach("layout", layout=[("w", (3, 4)), ("b", (4,)), ("s", ())], window=2).dim == 17
    with pytest.raises(mfac.Exists) as e:
        client.attach("layout", layout={"w": (4, 4), "s": ()}, window=2)
    assert e.value.field == "layout"
    client.delete("layout")


def test_columns(client: mfac.Client) -> None:
    """A step published in two halves, by two threads as two ranks would."""
    run = client.attach("halves", dim=1000, window=4)
    g = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    with ThreadPoolExecutor(2) as pool:
        a = pool.submit(run.precondition, 1, g[:300], columns=0)
        b = pool.submit(run.precondition, 1, g[300:], columns=300)
        u = np.concatenate([a.result(), b.result()])
    assert u.tobytes() == run.ihvp_step(1).tobytes()
    client.delete("halves")
