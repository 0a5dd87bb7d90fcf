"""What a cluster and its runs are asked."""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Optional

from .._client import Client
from .._errors import MFACError, UnknownRun
from .._run import Run
from ._text import plural

AT_ONCE = 8  # runs asked
TIMEOUT = 5.0  # seconds for a run to answer

View = Dict[str, Any]
"""A run as it is shown, with the names of `mfac run ls --json`. One that doesn't answer has a name and a state alone."""


def view_of(info: Dict[str, Any]) -> View:
    cond = float(info["cond"])
    view: View = {
        **info["spec"], "state": info["state"], "version": info["version"], "rows": info["rows"],
        "newest_step": info["newest"] if info["rows"] else None, "condition": cond if 0 < cond < math.inf else None,
        "open_steps": info["open"], "queries": info["queries"], "lost_rows": info["lost"], "coordinator": info["coord"],
        "epoch": f"{info['epoch']['inc']:x}-{info['epoch']['rev']}",
    }  # fmt: skip
    for key in ("frozen", "kept"):
        if info.get(key):
            view[key] = info[key]
    return view


class Watcher:
    """Asks runs again and again, each by the handle that it was joined by."""

    def __init__(self, client: Client, timeout: Optional[float]) -> None:
        self.client, self.timeout = client, timeout or TIMEOUT
        self._joined: Dict[str, Run] = {}
        self.infinite: Dict[str, bool] = {}  # of each run, the condition: JSON has no such number

    def runs(self) -> List[View]:
        """All runs, in the order of their names."""
        names = self.client.runs(timeout=self.timeout)
        for gone in set(self._joined) - set(names):
            del self._joined[gone]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return [v for v in pool.map(self._run, names) if v is not None]

    def _run(self, name: str) -> Optional[View]:
        try:
            info = self.info(name)
        except UnknownRun:  # removed since
            return None
        except MFACError:
            return {"name": name, "state": "no answer"}
        self.infinite[name] = math.isinf(info["cond"])
        return {**view_of(info), "uid": info["uid"]}

    def joined(self, name: str) -> Run:
        if name not in self._joined:
            self._joined[name] = self.client.join(name, timeout=self.timeout)
        return self._joined[name]

    def info(self, name: str) -> Dict[str, Any]:
        if name in self._joined:
            try:
                return self._joined[name].status(timeout=self.timeout)
            except UnknownRun:  # deleted, and maybe made anew
                del self._joined[name]
        return self.joined(name).status(timeout=self.timeout)

    def workers(self) -> List[Dict[str, Any]]:
        """The workers, as `mfac status --json` has them."""
        return [{**w, "instance": str(w["instance"])} for w in self.client.workers(timeout=self.timeout)]


def state(view: View) -> str:
    text = str(view["state"])
    if view.get("lost_rows"):
        text += f", {plural(view['lost_rows'], 'row')} lost"
    if view.get("frozen"):
        text += ", frozen"
    return text


def condition(view: View, infinite: bool) -> str:
    if infinite:
        return "inf"
    return "-" if view.get("condition") is None else f"{view['condition']:.2g}"


def newest(view: View) -> str:
    return "-" if view.get("newest_step") is None else str(view["newest_step"])
