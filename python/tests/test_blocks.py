"""Runs of blocks: by default all is of the run's blocks, and of the whole of H where that is asked for."""

from typing import Any, Callable, Dict

import numpy as np
import pytest

import mfac

NEAR = 1e-9  # of the dense inversion: cond H is 1e4


def test_a_run_of_blocks(client: mfac.Client) -> None:
    rng = np.random.default_rng(6)
    G = rng.normal(size=(3, 210)).astype(np.float32)
    layout = {"w": (10, 20), "b": (10,)}
    run = client.attach("of-blocks", layout=layout, window=3, damping=1e-2, blocks="tensor")
    assert run.spec["blocks"] == "tensor"
    steps = [run.precondition(i + 1, g, dtype=np.float64) for i, g in enumerate(G)]
    v = rng.normal(size=210)
    H = G.astype(np.float64).T @ G.astype(np.float64) / 3 + 1e-2 * np.eye(210)
    x, diag, logdet = np.zeros(210), np.zeros(210), 0.0
    for b in (slice(0, 200), slice(200, 210)):
        inverse = np.linalg.inv(H[b, b])
        x[b], diag[b], logdet = inverse @ v[b], np.diag(inverse), logdet + np.linalg.slogdet(H[b, b])[1]
        assert np.allclose(steps[2][b], inverse @ G[2][b].astype(np.float64), rtol=NEAR, atol=NEAR)
    assert np.allclose(run.ihvp(v), x, rtol=NEAR, atol=NEAR)
    assert (steps[2] == run.ihvp_step(3, dtype=np.float64)).all()
    assert np.allclose(run.diag(dtype=np.float64), diag, rtol=NEAR)
    assert run.element(5, 205) == 0
    assert np.isclose(run.scalars()["logdet"], logdet, rtol=NEAR)
    assert [(b.lo, b.hi) for b in run.block_scalars()] == [(0, 200), (200, 210)]
    assert (run.prune(v, 0.5, rule="joint") == run.prune(v, 0.5, rule="joint", blocks="tensor")).all()
    assert (run.ihvp(v, blocks=210) == run.ihvp(v, blocks="tensor")).all()
    # The whole.
    assert np.allclose(run.ihvp(v, blocks="whole"), np.linalg.solve(H, v), rtol=NEAR, atol=NEAR)
    assert np.allclose(run.scores(v, blocks="whole").scores, G @ np.linalg.solve(H, v), rtol=NEAR)
    assert np.allclose(run.column(3, blocks="whole", dtype=np.float64), np.linalg.inv(H)[3], rtol=NEAR, atol=NEAR)
    assert np.isclose(run.scalars(blocks="whole")["logdet"], np.linalg.slogdet(H)[1], rtol=NEAR)
    g = rng.normal(size=210).astype(np.float32)
    assert (run.precondition(4, g, blocks="whole") == run.ihvp_step(4, blocks="whole")).all()
    assert run.tune([1e-2, 1e-1], blocks="whole").best in (1e-2, 1e-1)
    client.delete("of-blocks")


def test_a_run_of_blocks_refuses(client: mfac.Client) -> None:
    run = client.attach("across", dim=100, window=3, damping=1e-2, blocks=30, across=True)
    assert run.spec["blocks"] == "30 across"
    run.publish(1, np.ones(100))
    assert [(b.lo, b.hi) for b in run.block_scalars()] == [(0, 30), (30, 60), (60, 90), (90, 100)]
    v = np.ones(100)
    asked: Dict[str, Callable[[], Any]] = {
        "scores": lambda: run.scores(v),
        "influence": run.influence,
        "self": run.self_influence,
        "column": lambda: run.column(3),
        "sample": lambda: run.sample(1),
        "fisher": lambda: run.fvp(v),
        "hessian": lambda: run.hvp(v),
        "invsqrt": lambda: run.invsqrt(v),
        "spectrum": run.spectrum,
        "leaveout": lambda: run.tune([1.0, 2.0]),
    }
    for name, ask in asked.items():
        with pytest.raises(mfac.MFACError, match=f"kind is {name}, .* whole") as refused:
            ask()
        assert refused.value.code == "unsupported"
    with pytest.raises(mfac.Invalid, match=r'blocks is .tensor.*, must be "whole"'):
        run.scores(v, blocks="tensor")
    with pytest.raises(mfac.Exists) as e:
        client.attach("across", dim=100, window=3, damping=1e-2, blocks=30)
    assert e.value.field == "blocks"
    with pytest.raises(mfac.Exists):
        client.attach("across", dim=100, window=3, damping=1e-2)
    with pytest.raises(mfac.Invalid, match="blocks is tensor, must be a number of columns"):
        client.attach("other", dim=100, window=3, blocks="tensor")
    with pytest.raises(mfac.Invalid, match="blocks"):
        client.attach("other", dim=100, window=3, blocks="whole")
    with pytest.raises(mfac.Invalid, match="across"):
        client.attach("other", dim=100, window=3, across=True)
    client.delete("across")


def test_blocks_with_dampings_of_tensors(client: mfac.Client) -> None:
    rng = np.random.default_rng(8)
    G = rng.normal(size=(3, 50)).astype(np.float32)
    run = client.attach("damped", layout={"w": (30,), "b": (20,)}, window=3, damping=1e-2, tensor_damping={"b": 0.1}, blocks="tensor")
    run.publish(1, G)
    H = G.astype(np.float64).T @ G.astype(np.float64) / 3 + np.diag([1e-2] * 30 + [0.1] * 20)
    v = rng.normal(size=50)
    x = np.concatenate([np.linalg.solve(H[:30, :30], v[:30]), np.linalg.solve(H[30:, 30:], v[30:])])
    assert np.allclose(run.ihvp(v), x, rtol=NEAR, atol=NEAR)
    assert np.isclose(run.scalars()["logdet"], sum(np.linalg.slogdet(b)[1] for b in (H[:30, :30], H[30:, 30:])), rtol=NEAR)
    # All dampings by one factor: the likelihood of v at λ and 3λ.
    for lam, got in zip((1e-2, 3e-2), run.likelihoods([1e-2, 3e-2], v[None], blocks="whole").values):
        h = H + (lam / 1e-2 - 1) * np.diag([1e-2] * 30 + [0.1] * 20)
        assert np.isclose(got[0], -(50 * np.log(2 * np.pi) + np.linalg.slogdet(h)[1] + v @ np.linalg.solve(h, v)) / 2, rtol=NEAR)
    client.delete("damped")
