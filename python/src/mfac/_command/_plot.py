"""``python -m mfac plot``: a run's numbers as curves, in the terminal or as an SVG."""

import argparse
import itertools
import json
import math
import os
import shutil
import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import numpy as np

from .._client import Client
from .._errors import MFACError, UnknownRun, invalid
from .._run import Run
from ._draw import Panel, svg, text
from ._screen import Screen, is_terminal
from ._top import Rates
from ._view import Watcher


class Kind(NamedTuple):
    """What can be drawn: how it is called in the help, and whether on a logarithmic scale."""

    text: str
    log: bool = False


NOW = {
    "spectrum": Kind("eigenvalues of F, the largest first, and λ", True),
    "norms": Kind("‖g‖ of each gradient in the window", True),
    "influence": Kind("gᵀH⁻¹g of each gradient in the window, and with it left out of H", True),
}
OVER_TIME = {
    "rate": Kind("steps a second"),
    "rows": Kind("gradients in the window"),
    "condition": Kind("of the system that is solved, as status shows it", True),
    "damping": Kind("λ", True),
    "logdet": Kind("log det H"),
    "trace": Kind("tr F", True),
    "spectral": Kind("‖F‖₂, the largest eigenvalue of F", True),
    "effective_dim": Kind("tr F H⁻¹"),
}
_SCALARS = ("logdet", "trace", "spectral", "effective_dim")  # which the coordinator works out


def names(kinds: Dict[str, Kind]) -> str:
    width = max(map(len, kinds))
    return "\n  ".join(f"{name.ljust(width)}  {kind.text}" for name, kind in kinds.items())


def check(given: argparse.Namespace) -> None:
    """That what is to be drawn can be."""
    given.what = given.what or ["spectrum"]
    for w in given.what:
        if w not in NOW and w not in OVER_TIME:
            raise invalid("what is drawn", w, "one of " + ", ".join([*NOW, *OVER_TIME]))
    if any(w in NOW for w in given.what) and any(w in OVER_TIME for w in given.what):
        raise invalid("what is drawn", " ".join(given.what), "of the window as it is, or all over time")
    if given.output and not given.output.endswith(".svg"):
        raise invalid("output", given.output, "a file named .svg")
    if given.output and given.json:
        raise invalid("output", given.output, "left out with --json")


def plot(client: Client, given: argparse.Namespace, url: str) -> None:
    run = client.join(given.run, timeout=given.timeout or 20.0)
    if given.what[0] in NOW:
        if not run.status(timeout=given.timeout)["rows"]:
            raise invalid("gradients in the window", 0, "> 0")
        _show(given, [_OF_NOW[w](run, given.timeout) for w in given.what])
    else:
        _over_time(client, run, given)


def _title(run: Run, what: str) -> str:
    kind = {**NOW, **OVER_TIME}[what]
    return f"{run.name}: {what}, {kind.text}"


def _spectrum(run: Run, timeout: Any) -> Panel:
    e = run.spectrum(blocks="whole", timeout=timeout)
    least = max(e.error, float(e.eigenvalues[0]) * 1e-16) if len(e.eigenvalues) else 0.0  # below, it is rounding
    y = [x if x > least else math.nan for x in e.eigenvalues.tolist()]
    return Panel(_title(run, "spectrum"), "number", list(range(1, len(y) + 1)), [("F", y)], True, [("λ", run.damping)])


def _of_steps(run: Run, what: str, steps: Any, series: List[Tuple[str, List[float]]]) -> Panel:
    return Panel(_title(run, what), "step", steps.tolist(), series, NOW[what].log)


def _norms(run: Run, timeout: Any) -> Panel:
    if run.spec.get("scales"):
        raise invalid("what is drawn", "norms", "something else where tensors have dampings of their own")
    # λgᵀH⁻¹g → ‖g‖² as λ grows; at this one it is ‖g‖² but for 1e-7 of it.
    damping = max(1e7 * run.scalars(blocks="whole", timeout=timeout)["spectral"], 1e-30)
    s = run.self_influence(damping=damping, blocks="whole", timeout=timeout)
    return _of_steps(run, "norms", s.steps, [("‖g‖", np.sqrt(damping * s.values).tolist())])


def _influence(run: Run, timeout: Any) -> Panel:
    s = run.self_influence(blocks="whole", timeout=timeout)
    return _of_steps(run, "influence", s.steps, [("gᵀH⁻¹g", s.values.tolist()), ("left out", s.left_out.tolist())])


_OF_NOW: Dict[str, Callable[[Run, Any], Panel]] = {"spectrum": _spectrum, "norms": _norms, "influence": _influence}


def _over_time(client: Client, run: Run, given: argparse.Namespace) -> None:
    watcher, rates = Watcher(client, given.timeout), Rates()
    began = 0.0
    times: List[float] = []
    curves: Dict[str, List[float]] = {w: [] for w in given.what}

    def panels() -> List[Panel]:
        return [Panel(_title(run, w), "seconds", times, [(w, y)], OVER_TIME[w].log) for w, y in curves.items()]

    drawn = is_terminal() and not given.json and not given.output
    try:
        with Screen(drawn) as screen:
            for n in itertools.count(1):
                tick = time.monotonic()
                began = began or tick
                values = _values(watcher, rates, run.name, given)
                times.append(round(tick - began, 3))
                for w, y in curves.items():
                    y.append(values.get(w, math.nan))
                if drawn:
                    width, height = shutil.get_terminal_size()
                    room = max(6, (height - 1) // len(curves))
                    screen.draw([line for p in panels() for line in text(p, width, room)] + ["q ends"])
                elif given.output and n > 1:
                    _write(given.output, svg(panels()))
                if n == given.count or not screen.wait(tick + given.interval):
                    break
    except KeyboardInterrupt:  # how it is ended
        pass
    finally:  # where the run was deleted, what there was of it
        if times:
            _show(given, panels())


def _values(watcher: Watcher, rates: Rates, name: str, given: argparse.Namespace) -> Dict[str, float]:
    """The numbers now. What does not answer leaves a gap; a run that is no more is an error."""
    try:
        info = watcher.info(name)
        view = {"name": name, "uid": info["uid"], "version": info["version"]}
        per_second = rates.of(view, time.monotonic())
        cond = float(info["cond"])
        values = {
            "rate": math.nan if per_second is None else per_second, "rows": float(info["rows"]), "damping": float(info["spec"]["damping"]),
            "condition": cond if 0 < cond < math.inf else math.nan,
        }  # fmt: skip
        if info["rows"] and any(w in _SCALARS for w in given.what):
            values.update(watcher.joined(name).scalars(blocks="whole", timeout=given.timeout))
        return values
    except UnknownRun:
        raise
    except MFACError:
        return {}


def _show(given: argparse.Namespace, panels: List[Panel]) -> None:
    if given.json:
        shown = []
        for p in panels:
            curves = {n: [v if math.isfinite(v) else None for v in y] for n, y in p.series}
            shown.append({"title": p.title, p.xlabel: list(p.x), **curves, **dict(p.marks)})
        print(json.dumps(shown, ensure_ascii=False))
    elif given.output:
        _write(given.output, svg(panels))
        print(given.output)
    else:
        for p in panels:
            print("\n".join(text(p, min(shutil.get_terminal_size().columns, 120), 16)))
    sys.stdout.flush()


def _write(path: str, content: str) -> None:
    """In one piece: somebody may be looking at it."""
    new = f"{path}.{os.getpid()}"
    try:
        with open(new, "w", encoding="utf-8") as f:
            f.write(content)
        os.replace(new, path)
    except BaseException:
        if os.path.exists(new):
            os.unlink(new)
        raise
