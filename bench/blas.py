"""OpenBLAS through numpy and scipy, timed on request.

A line of JSON on standard input is a request, a line on standard output its answer. Times are
of the calls alone, in seconds, for `reps` of them.
"""
import json
import sys
import time

import numpy as np
import scipy.linalg.blas as blas
import threadpoolctl

try:
    import torch
except ImportError:
    torch = None

state = {}


def info(_):
    libs = [p for p in threadpoolctl.threadpool_info() if p.get("user_api") == "blas"]
    return {
        "numpy": np.__version__,
        "torch": torch.__version__ if torch else "",
        "blas": [f'{p["internal_api"]} {p["version"]} {p.get("architecture", "?")}' for p in libs],
    }


def threads(q):
    threadpoolctl.threadpool_limits(q["n"])
    if torch:
        torch.set_num_threads(q["n"])
    return {}


def rows(q):
    """G from the sequence that both sides have: row t begins at number t*shift."""
    state.clear()
    base = np.fromfile(q["file"], dtype=np.float32)
    m, d, shift = q["m"], q["d"], q["shift"]
    a = np.empty((m, d), np.float32)
    for t in range(m):
        a[t] = base[t * shift : t * shift + d]
    state["a"] = a
    state["v"] = base[shift // 2 : shift // 2 + d].copy()
    state["c"] = np.array(q["c"], np.float32)
    state["y"] = np.zeros(m, np.float32)
    state["r"] = np.zeros(d, np.float32)
    if torch:
        for k in "avcyr":
            state["t" + k] = torch.from_numpy(state[k])
    return {}


def doubles(q):
    """The same numbers in float64, with q["k"] vectors and coefficient vectors."""
    s, k = state, q["k"]
    for name in "avcyr":
        s[name + "64"] = s[name].astype(np.float64)
    m, d = s["a"].shape
    s["x64"] = np.stack([np.roll(s["v64"], i) for i in range(k)])
    s["k64"] = np.stack([np.roll(s["c64"], i) for i in range(k)])
    s["xy64"] = np.zeros((k, m))
    s["xr64"] = np.zeros((k, d))
    return {}


def single(q):
    """Drops the float32 copy, where only float64 is asked for any more."""
    state.pop("a", None)
    return {}


def triangle(q):
    """L of n rows and W of n rows and cols columns, W row by row."""
    n, cols = q["n"], q["cols"]
    i = np.arange(n)
    state["l"] = np.asfortranarray(np.where(i[:, None] > i, 1e-3 * ((i[:, None] + i) % 7), 0.0) + np.eye(n))
    state["w"] = np.ones((n, cols))
    return {}


OPS = {
    "sgemv/dots": lambda s: np.dot(s["a"], s["v"], out=s["y"]),
    "sgemv/combine": lambda s: np.dot(s["c"], s["a"], out=s["r"]),
    "dgemv/dots": lambda s: np.dot(s["a64"], s["v64"], out=s["y64"]),
    "dgemv/combine": lambda s: np.dot(s["c64"], s["a64"], out=s["r64"]),
    "dgemm/dots": lambda s: np.dot(s["x64"], s["a64"].T, out=s["xy64"]),
    "dgemm/combine": lambda s: np.dot(s["k64"], s["a64"], out=s["xr64"]),
    # A row-major is A.T column-major: trans=1 makes it A A.T.
    "dsyrk": lambda s: blas.dsyrk(1.0, s["a64"].T, trans=1, lower=1),
    # W.T L⁻ᵀ, with W.T column-major.
    "dtrsm": lambda s: blas.dtrsm(1.0, s["l"], s["w"].T, side=1, lower=1, trans_a=1, overwrite_b=1),
    "torch/dots": lambda s: torch.mv(s["ta"], s["tv"], out=s["ty"]),
    "torch/combine": lambda s: torch.mv(s["ta"].T, s["tc"], out=s["tr"]),
}


def run(q):
    f = OPS[q["op"]]
    for _ in range(q["reps"] // 2):  # until threads are awake, each on a core of its own
        f(state)
    t = time.perf_counter()
    for _ in range(q["reps"]):
        f(state)
    seconds = time.perf_counter() - t
    rest()
    return {"seconds": seconds}


def rest():
    """Waits until OpenBLAS' threads no longer spin on a core that the other side needs: 0.1 s after
    a call, or as long as this build's OPENBLAS_THREAD_TIMEOUT has them."""
    for _ in range(200):
        before = time.process_time()
        time.sleep(0.01)
        if time.process_time() - before < 0.001:
            return
    raise RuntimeError("threads are still busy 2 s after the call")


def take(q):
    """Some numbers of a result."""
    return {"x": state[q["name"]][q["from"] :: q["step"]].astype(np.float64).tolist()}


def forget(_):
    state.clear()
    return {}


WHAT = {f.__name__: f for f in (info, threads, rows, doubles, single, triangle, run, take, forget)}

for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = WHAT[request["what"]](request)
    except Exception as e:  # told to who asked
        answer = {"error": f"{type(e).__name__}: {e}"}
    print(json.dumps(answer), flush=True)
