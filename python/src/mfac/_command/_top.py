"""``python -m mfac top``: runs as they train."""

import argparse
import itertools
import json
import time
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Tuple

from .._client import Client
from .._errors import AgentNotStarted, MFACError
from ._screen import Screen, is_terminal
from ._text import plural, rate, redacted, shortest, size, table
from ._view import View, Watcher, condition, newest, state

_OVER = 5.0  # seconds that a rate is taken over
_BAR = 10  # characters
_LEVELS = " ▁▂▃▄▅▆▇█"
_SPARK = 24  # ticks


class Rates:
    """Changes of a run's window a second."""

    def __init__(self) -> None:
        self._heard: Dict[Tuple[str, int], Deque[Tuple[float, int]]] = {}
        self.past: Dict[str, Deque[float]] = {}

    def of(self, view: View, now: float) -> Optional[float]:
        """With what is heard of the run now; None at the first time, and where nothing is."""
        if "version" not in view:
            return None
        heard = self._heard.setdefault((view["name"], view["uid"]), deque())
        heard.append((now, view["version"]))
        while len(heard) > 2 and now - heard[1][0] >= _OVER:
            heard.popleft()
        if len(heard) < 2:
            return None
        (t0, v0), (t1, v1) = heard[-2], heard[-1]
        self.past.setdefault(view["name"], deque(maxlen=_SPARK)).append((v1 - v0) / (t1 - t0))
        return (heard[-1][1] - heard[0][1]) / (heard[-1][0] - heard[0][0])


class Tick:
    """What a cluster says at one time. why is what it answered in the place of that."""

    def __init__(self, watcher: Watcher, rates: Rates) -> None:
        self.workers: List[Dict[str, Any]] = []
        self.runs: List[View] = []
        self.why, self.time = "", time.time()
        try:
            self.workers, self.runs = watcher.workers(), watcher.runs()
        except AgentNotStarted:
            raise
        except MFACError as e:
            self.why = str(e)
        now = time.monotonic()
        for r in self.runs:
            per_second = rates.of(r, now)
            r["steps_per_second"] = per_second
            r["bytes_per_second"] = None if per_second is None else per_second * 4 * r["dim"]
            r.pop("uid", None)

    def json(self) -> str:
        tick = {"time": round(self.time, 3), "workers": self.workers, "runs": self.runs}
        return json.dumps({**tick, "error": self.why} if self.why else tick, ensure_ascii=False)


def top(client: Client, given: argparse.Namespace, url: str) -> None:
    watcher, rates = Watcher(client, given.timeout), Rates()
    client.runs(timeout=given.timeout or 20.0)  # a cluster that isn't there at the beginning is an error
    drawn = is_terminal() and not given.json
    with Screen(drawn) as screen:
        try:
            for n in itertools.count(1):
                began = time.monotonic()
                tick = Tick(watcher, rates)
                if drawn:
                    screen.draw(_screen(tick, watcher, rates, redacted(url), given.tenant or "default"))
                elif given.json:
                    print(tick.json(), flush=True)
                else:
                    print("\n".join(_lines(tick, watcher)), flush=True)
                if n == given.count or not screen.wait(began + given.interval):
                    return
        except KeyboardInterrupt:  # how it is ended
            return


def _cells(r: View, infinite: bool) -> List[str]:
    """Of a run: gradients a second, MB a second, rows, fill, version, newest, damping, condition, open, queries, state."""
    if "version" not in r:
        return ["-"] * 10 + [state(r)]
    per_second, bytes_per_second = r["steps_per_second"], r["bytes_per_second"]
    return [
        "-" if per_second is None else rate(per_second), "-" if bytes_per_second is None else rate(bytes_per_second / 1e6),
        f"{r['rows']}/{r['window']}", f"{100 * r['rows'] // r['window']}%", str(r["version"]), newest(r), shortest(r["damping"]),
        condition(r, infinite), str(r["open_steps"]), str(r["queries"]), state(r),
    ]  # fmt: skip


def _lines(tick: Tick, watcher: Watcher) -> List[str]:
    """A line for each run, of words that programs can cut at spaces."""
    at = time.strftime("%H:%M:%S", time.localtime(tick.time))
    if tick.why:
        return [f"{at} no answer: {tick.why}"]
    names = ("steps/s", "MB/s", "window", "fill", "version", "newest", "damping", "condition", "open", "queries", "state")
    of = {r["name"]: _cells(r, watcher.infinite.get(r["name"], False)) for r in tick.runs}
    return [f"{at} {name} " + " ".join(f"{k}={c}" for k, c in zip(names, cells)) for name, cells in of.items()] or [f"{at} no runs"]


def _screen(tick: Tick, watcher: Watcher, rates: Rates, server: str, tenant: str) -> List[str]:
    at = time.strftime("%H:%M:%S", time.localtime(tick.time))
    head = f"{server}, tenant {tenant}   {at}   q ends"
    if tick.why:
        return [head, "", f"no answer: {tick.why}"]
    used, of = sum(w["used"] for w in tick.workers), sum(w["capacity"] for w in tick.workers)
    silent = [w["id"] for w in tick.workers if w["silent_ms"] >= 2000]
    lines = [head, f"{plural(len(tick.workers), 'worker')}, {size(used)} of {size(of)}; {plural(len(tick.runs), 'run')}"]
    if silent:
        lines.append(f"not heard of for 2 s and more: {', '.join(silent)}")
    lines.append("")
    if tick.runs:
        rows = [["RUN", "STEPS/S", "MB/S", "WINDOW", "FILL", "VERSION", "NEWEST", "DAMPING", "CONDITION", "OPEN", "QUERIES", "STATE"]]
        rows += [[r["name"], *_cells(r, watcher.infinite.get(r["name"], False))] for r in tick.runs]
        for row, r in zip(rows[1:], tick.runs):
            if "version" in r:
                full = round(_BAR * r["rows"] / r["window"])
                row[4] = "[" + "#" * full + "." * (_BAR - full) + "]"
        lines += table(rows)
        width = max(len(r["name"]) for r in tick.runs)
        lines += ["", "steps/s over the last ticks"]
        lines += [f"{name.ljust(width)}  {_spark(rates.past[name])}" for name in (r["name"] for r in tick.runs) if name in rates.past]
    return lines


def _spark(past: Deque[float]) -> str:
    most = max(past)
    bars = "".join(_LEVELS[0 if most <= 0 else round(max(0.0, x) / most * 8)] for x in past)
    return f"{bars.ljust(_SPARK)}  at most {rate(most)}"
