"""``python -m mfac status``: what `mfac status` prints, and the versions of this side."""

import argparse
import json

from .._client import Client
from .._version import PROTOCOL, __version__
from ._text import plural, redacted, shortest, size, table
from ._view import Watcher, condition, newest, state


def status(client: Client, given: argparse.Namespace, url: str) -> None:
    watcher = Watcher(client, given.timeout)
    workers, runs = watcher.workers(), watcher.runs()
    for r in runs:
        r.pop("uid", None)
    agent = client._linked().hello
    head = {"server": redacted(url), "tenant": given.tenant or "default"}
    if given.json:
        versions = {"package": __version__, "agent": agent["version"], "protocol": str(PROTOCOL)}
        print(json.dumps({**head, "workers": workers, "runs": runs, "versions": versions}, indent=2, ensure_ascii=False))
        return
    print(f"{head['server']}, tenant {head['tenant']}: {plural(len(workers), 'worker')}, {plural(len(runs), 'run')}\n")
    if workers:
        rows = [["WORKER", "SHARDS", "USED", "OF", "HEARD OF"]]
        for w in workers:
            heard = "just now" if w["silent_ms"] < 2000 else f"{w['silent_ms'] / 1000:.0f}s ago"
            rows.append([w["id"], str(w["shards"]), size(w["used"]), size(w["capacity"]), heard])
        print("\n".join(table(rows)) + "\n")
    if runs:
        rows = [["RUN", "DIM", "WINDOW", "VERSION", "NEWEST", "DAMPING", "CONDITION", "SHARDS", "STATE"]]
        for r in runs:
            fill = f"{r.get('rows', 0)}/{r.get('window', 0)}"
            cond = condition(r, watcher.infinite.get(r["name"], False))
            rows.append([
                r["name"], str(r.get("dim", 0)), fill, str(r.get("version", 0)), newest(r), shortest(r.get("damping", 0.0)), cond,
                str(r.get("shards", 0)), state(r),
            ])  # fmt: skip
        print("\n".join(table(rows)) + "\n")
    print(f"package {__version__}, agent {agent['version']}, protocol {PROTOCOL}")
