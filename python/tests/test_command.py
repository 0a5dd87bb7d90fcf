"""python -m mfac, as typed: beside the tool, in a pipe, in a terminal, and what a user can do wrong."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import pytest

import mfac
from mfac._command import main
from mfac._command._view import condition, view_of

Call = Callable[..., Tuple[int, str, str]]


@pytest.fixture
def call(client: mfac.Client, capfd: pytest.CaptureFixture[str]) -> Call:
    """The command in this process: its exit code, stdout and stderr."""

    def typed(*args: object, server: str = client.url) -> Tuple[int, str, str]:
        try:
            code = main(["--server", server, *map(str, args)])
        except SystemExit as e:  # of argparse
            code = int(str(e.code or 0))
        out = capfd.readouterr()
        return code, out.out, out.err

    return typed


def command(client: mfac.Client, *args: object) -> List[str]:
    return [sys.executable, "-m", "mfac", "--server", client.url, *map(str, args)]


def test_status_is_the_tools(client: mfac.Client, run: mfac.Run, tool: Callable[..., str], call: Call) -> None:
    client.attach("empty-one", dim=12, window=3, damping=2.5e-7, store="bf16", half_life=5)
    client.attach("large-one", dim=2_000_000, window=2, damping=12_500_000.0)
    try:
        time.sleep(1.5)  # workers tell what they use
        code, text, err = call("status")
        assert (code, err) == (0, "")
        theirs = tool("status", "--server", client.url)
        ours, versions = text.rsplit("\n\n", 1)
        assert ours.strip() == theirs.strip()
        assert versions == f"package {mfac.__version__}, agent {mfac.__version__}, protocol 1\n"
        shown = json.loads(call("status", "--json")[1])
        assert shown.pop("versions") == {"package": mfac.__version__, "agent": mfac.__version__, "protocol": "1"}
        of_tool = json.loads(tool("status", "--server", client.url, "--json"))
        for w in shown["workers"] + of_tool["workers"]:
            assert w.pop("silent_ms") < 5000
        assert shown == of_tool
        assert any(r["name"] == run.name and r["rows"] == 5 and r["newest_step"] == 5 for r in shown["runs"])
    finally:
        client.delete("empty-one")
        client.delete("large-one")


def test_a_condition_that_is_infinite(run: mfac.Run) -> None:
    view = view_of({**run.status(), "cond": np.inf})
    assert view["condition"] is None and condition(view, True) == "inf" and condition(view, False) == "-"


def test_top_counts_steps(client: mfac.Client, run: mfac.Run) -> None:
    p = subprocess.Popen(command(client, "top", "--json", "--interval", "0.4"), stdout=subprocess.PIPE, text=True)
    assert p.stdout is not None
    try:
        ticks = [json.loads(p.stdout.readline())]
        g = np.ones(run.dim)
        for step in range(10, 18):
            run.publish(step, g + step)
        while len(ticks) < 20 and of(ticks[-1], run)["version"] < of(ticks[0], run)["version"] + 8:
            ticks.append(json.loads(p.stdout.readline()))
        first, last = of(ticks[0], run), of(ticks[-1], run)
        assert first["steps_per_second"] is None and last["version"] == first["version"] + 8 and last["rows"] == 8
        seconds = ticks[-1]["time"] - ticks[0]["time"]
        assert abs(last["steps_per_second"] * seconds - 8) < 1.5  # times are of the tick's beginning
        assert last["bytes_per_second"] == last["steps_per_second"] * 4 * run.dim
        p.send_signal(signal.SIGINT)
        assert p.wait(20) == 0
    finally:
        p.kill()
        p.communicate()


def of(tick: Dict[str, Any], run: mfac.Run) -> Dict[str, Any]:
    return next(r for r in tick["runs"] if r["name"] == run.name)


def test_top_in_a_pipe(client: mfac.Client, run: mfac.Run, call: Call) -> None:
    code, out, _ = call("top", "--count", 2, "--interval", "100ms")
    mine = [line for line in out.splitlines() if f" {run.name} " in line]
    assert code == 0 and len(mine) == 2 and "\x1b" not in out
    assert re.fullmatch(
        rf"\d\d:\d\d:\d\d {run.name} steps/s=0 MB/s=0 window=5/8 fill=62% version=5 newest=5 damping=0.01 "
        r"condition=\S+ open=0 queries=0 state=ready",
        mine[1],
    )
    p = subprocess.Popen(command(client, "top", "--interval", "100ms"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert p.stdout is not None and p.stderr is not None
    p.stdout.readline()
    p.stdout.close()  # as `| head -1`
    assert p.wait(20) == 0 and p.stderr.read() == b""
    p.stderr.close()


class Terminal:
    """A program in a terminal of 100 × 20."""

    def __init__(self, args: List[str]) -> None:
        self.ours, theirs = pty.openpty()
        self.before = termios.tcgetattr(self.ours)
        self.process = subprocess.Popen(
            args, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "20"},
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self._seen = b""

    @property
    def seen(self) -> str:
        return self._seen.decode(errors="replace")

    def until(self, pattern: str, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not re.search(pattern, self.seen):
            assert time.monotonic() < end, self.seen
            if select.select([self.ours], [], [], 0.1)[0]:
                self._seen += os.read(self.ours, 65536)

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def end(self) -> int:
        try:
            code = self.process.wait(20)
            while select.select([self.ours], [], [], 0)[0]:
                try:
                    self._seen += os.read(self.ours, 65536)
                except OSError:  # nobody has the other side any more
                    break
            return code
        finally:
            self.process.kill()
            os.close(self.ours)


@pytest.mark.parametrize("how", ["q", "SIGINT", "SIGTERM"])
def test_top_in_a_terminal(client: mfac.Client, run: mfac.Run, how: str) -> None:
    t = Terminal(command(client, "top", "--interval", "200ms"))
    t.until(re.escape(run.name) + r" +\S+ +\S+ +5/8 +\[######\.\.\.\.\] +5 +5 +0\.01 ")
    run.publish(6, np.ones(run.dim))
    t.until(r"6/8 +\[########\.\.\] +6 +6 ")
    t.type(b"x")  # no key of its
    t.until(r"steps/s over the last ticks[^$]*█")
    assert termios.tcgetattr(t.ours)[3] & termios.ICANON == 0
    if how == "q":
        t.type(b"q")
    else:
        t.process.send_signal(getattr(signal, how))
    code = t.process.wait(20)
    after = termios.tcgetattr(t.ours)
    assert (code, t.end()) == ((143, 143) if how == "SIGTERM" else (0, 0)), t.seen
    assert after[3] == t.before[3]  # echo and lines are back
    assert t.seen.count("\x1b[?1049h") == 1 and t.seen.rstrip().endswith("\x1b[?25h\x1b[?1049l") and "Traceback" not in t.seen


def test_top_outlives_the_cluster() -> None:
    with mfac.local(workers=1) as gone:
        gone.attach("x", dim=3, window=2)
        p = subprocess.Popen(command(gone, "top", "--json", "--interval", "0.2", "--timeout", "500ms"), stdout=subprocess.PIPE, text=True)
        assert p.stdout is not None
        first = json.loads(p.stdout.readline())
    try:
        assert first["runs"][0]["name"] == "x" and "error" not in first
        ticks = [json.loads(p.stdout.readline()) for _ in range(3)]
        assert ticks[-1]["runs"] == [] and ticks[-1]["error"]
        p.send_signal(signal.SIGINT)
        assert p.wait(20) == 0
    finally:
        p.kill()
        p.communicate()


def test_plots_of_the_window(run: mfac.Run, call: Call, tmp_path: Path) -> None:
    code, out, _ = call("plot", run.name, "spectrum", "norms", "influence", "--json")
    spectrum, norms, influence = json.loads(out)
    rows = np.stack([run.gradient(s) for s in range(1, 6)]).astype(np.float64)
    assert code == 0
    assert spectrum["F"] == run.spectrum().eigenvalues.tolist() and spectrum["λ"] == 1e-2 and spectrum["number"] == [1, 2, 3, 4, 5]
    assert norms["step"] == [1, 2, 3, 4, 5]
    assert np.allclose(norms["‖g‖"], np.linalg.norm(rows, axis=1), rtol=1e-6)  # half of the 1e-7 that it says
    assert influence["gᵀH⁻¹g"] == run.self_influence().values.tolist() and influence["left out"] == run.self_influence().left_out.tolist()
    file = tmp_path / "w.svg"
    assert call("plot", run.name, "norms", "influence", "-o", file) == (0, f"{file}\n", "")
    lines = ET.parse(file).getroot().findall(".//{http://www.w3.org/2000/svg}polyline")
    assert [len(line.attrib["points"].split()) for line in lines] == [5, 5, 5]
    y = [float(p.split(",")[1]) for p in lines[0].attrib["points"].split()]
    assert int(np.argmin(y)) == int(np.argmax(norms["‖g‖"]))  # the largest is the highest
    text = call("plot", run.name)[1]
    assert text.startswith(f"{run.name}: spectrum") and len(text.splitlines()) == 16


def test_plots_over_time(run: mfac.Run, call: Call, tmp_path: Path) -> None:
    code, out, _ = call("plot", run.name, "logdet", "condition", "rate", "rows", "--count", 3, "--interval", "60ms", "--json")
    logdet, condition, rate, rows = json.loads(out)
    assert code == 0 and len(logdet["seconds"]) == 3 and logdet["seconds"][0] == 0
    assert logdet["logdet"] == [run.scalars()["logdet"]] * 3 and condition["condition"] == [run.status()["cond"]] * 3
    assert rate["rate"] == [None, 0, 0] and rows["rows"] == [5, 5, 5]
    file = tmp_path / "t.svg"
    assert call("plot", run.name, "trace", "--count", 2, "--interval", "60ms", "-o", file)[0] == 0
    assert len(ET.parse(file).getroot().findall(".//{http://www.w3.org/2000/svg}circle")) == 2


def test_a_plot_that_is_watched(client: mfac.Client, run: mfac.Run) -> None:
    t = Terminal(command(client, "plot", run.name, "rows", "--interval", "100ms"))
    t.until(r"q ends")
    t.type(b"q")
    assert t.end() == 0
    assert "\x1b[?1049l" in t.seen and t.seen.split("\x1b[?1049l")[1].lstrip().startswith(f"{run.name}: rows")  # it stays


def test_a_run_that_goes_while_it_is_watched(client: mfac.Client, tmp_path: Path) -> None:
    short, file = client.attach("short-lived", dim=3, window=2), tmp_path / "x.svg"
    args = command(client, "plot", short.name, "rows", "--interval", "50ms", "-o", file)
    p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < end and p.poll() is None
        time.sleep(0.05)
    client.delete(short.name)
    out, err = p.communicate(timeout=20)
    assert (p.returncode, out) == (1, f"{file}\n") and "run is short-lived, must be one that exists" in err


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["plot", "no-such-run"], 1, "mfac: join run no-such-run: run is no-such-run, must be one that exists"),
        (["plot", "RUN", "bogus"], 1, "mfac: what is drawn is bogus, must be one of spectrum, "),
        (["plot", "RUN", "rate", "norms"], 1, "mfac: what is drawn is rate norms, must be of the window as it is, or all over time"),
        (["plot", "RUN", "-o", "x.png"], 1, "mfac: output is x.png, must be a file named .svg"),
        (["plot", "RUN", "-o", "/no/such/folder/x.svg"], 1, "No such file or directory"),
        (["top", "--interval", "1ms"], 1, "mfac: interval is 0.001s, must be at least 50ms"),
        (["top", "--count", "0"], 1, "mfac: count is 0, must be > 0"),
        (["--creds", "/no/such.creds", "status"], 1, "mfac: creds is /no/such.creds, must be a file that can be read"),
        (
            ["top", "--interval", "soon"],
            2,
            "time is soon, must be one such as 20s or 2m, at most a day\nUsage: python -m mfac top [flags] (",
        ),
        (["plot"], 2, "required: RUN\nUsage: python -m mfac plot RUN [WHAT ...] [flags] ("),
        (["statsu"], 2, "invalid choice: 'statsu'"),
        (["tool"], 2, "mfac: the tool's flags stand behind it: "),
        (["status", "--bogus"], 2, "unrecognized arguments: --bogus"),
    ],
)
def test_what_a_user_can_do_wrong(run: mfac.Run, call: Call, args: List[str], code: int, says: str) -> None:
    got, out, err = call(*[run.name if a == "RUN" else a for a in args])
    assert (got, out) == (code, "") and says in err and err.startswith("mfac: ") and "Traceback" not in err
    assert len(err.splitlines()) == code  # one line, and one that says how it is called


def test_no_server(call: Call) -> None:
    code, out, err = call("status", "--timeout", "300ms", server="nats://me:secret@127.0.0.1:1")
    assert (code, out) == (1, "") and "`mfac up` starts a cluster here, --server or NATS_URL names another" in err and "secret" not in err


def test_an_empty_window_has_no_spectrum(client: mfac.Client, call: Call) -> None:
    client.attach("empty-too", dim=3, window=2)
    try:
        assert call("plot", "empty-too")[2] == "mfac: gradients in the window is 0, must be > 0\n"
        assert call("plot", "empty-too", "logdet", "rows", "--count", 1, "--json")[0] == 0
    finally:
        client.delete("empty-too")


def test_a_run_of_blocks_is_drawn_whole(client: mfac.Client, call: Call) -> None:
    blocky = client.attach("blocky", layout={"w": (3, 4), "b": (4,)}, blocks="tensor", window=4, damping=0.1)
    try:
        blocky.publish(1, np.random.default_rng(1).normal(size=(3, 16)))
        code, out, err = call("plot", "blocky", "spectrum", "norms", "influence", "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)[0]["F"] == blocky.spectrum(blocks="whole").eigenvalues.tolist()
        assert (
            json.loads(call("plot", "blocky", "logdet", "--count", 1, "--json")[1])[0]["logdet"][0]
            == blocky.scalars(blocks="whole")["logdet"]
        )
    finally:
        client.delete("blocky")


def test_norms_where_tensors_have_dampings(client: mfac.Client, call: Call) -> None:
    scaled = client.attach("scaled", layout={"w": (3, 4), "b": (4,)}, tensor_damping={"b": 1.0}, window=4, damping=0.1)
    try:
        scaled.publish(1, np.ones(16))
        code, out, err = call("plot", "scaled", "norms")
        assert (code, out) == (1, "") and "norms, must be something else where tensors have dampings of their own" in err
        assert call("plot", "scaled", "influence")[0] == 0
    finally:
        client.delete("scaled")


def test_the_tool_of_the_wheel(client: mfac.Client, tool: Callable[..., str]) -> None:
    args = [sys.executable, "-m", "mfac", "tool", "run", "ls", "--server", client.url]
    assert subprocess.run(args, check=True, capture_output=True, text=True).stdout == tool("run", "ls", "--server", client.url)
    version = subprocess.run([sys.executable, "-m", "mfac", "version"], check=True, capture_output=True, text=True).stdout
    assert version.startswith(f"mfac {mfac.__version__} for Python ")
