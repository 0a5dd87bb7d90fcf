"""Curves as an SVG, and as characters."""

import math
from html import escape
from typing import Any, Callable, List, NamedTuple, Sequence, Tuple

_WIDTH, _HEIGHT = 680, 320  # of a panel of the SVG
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 90, 28, 36
_COLOURS = ("#2060c0", "#c03020", "#208040", "#806010")


class Panel(NamedTuple):
    """Curves over x, of the same length; NaN leaves a gap. marks are horizontal lines. log has its effect from a factor of 10 on."""

    title: str
    xlabel: str
    x: Sequence[float]
    series: Sequence[Tuple[str, Sequence[float]]]
    log: bool = False
    marks: Sequence[Tuple[str, float]] = ()


class _Scale(NamedTuple):
    ticks: List[Tuple[float, str]]
    of: Callable[[float], float]  # where a value lies, in [0, 1]


def _shown(y: float, log: bool) -> bool:
    return math.isfinite(y) and not (log and y <= 0)


def _linear(low: float, high: float) -> _Scale:
    if not high > low:
        pad = abs(low) / 2 or 0.5
        low, high = (max(0.0, low - pad) if low >= 0 else low - pad), high + pad
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(k for k in (1, 2, 5, 10) if (high - low) / (k * step) <= 5)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    ticks = [low + i * step for i in range(round((high - low) / step) + 1)]
    digits = max(0, -math.floor(math.log10(step)))
    plain = digits <= 6 and max(abs(low), abs(high)) < 1e7
    return _Scale([(t, f"{t:.{digits}f}" if plain else _number(t)) for t in ticks], lambda v: (v - low) / (high - low))


def _logarithmic(low: float, high: float) -> _Scale:
    a, b = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    every = max(1, math.ceil((b - a) / 6))
    return _Scale([(10.0**k, _number(10.0**k)) for k in range(a, b + 1, every)], lambda v: (math.log10(v) - a) / (b - a))


def _scale(panel: Panel) -> _Scale:
    values = [v for _, y in panel.series for v in y if _shown(v, panel.log)] + [v for _, v in panel.marks if _shown(v, panel.log)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return _logarithmic(low, high) if panel.log and low > 0 and high >= 10 * low else _linear(low, high)


def _across(panel: Panel) -> Callable[[float], float]:
    if not panel.x:
        return lambda _: 0.0
    low, high = min(panel.x), max(panel.x)
    return lambda v: (v - low) / (high - low) if high > low else 0.5


def _runs(panel: Panel, y: Sequence[float]) -> List[List[Tuple[float, float]]]:
    """The points of a curve, cut at its gaps."""
    pieces: List[List[Tuple[float, float]]] = [[]]
    for x, v in zip(panel.x, y):
        if _shown(v, panel.log):
            pieces[-1].append((x, v))
        elif pieces[-1]:
            pieces.append([])
    return [p for p in pieces if p]


def _number(v: Any) -> str:
    return f"{v:.4g}"


def svg(panels: Sequence[Panel]) -> str:
    """Panels below each other."""
    size = f'width="{_WIDTH}" height="{_HEIGHT * len(panels)}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">', f'<rect {size} fill="white"/>']
    for i, panel in enumerate(panels):
        parts += [f'<g transform="translate(0,{i * _HEIGHT})">', *_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel) -> List[str]:
    scale, across = _scale(panel), _across(panel)
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def px(x: float) -> float:
        return _LEFT + across(x) * (right - _LEFT)

    def py(v: float) -> float:
        return bottom - scale.of(v) * (bottom - _TOP)

    parts = [f'<text x="{_LEFT}" y="18">{escape(panel.title)}</text>']
    for t, label in scale.ticks:
        y = py(t)
        parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    if panel.x:
        for x in dict.fromkeys((min(panel.x), max(panel.x))):
            parts.append(f'<text x="{px(x):.1f}" y="{bottom + 18}" text-anchor="middle">{_number(x)}</text>')
    parts.append(f'<text x="{(_LEFT + right) / 2:.1f}" y="{bottom + 30}" text-anchor="middle">{escape(panel.xlabel)}</text>')
    for name, v in panel.marks:
        if _shown(v, panel.log):
            parts.append(f'<line x1="{_LEFT}" x2="{right}" y1="{py(v):.1f}" y2="{py(v):.1f}" stroke="#888" stroke-dasharray="5 4"/>')
            parts.append(f'<text x="{right + 6}" y="{py(v) + 4:.1f}" fill="#555">{escape(name)} = {_number(v)}</text>')
    for k, (name, curve) in enumerate(panel.series):
        colour = _COLOURS[k % len(_COLOURS)]
        for piece in _runs(panel, curve):
            points = " ".join(f"{px(x):.1f},{py(v):.1f}" for x, v in piece)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
            if len(piece) <= 60:
                parts += [f'<circle cx="{px(x):.1f}" cy="{py(v):.1f}" r="2" fill="{colour}"/>' for x, v in piece]
        if len(panel.series) > 1:
            parts.append(f'<text x="{right + 6}" y="{_TOP + 4 + 16 * k}" fill="{colour}">{escape(name)}</text>')
    return parts


_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille character, by row and column


def text(panel: Panel, width: int, height: int) -> List[str]:
    """Lines of at most width characters: the title, the curve in braille dots, and x at its ends."""
    scale, across = _scale(panel), _across(panel)
    rows = max(2, height - 3)
    labels = {rows - 1 - round(scale.of(t) * (rows - 1)): label for t, label in scale.ticks}
    margin = max(map(len, labels.values()))
    columns = max(8, width - margin - 2)
    cells = [[0] * columns for _ in range(rows)]

    def dot(x: float, y: float) -> None:  # in [0, 1]
        i, j = round((1 - y) * (4 * rows - 1)), round(x * (2 * columns - 1))
        cells[i // 4][j // 2] |= _DOTS[i % 4][j % 2]

    for _, v in panel.marks:
        if _shown(v, panel.log):
            for j in range(0, 2 * columns, 4):
                dot(j / (2 * columns - 1), scale.of(v))
    for _, curve in panel.series:
        for piece in _runs(panel, curve):
            points = [(across(x), scale.of(v)) for x, v in piece]
            for (x0, y0), (x1, y1) in zip(points, points[1:] or points):
                n = max(1, round(abs(x1 - x0) * 2 * columns), round(abs(y1 - y0) * 4 * rows))
                for k in range(n + 1):
                    dot(x0 + (x1 - x0) * k / n, y0 + (y1 - y0) * k / n)
    notes = "".join(f"   {name} = {_number(v)}" for name, v in panel.marks)
    lines = [(panel.title + notes)[:width]]
    for i, row in enumerate(cells):
        lines.append(labels.get(i, "").rjust(margin) + " │" + "".join(chr(0x2800 + c) for c in row))
    low, high = (_number(min(panel.x)), _number(max(panel.x))) if panel.x else ("", "")
    lines.append(" " * margin + " └" + "─" * columns)
    lines.append(" " * (margin + 2) + low + panel.xlabel.center(columns - len(low) - len(high)) + high)
    return [line[:width] for line in lines]
