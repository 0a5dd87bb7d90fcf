"""What pruning tells while the workers prune."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import List, Tuple

import numpy as np
import pytest

import mfac


class _Enough(Exception):
    pass


def test_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gives phases hears of them; progress keeps its two arguments, and hears of columns alone."""
    monkeypatch.setenv("GOMAXPROCS", "1")
    with mfac.local(workers=1, memory="512MiB") as client:
        run = client.attach("phases", dim=40_000, window=512, damping=1e-3)
        rng = np.random.default_rng(0)
        for first in range(1, 513, 32):
            run.publish(first, rng.standard_normal((32, run.dim), dtype=np.float32))
        w = rng.standard_normal(run.dim)

        def prune(_: int) -> int:
            heard: List[Tuple[mfac.Phase, int]] = []
            said: List[Tuple[int, int]] = []
            pruned = run.prune(
                w, 0.8, rule="joint", steps=2, phases=lambda p: heard.append((p, threading.get_ident())), progress=lambda *a: said.append(a)
            )
            assert int((pruned == 0).sum()) == 32_000
            assert {thread for _, thread in heard} <= {threading.get_ident()}
            for p, _ in heard:
                assert p.name in ("gram", "scores", "selection", "update") and 0 <= p.done <= p.total and 1 <= p.step <= p.steps == 2
            assert said[-1] == (run.dim, run.dim) and all(total == run.dim for _, total in said)
            return len(heard)

        def enough(p: mfac.Phase) -> None:
            raise _Enough

        with ThreadPoolExecutor(4) as threads:  # at once: each takes more than the second after which phases are told
            assert sum(threads.map(prune, range(4))) > 0
            others = [threads.submit(prune, i) for i in range(3)]
            with pytest.raises(_Enough):
                run.prune(w, 0.8, rule="joint", steps=2, phases=enough)
            for other in others:
                other.result()
        assert run.status()["rows"] == 512
