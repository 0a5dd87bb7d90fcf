"""A step of mfac.torch.MFAC beside M-FAC's dynamic algorithm in torch alone, in this process: a window of 32, the same gradients, in turn.

    python3 bench/python/step.py [--dims 32e3 1e6 11e6] [--window 32] [--steps 15]

Needs the package with torch (pip install './python[torch]'). The cluster, NATS and two workers, is another process on the same cores.
Prints the median of a step of each, where ours goes (the gradient's copy to shared memory, the call, momentum and weights), what the
agent and the cluster compute meanwhile, and the same bytes' way up (publish) and down (fetch) by themselves; and how far the two
momenta are apart, relative in the 2-norm.
"""

import argparse
import os
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List

import torch

import mfac
import mfac.torch
from mfac import _agent

LR, MOMENTUM, DAMPING = 1e-3, 0.9, 1e-3


class Dynamic:
    """w ← w − lr·v, v ← μv + (1 − μ)F⁻¹g of the last m gradients, in float32 (Frantar, Kurtic and Alistarh, M-FAC, NeurIPS 2021,
    section 3.2), from the formulas. With vₖ = Fₖ₋₁⁻¹gₖ = Σₗ Bₖₗgₗ and qₖ = m + gₖᵀvₖ,

        Bⱼ = eⱼ/λ − Σ_{k<j} Bₖ (vₖᵀgⱼ)/qₖ,   vₖᵀgⱼ = (B GGᵀ)ₖⱼ,   F⁻¹x = x/λ − GᵀBᵀ diag(1/q) B Gx

    so that a step reads G twice: once for Gg, which is also the new row of GGᵀ, and once for the sum.
    """

    def __init__(self, params: List[torch.Tensor], m: int) -> None:
        self.params, self.m, self.at = params, m, 0
        d = sum(p.numel() for p in params)
        self.g, self.v = torch.zeros(m, d), torch.zeros(d)
        self.gram = torch.zeros(m, m)

    def step(self) -> None:
        slot, self.at = self.at % self.m, self.at + 1
        g = torch.cat([p.grad.reshape(-1) for p in self.params], out=self.g[slot])
        dots = self.g @ g
        self.gram[slot], self.gram[:, slot] = dots, dots
        b, q = torch.eye(self.m) / DAMPING, torch.empty(self.m)
        for k in range(self.m):
            along = b[k] @ self.gram
            q[k] = self.m + along[k]
            b[k + 1 :] -= torch.outer(along[k + 1 :] / q[k], b[k])
        c = b.T @ ((b @ dots) / q)
        u = torch.addmv(g, self.g.T, c, beta=1 / DAMPING, alpha=-1)
        self.v.mul_(MOMENTUM).add_(u, alpha=1 - MOMENTUM)
        at = 0
        for p in self.params:
            p.data.add_(self.v[at : at + p.numel()].view(p.shape), alpha=-LR)
            at += p.numel()


def parameters(d: int) -> List[torch.Tensor]:
    """d numbers, in tensors as unequal as a network's."""
    torch.manual_seed(0)
    sizes = []
    while sum(sizes) < d:
        sizes.append(min(d - sum(sizes), max(64, d // (3 if len(sizes) % 2 else 100))))
    return [torch.nn.Parameter(torch.randn(n)) for n in sizes]


def busy(pid: int) -> float:
    """Milliseconds of processor time of a process' threads so far."""
    return sum(int((t / "schedstat").read_text().split()[0]) for t in Path(f"/proc/{pid}/task").iterdir()) / 1e6


class Clock:
    """Milliseconds, by what they were spent on."""

    def __init__(self) -> None:
        self.spent: Dict[str, List[float]] = defaultdict(list)

    def timed(self, what: str, f: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            result = f(*args, **kwargs)
            self.spent[what].append(1000 * (time.perf_counter() - began))
            return result

        return call

    def __getitem__(self, what: str) -> float:
        return statistics.median(self.spent[what])


def measure(client: mfac.Client, pids: Dict[str, int], d: int, m: int, steps: int) -> None:
    mine, theirs = parameters(d), parameters(d)
    optimizer = mfac.torch.MFAC(mine, lr=LR, momentum=MOMENTUM, client=client, name=f"step-{d}", window=m, damping=DAMPING)
    dynamic, clock, run = Dynamic(theirs, m), Clock(), optimizer.run
    optimizer._in.fill = clock.timed("copy", optimizer._in.fill)
    optimizer._feed.precondition = clock.timed("call", optimizer._feed.precondition)
    optimizer._move = clock.timed("weights", optimizer._move)
    ours, other = clock.timed("step", optimizer.step), clock.timed("torch", dynamic.step)
    publish, fetch = clock.timed("publish", run.publish), clock.timed("fetch", run.gradient)
    cpu = dict.fromkeys(pids, 0.0)
    generator = torch.Generator().manual_seed(1)
    for n in range(m + steps):
        if n == m:  # the window is full now
            clock.spent.clear()
            cpu = dict.fromkeys(pids, 0.0)
        for p, q in zip(mine, theirs):
            p.grad = torch.randn(p.shape, generator=generator) / d**0.5  # of a length as networks have it: about 1
            q.grad = p.grad.clone()
        since = {who: busy(pid) for who, pid in pids.items()}
        ours()
        for who, pid in pids.items():
            cpu[who] += (busy(pid) - since[who]) / steps
        other()
    momentum = torch.cat([optimizer.state[p]["momentum_buffer"].reshape(-1) for p in mine])
    apart = float((momentum - dynamic.v).norm() / dynamic.v.norm())
    g = client.empty(d)
    g[:] = 1.0
    for n in range(steps):
        publish(10_000 + n, g)
        fetch(10_000 + n, out=g)
    client.delete(run.name)
    print(f"d = {d}, m = {m}: a step {clock['step']:.2f} ms; in torch alone {clock['torch']:.2f} ms; {apart:.1e} apart")
    print(f"    copy {clock['copy']:.2f}, call {clock['call']:.2f}, momentum and weights {clock['weights']:.2f}; "
          f"processor ms: {', '.join(f'{who} {ms:.1f}' for who, ms in cpu.items())}")  # fmt: skip
    print(f"    publish by itself {clock['publish']:.2f}, fetch by itself {clock['fetch']:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=float, nargs="+", default=[32e3, 1e6, 11e6])
    parser.add_argument("--window", type=int, default=32)
    parser.add_argument("--steps", type=int, default=15)
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with mfac.local(workers=2) as cluster, mfac.connect(cluster.url) as client:  # of two agents, the second only connects
        pids = {"this process": os.getpid(), "agent": _agent._shared.process.pid, "cluster": cluster._local.process.pid}
        for d in args.dims:
            measure(client, pids, int(d), args.window, args.steps)


if __name__ == "__main__":
    main()
