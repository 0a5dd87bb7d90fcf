"""Numbers, sizes, times and tables as the tool writes them."""

import argparse
import math
import re
from typing import List, Sequence
from urllib.parse import urlsplit, urlunsplit

import numpy as np

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def duration(text: str) -> float:
    """Seconds of 20s, 1m30s, 500ms, or of a number of seconds.

    >>> duration("1m30s"), duration("500ms"), duration("0.5")
    (90.0, 0.5, 0.5)
    """
    parts = re.findall(r"(\d+(?:\.\d*)?|\.\d+)(ms|s|m|h|$)", text)
    if not parts or "".join(a + b for a, b in parts) != text or not 0 < sum(float(n) * _UNITS[u] for n, u in parts) <= 86400:
        raise argparse.ArgumentTypeError(f"time is {text}, must be one such as 20s or 2m, at most a day")
    return sum(float(n) * _UNITS[u] for n, u in parts)


def shortest(x: float) -> str:
    """x in the fewest digits that tell it from others.

    >>> shortest(1e-5), shortest(0.001), shortest(2.0), shortest(12500000.0)
    ('1e-05', '0.001', '2', '1.25e+07')
    """
    if x and not 1e-4 <= abs(x) < 1e6:
        return np.format_float_scientific(x, trim="-", exp_digits=2)
    return np.format_float_positional(x, trim="-")


def size(n: float) -> str:
    """Bytes, for people.

    >>> size(512), size(2.5 * 2**30)
    ('512 B', '2.5 GiB')
    """
    if n < 1024:
        return f"{n:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        n /= 1024
        if n < 1024:
            return f"{n:.1f} {unit}"
    return f"{n / 1024:.1f} PiB"


def rate(x: float) -> str:
    """A number a second, to three digits.

    >>> rate(0.0), rate(0.1234), rate(12.345), rate(1234.5)
    ('0', '0.123', '12.3', '1234')
    """
    if not x or not math.isfinite(x):
        return "0" if x == 0 else "-"
    return f"{x:.{max(0, 2 - math.floor(math.log10(abs(x))))}f}"


def plural(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def redacted(urls: str) -> str:
    """Server URLs without their passwords and tokens.

    >>> redacted("nats://me:secret@a:4222, nats://token@b")
    'nats://me:xxxxx@a:4222,nats://xxxxx@b'
    """
    shown = []
    for parts in (urlsplit(url.strip()) for url in urls.split(",")):
        hidden = parts
        who, at, where = parts.netloc.rpartition("@")
        if at:
            user, colon, _ = who.partition(":")
            hidden = parts._replace(netloc=(f"{user}:xxxxx" if colon else "xxxxx") + "@" + where)
        shown.append(urlunsplit(hidden))
    return ",".join(shown)


def table(rows: Sequence[Sequence[str]]) -> List[str]:
    """Lines of a table, its columns two spaces apart."""
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    return ["  ".join([*(c.ljust(w) for c, w in zip(r[:-1], widths)), r[-1]]) for r in rows]
