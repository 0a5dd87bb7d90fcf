"""The examples run as they say, in small."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest

import mfac

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def ran(name: str, plot: Path, *options: str, curves: int) -> str:
    """What the example prints."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, "--seeds", "1", "--plot", plot, *options],
        env=env, check=False, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert plot.read_text().count("<polyline") == curves
    return done.stdout


def row(printed: str, name: str, table: str = "") -> List[float]:
    """The numbers of the first such row after the table's name."""
    found = re.search(rf"^{re.escape(name)} +(\S.*)$", printed[printed.index(table) :], re.MULTILINE)
    assert found is not None, printed
    return [float(x) for x in found[1].replace(",", " ").split()]


def test_train(tmp_path: Path) -> None:
    printed = ran("train.py", tmp_path / "plot.svg", curves=3)
    for name in ("M-FAC", "SGD", "AdamW"):
        found = re.search(rf"^{name} .* (\d+\.\d+) ± .* %", printed, re.MULTILINE)
        assert found is not None and float(found[1]) > 88, printed  # %, after 200 steps


def test_prune(tmp_path: Path) -> None:
    printed = ran("prune.py", tmp_path / "plot.svg", "--images", "2000", "--window", "64", curves=9)
    at_once = {rule: row(printed, rule, "at once") for rule in ("magnitude", "diagonal Fisher", "summed", "joint")}
    assert at_once["joint"][1] > at_once["magnitude"][1] + 3, printed  # %, at 80 % of zeros
    assert row(printed, "joint", "in stages")[3] > 75, printed  # 95 %: at once it is 50
    assert "\n31781 of 32430 weights are 0 after the last training, by each rule\n" in printed


def test_influence(tmp_path: Path) -> None:
    printed = ran("influence.py", tmp_path / "plot.svg", "--images", "500", curves=5)
    found = {name: row(printed, name)[3] for name in ("self-influence", "harm to held-out images", "gradient norm", "loss", "chance")}
    assert min(found["self-influence"], found["gradient norm"], found["loss"]) > 75 > found["harm to held-out images"] - 10, printed
    assert found["harm to held-out images"] > 2 * found["chance"], printed  # % in the first tenth
    assert len(re.findall("^all .*[0-9]$", printed, re.MULTILINE)) == 7, printed


def test_forget(client: mfac.Client, tmp_path: Path) -> None:
    printed = ran("forget.py", tmp_path / "plot.svg", "--images", "150", "--server", client.url, curves=4)
    assert "example-forget" not in client.runs()
    for table, most in (("784-2: 25 drawn", 0.15), ("784-2: 25 that", 0.5), ("784-16-2: 25 drawn", 0.5), ("784-16-2: 25 that", 0.9)):
        before, after, anew = (row(printed, way, table)[:2] for way in ("untouched", "Newton step", "trained anew"))
        assert anew == [0, 0] and all(a < most * b for a, b in zip(after, before)), printed


def test_damping(tmp_path: Path) -> None:
    printed = ran("damping.py", tmp_path / "plot.svg", "--dampings", "1e-3,1e-2", curves=3)
    small, large = row(printed, "0.001"), row(printed, "0.01")
    assert 9 < small[0] / large[0] < 10.2, printed  # cond H: λ + the largest eigenvalue, over λ
    assert small[1] > large[1] and small[3] > large[3] - 3 and small[6] > large[6] - 1, printed
    assert "held out, the likelihood chooses 0.001\n" in printed


def test_gpt(tmp_path: Path) -> None:
    printed = ran("gpt.py", tmp_path / "plot.svg", "--steps", "15", curves=3)
    for name in ("M-FAC", "SGD", "AdamW"):
        assert row(printed.replace("(the end of its rates)", ""), name)[1] < 5.5, printed  # bits; 6.7 untrained
    assert len(printed[printed.index("\nThe ") :]) > 400, printed  # what the model writes


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("prune.py", ["--window", "200", "--images", "100"], "argument --window: 200 is more than the images, 100"),
        ("influence.py", ["--images", "99"], "argument --images: 99 is not a whole number in [100, 8192]"),
        ("forget.py", ["--mnist", "/nowhere"], "--mnist: /nowhere/train-images-idx3-ubyte.gz: No such file or directory"),
        ("gpt.py", ["--steps", "9"], "argument --steps: 9 is not a whole number in [10, 100000]"),
        ("train.py", ["--plot", "/nowhere/at.svg"], "argument --plot: /nowhere is not a folder"),
        ("damping.py", ["--dampings", "1e-3,-1"], "argument --dampings: '1e-3,-1' is not two numbers > 0 or more"),
    ],
)
def test_refused(name: str, options: List[str], said: str) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, EXAMPLES / name, *options], env=env, check=False, capture_output=True, text=True, timeout=110)
    assert done.returncode != 0 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
