"""What publishing each step beside a training costs it: a ResNet-18 (11,173,962 parameters) on 32×32 images, SGD, on the CPU.

    python3 bench/python/overhead.py [--batch 64] [--pairs 6] [--steps 1] [--window 32] [--wire bf16]

Needs the package with torch (pip install './python[torch]'). Steps with a mfac.torch.GradientPublisher and without one are taken in
turn, of the same model. The cluster, NATS and two workers, is another process on the same cores, so all that it computes is taken
from the training. Prints the median time of a step each way, the median and quartiles of the pairs' ratios, and how much processor
time a step took, by process: what remains of it where the workers are other machines is the training's and the agent's.
OMP_WAIT_POLICY=passive keeps torch's threads from spinning where they wait, which counts as processor time too.
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import mfac
import mfac.torch
from mfac import _agent


class Block(nn.Module):
    """Two 3×3 convolutions and what goes around them (He, Zhang, Ren and Sun, 2016, figure 2 and table 1)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.around = nn.Sequential()
        if stride > 1 or inside != outside:
            self.around = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.second(torch.relu(self.norm1(self.first(x)))))
        return torch.relu(y + self.around(x))


def resnet18() -> nn.Module:
    layers = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    inside = 64
    for outside, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Block(inside, outside, stride), Block(outside, outside, 1)]
        inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def busy(pid: int) -> float:
    """Seconds of processor time of a process' threads so far."""
    return sum(int((t / "schedstat").read_text().split()[0]) for t in Path(f"/proc/{pid}/task").iterdir()) / 1e9


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=1, help="timed together, each way of a pair, after one that is not timed")
    parser.add_argument("--window", type=int, default=32)
    parser.add_argument("--store", default="f32")
    parser.add_argument("--wire", default=None)
    return parser.parse_args()


class Training:
    """A model, an optimizer, and a publisher that is there or isn't."""

    def __init__(self, batch: int) -> None:
        torch.manual_seed(0)
        self.model = resnet18().train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.x, self.y = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
        self.copied = []

    def step(self) -> None:
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(self.x), self.y).backward()
        self.optimizer.step()

    def published_by(self, publisher: mfac.torch.GradientPublisher) -> Any:
        """Until the handle that this returns is removed."""

        def before(*_: object) -> None:
            began = time.perf_counter()
            publisher.push()
            self.copied.append(time.perf_counter() - began)

        return self.optimizer.register_step_pre_hook(before)


def main() -> None:
    args = arguments()
    with mfac.local(workers=2) as cluster, mfac.connect(cluster.url) as client:  # of two agents, the second only connects
        pids = {"training": os.getpid(), "agent": _agent._shared.process.pid, "cluster": cluster._local.process.pid}
        training = Training(args.batch)
        run = client.attach("overhead", layout=mfac.torch.layout(training.model), window=args.window, damping=1e-3, store=args.store)
        took = {"without": [], "with": []}
        spent = {way: dict.fromkeys(pids, 0.0) for way in took}
        with mfac.torch.GradientPublisher(training.model, run, wire=args.wire) as publisher:
            training.step()
            for _ in range(args.window + 1):  # a full window: each further step costs what it does for good
                publisher.push()
            for k in range(args.pairs):
                for way in ("without", "with") if k % 2 else ("with", "without"):
                    publisher.flush()
                    hook = training.published_by(publisher) if way == "with" else None
                    training.step()  # what it publishes is under way in the next ones
                    since = {who: busy(pid) for who, pid in pids.items()}
                    began = time.perf_counter()
                    for _ in range(args.steps):
                        training.step()
                    took[way].append((time.perf_counter() - began) / args.steps)
                    for who, pid in pids.items():
                        spent[way][who] += (busy(pid) - since[who]) / args.steps / args.pairs
                    if hook is not None:
                        hook.remove()
    d = sum(p.numel() for p in training.model.parameters())
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; d = {d}, batch {args.batch}, window {args.window}")
    print(f"store {args.store}, wire {args.wire or 'f32'}; {args.pairs} pairs of {args.steps} steps")
    for way, seconds in took.items():
        parts = ", ".join(f"{who} {1000 * s:.0f}" for who, s in spent[way].items())
        print(f"{way:8} {1000 * statistics.median(seconds):6.0f} ms a step; processor ms: {parts}")
    quarters = statistics.quantiles([a / b for a, b in zip(took["with"], took["without"])], n=4)
    print(f"with / without: {quarters[1]:.3f} ({quarters[0]:.3f} to {quarters[2]:.3f})")
    print(f"of that the training waits for the gradient to be copied: {1000 * statistics.median(training.copied):.1f} ms")


if __name__ == "__main__":
    main()
