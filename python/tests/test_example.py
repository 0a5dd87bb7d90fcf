"""The least that must work as written."""

import numpy as np

import mfac


def test_the_least_that_must_work() -> None:
    rng = np.random.default_rng(0)
    d, step, i, j = 1000, 10, 3, 7
    g, v, w = rng.normal(size=(3, d)).astype(np.float32)
    with mfac.local(workers=3) as client:
        run = client.attach("demo", dim=d, window=64, damping=1e-4)
        run.publish(3, rng.normal(size=(5, d)))  # so that there is a 3 and a 7
        run.publish(step, g)
        x = run.ihvp(v)
        u = run.precondition(step + 1, g)
        diag, element, scores = run.diag(), run.element(i, j), run.scores(v)
        logdet = run.scalars()["logdet"]
        pruned = run.prune(w, sparsity=0.8, rule="joint")
        left = run.forget([3, 7])

    # Dense algebra, of the rows as float32 stores them.
    rng = np.random.default_rng(0)
    rng.normal(size=(3, d))
    G = np.concatenate([rng.normal(size=(5, d)).astype(np.float32), g[None], g[None]]).astype(np.float64)
    H = G[:6].T @ G[:6] / 64 + 1e-4 * np.eye(d)
    assert np.allclose(x, np.linalg.solve(H, v.astype(np.float64)), rtol=1e-5, atol=1e-5 * np.abs(x).max())  # float32 of H⁻¹v
    H = G.T @ G / 64 + 1e-4 * np.eye(d)
    inverse = np.linalg.inv(H)
    assert np.allclose(u, inverse @ g, rtol=1e-5, atol=1e-5 * np.abs(u).max())
    assert np.allclose(diag, np.diag(inverse), rtol=1e-6)  # float32
    assert abs(element - inverse[i, j]) <= 1e-9 * np.sqrt(inverse[i, i] * inverse[j, j])  # of the inversion above
    assert scores.steps.tolist() == [3, 4, 5, 6, 7, 10, 11]
    assert np.allclose(scores.scores, G @ inverse @ v, rtol=1e-6, atol=1e-6)
    assert abs(logdet - np.linalg.slogdet(H)[1]) <= 1e-9 * abs(logdet)
    assert (pruned == 0).sum() == 800
    assert left.rows == 5
