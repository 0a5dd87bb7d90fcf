"""M-FAC beside SGD and AdamW on MNIST, the learning rate of each chosen alike: six of them, on held-out images.

    python train.py            # a minute on two cores, over a cluster of its own (mfac.local)
    python train.py --server nats://127.0.0.1:4222

common.py says where MNIST is. It prints a table and draws the training losses as train.svg. docs/torch.md has the figures.
"""

import statistics
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import torch

import mfac
import mfac.torch
from common import Curve, Data, accuracy, arguments, cluster, folder, network, plot, read

STEPS, BATCH, WARMUP = 200, 250, 20  # of each trial; the rate grows over the first steps
TRAIN, HELD = 10_000, 5_000
WINDOW, DAMPING = 128, 1e-3


class Trial(NamedTuple):
    losses: List[float]
    held: float  # accuracy
    test: float
    seconds: float


def trial(optimizer_of: Callable[[torch.nn.Module], torch.optim.Optimizer], seed: int, train: Data, held: Data, test: Data) -> Trial:
    model = network(seed)
    optimizer = optimizer_of(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, (i + 1) / WARMUP))
    order = torch.Generator().manual_seed(seed)
    losses, began = [], time.monotonic()
    for _ in range(STEPS):
        batch = train.part(torch.randint(len(train.y), (BATCH,), generator=order))
        loss = torch.nn.functional.cross_entropy(model(batch.x), batch.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return Trial(losses, accuracy(model, held), accuracy(model, test), time.monotonic() - began)


def contenders(client: mfac.Client) -> Dict[str, Tuple[List[float], Callable[[torch.nn.Module, float], torch.optim.Optimizer]]]:
    """Of each the rates, and how it is made."""

    def make_mfac(model: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
        if "example-train" in client.runs():  # a trial begins with an empty window
            client.delete("example-train")
        return mfac.torch.MFAC(
            model.named_parameters(), lr, momentum=0.9, client=client, name="example-train", window=WINDOW, damping=DAMPING
        )

    return {
        "M-FAC": ([3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1], make_mfac),
        "SGD": ([3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0], lambda model, lr: torch.optim.SGD(model.parameters(), lr, momentum=0.9)),
        "AdamW": ([3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1], lambda model, lr: torch.optim.AdamW(model.parameters(), lr)),
    }


def draw(path: Path, curves: Dict[str, List[float]]) -> None:
    """Losses, averaged over ten steps."""
    smooth = {n: [statistics.fmean(c[max(0, i - 9) : i + 1]) for i in range(len(c))] for n, c in curves.items()}
    lines = [Curve(n, list(enumerate(c)), colour) for colour, (n, c) in enumerate(smooth.items())]
    plot(path, "training loss (log) over steps", lines, log_y=True)


def main() -> None:
    parser = arguments("M-FAC beside SGD and AdamW on MNIST.", "train.svg", 5)
    args = parser.parse_args()
    both, test = read(folder(args.mnist))
    split = torch.randperm(len(both.y), generator=torch.Generator().manual_seed(0))
    train, held = both.part(split[:TRAIN]), both.part(split[TRAIN : TRAIN + HELD])
    began = time.monotonic()
    curves: Dict[str, List[float]] = {}
    with cluster(args.server) as client:
        d = sum(p.numel() for p in network(0).parameters())
        print(f"{d} parameters; each training is {STEPS} steps of {BATCH} images; M-FAC: window {WINDOW}, λ = {DAMPING:g}", flush=True)
        print(f"{'':8} {'rate':>7} {'test accuracy':>18} {'last loss':>17} {'ms a step':>10}")
        for name, (rates, make) in contenders(client).items():

            def run(lr: float, seed: int, make: Any = make) -> Trial:
                return trial(lambda model: make(model, lr), seed, train, held, test)

            best = max(rates, key=lambda lr: run(lr, 1000).held)  # by a seed that is not reported
            trials = [run(best, seed) for seed in range(args.seed, args.seed + args.seeds)]
            curves[name] = trials[0].losses
            at_end = [statistics.fmean(t.losses[-10:]) for t in trials]
            spread = statistics.stdev if args.seeds > 1 else (lambda _: 0.0)
            tested = [t.test for t in trials]
            edge = " (the end of its rates)" if best in (rates[0], rates[-1]) else ""
            print(
                f"{name:8} {best:7g} {statistics.fmean(tested):9.2f} ± {spread(tested):5.2f} % {statistics.fmean(at_end):8.4f} ± "
                f"{spread(at_end):.4f} {1000 * statistics.fmean(t.seconds for t in trials) / STEPS:10.1f}{edge}",
                flush=True,
            )
    draw(args.plot, curves)
    print(f"{args.plot}; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
