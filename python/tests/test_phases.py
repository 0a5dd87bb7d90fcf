"""What pruning tells while the workers prune."""

import threading
from typing import List, Tuple

import numpy as np
import pytest

import mfac


def test_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gives phases hears of them; progress keeps its two arguments, and hears of columns alone."""
    monkeypatch.setenv("GOMAXPROCS", "1")  # so that a step takes more than the second after which phases are told
    with mfac.local(workers=1, memory="512MiB") as client:
        run = client.attach("phases", dim=40_000, window=512, damping=1e-3)
        rng = np.random.default_rng(0)
        for first in range(1, 513, 32):
            run.publish(first, rng.standard_normal((32, run.dim), dtype=np.float32))
        w = rng.standard_normal(run.dim)
        heard: List[Tuple[mfac.Phase, int]] = []
        said: List[Tuple[int, int]] = []
        for _ in range(5):  # till one has lasted long enough
            pruned = run.prune(
                w, 0.8, rule="joint", steps=2, phases=lambda p: heard.append((p, threading.get_ident())), progress=lambda *a: said.append(a)
            )
            if heard:
                break
        assert int((pruned == 0).sum()) == 32_000
        assert heard and {thread for _, thread in heard} == {threading.get_ident()}
        for p, _ in heard:
            assert p.name in ("gram", "scores", "selection", "update") and 0 <= p.done <= p.total and 1 <= p.step <= p.steps == 2
        assert said[-1] == (run.dim, run.dim) and all(total == run.dim for _, total in said)

        class Enough(Exception):
            pass

        def enough(p: mfac.Phase) -> None:
            raise Enough

        with pytest.raises(Enough):
            run.prune(w, 0.8, rule="joint", steps=2, phases=enough)
        assert run.status()["rows"] == 512
