"""The examples run as they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_train(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, EXAMPLES / "train.py", "--seeds", "1", "--plot", tmp_path / "plot.svg"],
        env=env, check=False, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("M-FAC", "SGD", "AdamW"):
        row = re.search(rf"^{name} .* (\d+\.\d+) ± .* %", done.stdout, re.MULTILINE)
        assert row is not None and float(row[1]) > 88, done.stdout  # %, after 200 steps
    assert (tmp_path / "plot.svg").read_text().count("<polyline") == 3
