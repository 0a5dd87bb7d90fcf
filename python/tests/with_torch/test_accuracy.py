"""bench/python/accuracy.py in small: it goes on where it was cut, takes the best of twenty, and reports what was trained."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

SCRIPT = Path(__file__).resolve().parents[3] / "bench" / "python" / "accuracy.py"


def ran(out: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, str(SCRIPT), "--out", str(out), "--tasks", "mnist", "--steps", "4", *options]
    return subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=110)


def records(out: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]


def test_accuracy(tmp_path: Path) -> None:
    cut = ran(tmp_path, "--seconds", "2")
    assert cut.returncode != 0 and "cut by --seconds" in cut.stderr, cut.stderr
    before = records(tmp_path)
    assert 0 < len(before) < 75

    done = ran(tmp_path)
    assert done.returncode == 0, done.stderr
    trials = records(tmp_path)
    assert trials[: len(before)] == before
    keys = [json.dumps(t["trial"]) for t in trials]
    assert len(keys) == len(set(keys)) == 3 * (20 + 5)

    task = json.loads((tmp_path / "accuracy.json").read_text())["tasks"]["mnist"]
    table = (tmp_path / "accuracy.md").read_text()
    assert task["parameters"] == 32430 and list(task["optimizers"]) == ["M-FAC", "SGD", "AdamW"]
    for name, of in task["optimizers"].items():
        mine = [t for t in trials if t["trial"]["optimizer"] == name]
        choosing = [t for t in mine if t["trial"]["seed"] == 1000]
        assert of["trials"] == len(choosing) == 20
        best = max(t["held"] for t in choosing if t["held"] is not None)
        assert best in [t["held"] for t in choosing if t["trial"]["settings"] == of["settings"]]
        tested = {t["trial"]["seed"]: t["test"] for t in mine if t["trial"]["settings"] == of["settings"] and t["trial"]["seed"] != 1000}
        assert tested == dict(enumerate(of["test"])) and len(tested) == 5
        assert f"{statistics.fmean(of['test']):.3f} ± {statistics.stdev(of['test']):.3f}" in table
    assert (tmp_path / "accuracy-mnist.svg").read_text().count("<polyline") == 3


def test_refused(tmp_path: Path) -> None:
    wrong = ran(tmp_path, "--tasks", "mnist,cifar")
    assert wrong.returncode == 2 and "argument --tasks: cifar is none of mnist, autoencoder, gpt" in wrong.stderr
