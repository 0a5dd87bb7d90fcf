"""docs/protocol.md is enough: a client that was written from it alone gets the bytes that Go and mfac get."""

import asyncio
from typing import Any, Mapping

import numpy as np
import pytest

import mfac

from . import stranger


def test_the_same_bytes(client: mfac.Client, vectors: Mapping[str, Any]) -> None:
    grads, v = vectors["grads"][:5], np.stack([vectors["v"], -2.5 * vectors["v"]])
    d = grads.shape[1]

    async def published() -> None:
        s = await stranger.Stranger().connect(client.url)
        await s.attach("strangers", d, 4, 1e-2)
        for k, g in enumerate(grads):
            commit = await s.publish(k + 1, g)
            assert commit["rows"] == min(k + 1, 4)
        with pytest.raises(stranger.Refused) as e:
            await s.publish(3, grads[0])
        assert e.value.code == "not_growing"

        run = client.join("strangers")
        for kind, ask in (("vector", run.ihvp), ("hessian", run.hvp), ("fisher", run.fvp)):
            for result in ("f32", "f64"):
                got, ready = await s.query(kind, v.astype(np.float64), result)
                info = mfac.Answer()
                want = ask(v.astype(np.float64), dtype=stranger.DTYPES[result], info=info)
                assert got.tobytes() == want.tobytes()
                assert (ready["version"], ready["rows"]) == (info.version, info.rows) == (5, 4)
                if result == "f64":
                    assert ready["bounds"] == info.bounds
        got, _ = await s.query("vector", v[:1].astype(np.float32), "f32", damping=0.5)
        assert got[0].tobytes() == run.ihvp(v[0].astype(np.float32), damping=0.5).tobytes()
        await s.nc.close()

    asyncio.run(published())
    run, other = client.join("strangers"), client.attach("others", dim=d, window=4, damping=1e-2, shards=2)
    other.publish(1, grads)  # what mfac publishes gives these bytes too
    assert other.ihvp(v).tobytes() == run.ihvp(v).tobytes()
    client.delete("strangers")
    client.delete("others")
