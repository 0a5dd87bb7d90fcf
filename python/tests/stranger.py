"""A client of its own, written from docs/protocol.md alone with nats-py and msgpack: that page is enough. One piece at a
time, so that it needs no credit; see mfac for one that is fast."""

import asyncio
import base64
import random
import time
from typing import Any, Dict, Iterator, Optional, Tuple

import msgpack
import nats
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Message = Dict[str, Any]

TABLE = [0] * 256
for _n in range(256):
    _c = _n
    for _ in range(8):
        _c = _c >> 1 ^ (0x82F63B78 if _c & 1 else 0)  # 0x1EDC6F41, reflected
    TABLE[_n] = _c


def crc32c(data: bytes) -> int:
    c = 0xFFFFFFFF
    for byte in data:
        c = TABLE[(c ^ byte) & 0xFF] ^ c >> 8
    return c ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283

AGAIN = {"busy", "unavailable", "not_open", "stale_epoch", "unknown_shard"}
DTYPES: Dict[str, Any] = {"f32": np.dtype("<f4"), "f64": np.dtype("<f8")}


class Refused(Exception):
    def __init__(self, error: Message) -> None:
        super().__init__(error)
        self.code, self.error = error["code"], error


class Stranger:
    def __init__(self, tenant: str = "default") -> None:
        self.tenant, self.name = tenant, f"stranger{random.getrandbits(32):x}"

    async def connect(self, url: str) -> "Stranger":
        self.nc = await nats.connect(url, inbox_prefix=f"_INBOX.{self.name}".encode(), pending_size=0)
        return self

    async def once(self, to: str, op: str, meta: Message, body: Optional[bytes]) -> Tuple[str, Message, bytes]:
        """A try: the type of what came, its map and its payload."""
        packed = msgpack.packb(meta)
        headers = {"Mfac-Protocol": "1", "Mfac-Type": op}
        if body is not None:  # a bulk message
            headers["Mfac-Meta"] = base64.urlsafe_b64encode(packed).rstrip(b"=").decode()
        reply = await self.nc.request(
            f"mfac.{self.tenant}.{to}.{op}.{self.name}", packed if body is None else body, timeout=2, headers=headers
        )
        head = reply.headers or {}
        if "Mfac-Meta" in head:
            text = head["Mfac-Meta"]
            return head["Mfac-Type"], msgpack.unpackb(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))), reply.data
        return head["Mfac-Type"], msgpack.unpackb(reply.data), b""

    async def ask(self, to: str, op: str, meta: Message, body: Optional[bytes] = None) -> Tuple[Message, bytes]:
        """Asks until there is an answer, or an error that asking again does not help against."""
        pause, end = 0.0005, time.monotonic() + 30
        while True:
            try:
                kind, answer, payload = await self.once(to, op, meta, body)
                if kind != "error":
                    return answer, payload
                error = Refused(answer)
            except (nats.errors.TimeoutError, nats.errors.NoRespondersError) as e:
                error = Refused({"code": "busy", "hint": repr(e)})
            if error.code not in AGAIN or time.monotonic() > end:
                raise error
            await asyncio.sleep(pause * (0.5 + random.random()))
            pause = min(2 * pause, 0.25)

    async def attach(self, name: str, dim: int, window: int, damping: float) -> None:
        spec = {
            "name": name, "dim": dim, "window": window, "spare": 2, "shards": 2, "damping": damping, "divisor": "capacity",
            "store": "f32", "durability": "memory",
        }  # fmt: skip
        self.info, _ = await self.ask("c", "create", {"spec": spec}, b"")
        while self.info["state"] != "ready":
            await asyncio.sleep(0.1)
            self.info, _ = await self.ask("c", "info", {"run": name})
        self.run, self.dim = name, dim

    async def at(self, epoch: Message) -> None:
        """What is known of the run is of that epoch."""
        while self.info["epoch"] != epoch:
            self.info, _ = await self.ask("c", "info", {"run": self.run})

    def pieces(self, size: int) -> Iterator[Tuple[int, str, int, int]]:
        """The fixed grid: shard, worker, first column, number of columns."""
        cols = 1_000_000 // size // 1024 * 1024
        lo = [*self.info["lo"], self.dim]
        for s, owner in enumerate(self.info["owner"]):
            for a in range(lo[s], lo[s + 1], cols):
                yield s, self.info["workers"][owner], a, min(cols, lo[s + 1] - a)

    async def long(self, op: str, meta: Message) -> Message:
        """A long poll."""
        while True:
            reply, _ = await self.ask("c", op, meta)
            if reply["state"] != "pending":
                return reply

    async def publish(self, step: int, g: Array) -> Message:
        """The commit: version and rows."""
        opened, _ = await self.ask("c", "open", {"run": self.run, "step": step, "token": random.getrandbits(64)})
        await self.at(opened["epoch"])
        about = {"run": self.run, "epoch": opened["epoch"], "step": step, "attempt": opened["attempt"]}
        for shard, worker, lo, n in self.pieces(4):
            payload = g[lo : lo + n].astype("<f4").tobytes()
            of = {"shard": shard, "lo": lo, "n": n, "dtype": "f32", "sum": crc32c(payload)}
            await self.ask(f"w.{worker}", "chunk", {**about, **of}, payload)
        return await self.long("wait", about)

    async def query(self, kind: str, v: Array, result: str, **more: Any) -> Tuple[Array, Message]:
        """Of k vectors (k, d): the results, and result.reply."""
        dtype = "f64" if v.dtype == np.float64 else "f32"
        req = {"run": self.run, "token": random.getrandbits(64), "kind": kind, "vectors": len(v), "dtype": dtype, "result": result, **more}
        asked, _ = await self.ask("c", "query", req, b"")
        await self.at(asked["epoch"])
        about = {"run": self.run, "epoch": asked["epoch"], "query": asked["query"]}
        for k, row in enumerate(v):
            for shard, worker, lo, n in self.pieces(DTYPES[dtype].itemsize):
                payload = row[lo : lo + n].astype(DTYPES[dtype]).tobytes()
                of = {"index": k, "shard": shard, "lo": lo, "n": n, "dtype": dtype, "sum": crc32c(payload)}
                await self.ask(f"w.{worker}", "vec", {**about, **of}, payload)
        ready = await self.long("result", about)
        out = np.zeros((len(v), self.dim), DTYPES[result])
        for k in range(len(v)):
            for shard, worker, lo, n in self.pieces(DTYPES[result].itemsize):
                of = {"index": k, "shard": shard, "lo": lo, "n": n, "dtype": result}
                reply, payload = await self.ask(f"w.{worker}", "fetch", {**about, **of})
                assert (reply["lo"], reply["n"], reply["dtype"], reply["sum"]) == (lo, n, result, crc32c(payload))
                out[k, lo : lo + n] = np.frombuffer(payload, DTYPES[result])
        await self.ask("c", "close", about)
        return out, ready
