"""What λ does: to pruning, to the optimizer and to the condition of H, beside the λ that the likelihood of gradients chooses.

    python damping.py          # a minute and a half on two cores, over a cluster of its own (mfac.local)
    python damping.py --server nats://127.0.0.1:4222

At each of six λ a network that is trained on MNIST (common.py says where that is) is pruned, and another one is trained by M-FAC, at
the learning rate that is best on held-out images. It prints a table and draws the accuracies as damping.svg.
docs/example-damping.md has the figures.
"""

import argparse
import copy
import math
import statistics
import time
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch

import mfac
import mfac.torch
from common import Curve, Data, accuracy, arguments, cluster, fit, folder, loss_of, mean_and_spread, network, plot, read, window
from train import HELD, TRAIN, Trial, trial

DAMPINGS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
SPARSITIES, EPOCHS, ROWS = (0.8, 0.9), 10, 256  # images whose gradients are asked
RATES, OPTIMIZER_ROWS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3), 128


class Pruned(NamedTuple):
    cond: List[float]  # of these one for each λ
    left_out: List[float]  # mean log-likelihoods of gradients, in nats
    held_out: List[float]
    right: List[List[float]]  # by sparsity


def pruned(client: mfac.Client, dampings: Sequence[float], seed: int, train: Data, held: Data, test: Data) -> Pruned:
    model = fit(network(seed), train, EPOCHS, seed).eval()

    def right(run: mfac.Run, sparsity: float, damping: float) -> float:
        smaller = copy.deepcopy(model)
        mfac.torch.prune(smaller, run, sparsity, rule="joint", damping=damping)
        return accuracy(smaller, test)

    with window(client, "example-damping-prune", model, ROWS) as run:
        mfac.torch.publish_examples(model, run, [train.part(slice(0, ROWS))], loss_of)
        others = mfac.torch.per_sample_gradients(model, loss_of, *held.part(slice(0, ROWS))).numpy()
        return Pruned(
            list(run.scalars(dampings)["cond_h"]),
            list(run.tune(dampings).mean),
            list(run.tune(dampings, others).mean),
            [[right(run, sparsity, damping) for sparsity in SPARSITIES] for damping in dampings],
        )


class Optimized(NamedTuple):
    rate: float
    right: List[float]  # by seed
    chosen: List[float]  # the λ that the likelihood of the last window's gradients chooses, each left out


def optimized(
    client: mfac.Client, dampings: Sequence[float], damping: float, start: float, seeds: Sequence[int], train: Data, held: Data, test: Data
) -> Optimized:
    """The rate is found by going up or down from start while that is better on held-out images, by a seed that is not reported."""

    def one(lr: float, seed: int) -> Tuple[Trial, float]:
        with window(client, "example-damping-optimizer", network(seed), OPTIMIZER_ROWS, damping, "capacity") as run:
            done = trial(lambda model: mfac.torch.MFAC(model.named_parameters(), lr, momentum=0.9, run=run), seed, train, held, test)
            return done, run.tune(dampings).best

    tried: Dict[float, float] = {}
    best = start
    while True:
        at = RATES.index(best)
        for lr in RATES[max(0, at - 1) : at + 2]:
            if lr not in tried:
                tried[lr] = one(lr, 1000)[0].held
        if tried[best] == max(tried.values()):
            break
        best = max(tried, key=lambda lr: tried[lr])
    done = [one(best, seed) for seed in seeds]
    return Optimized(best, [t.test for t, _ in done], [chosen for _, chosen in done])


def numbers(text: str) -> List[float]:
    try:
        found = sorted(float(x) for x in text.split(","))
    except ValueError:
        found = []
    if len(found) < 2 or not all(0 < x < math.inf for x in found):
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers > 0 or more, with commas")
    return found


def main() -> None:
    parser = arguments("What the damping λ does, and what the likelihood of gradients says of it.", "damping.svg", 3)
    parser.add_argument("--dampings", type=numbers, default=DAMPINGS, help="which λ (default 1e-6,1e-5,…,0.1)")
    args = parser.parse_args()
    both, test = read(folder(args.mnist))
    split = torch.randperm(len(both.y), generator=torch.Generator().manual_seed(0))
    train, held = both.part(split[:TRAIN]), both.part(split[TRAIN : TRAIN + HELD])
    seeds, began = range(args.seed, args.seed + args.seeds), time.monotonic()
    lines: Dict[str, List[Tuple[float, float]]] = {}
    with cluster(args.server) as client:
        by_seed = [pruned(client, args.dampings, seed, train, held, test) for seed in seeds]
        print(f"{'':8}{'likelihood, nats, of gradients':>42}" + f"{'pruned, test accuracy, %':>30}{'the optimizer':>34}")
        heads = "".join(f"{f'{100 * s:g} %':>15}" for s in SPARSITIES)
        print(f"{'λ':8}{'cond H':>10}{'left out':>16}{'held out':>16}{heads}{'rate':>10}{'test accuracy, %':>18}{'left out chooses':>22}")
        rate = RATES[2]
        for i, damping in enumerate(args.dampings):
            of = optimized(client, args.dampings, damping, rate, seeds, train, held, test)
            rate = of.rate
            cond, left_out, held_out = (
                statistics.fmean(getattr(p, number)[i] for p in by_seed) for number in ("cond", "left_out", "held_out")
            )
            found = {f"{100 * s:g} % pruned": [p.right[i][k] for p in by_seed] for k, s in enumerate(SPARSITIES)}
            print(
                f"{damping:<8g}{cond:10.2g}{left_out:16.4g}{held_out:16.4g}{''.join(f'{mean_and_spread(x):>15}' for x in found.values())}"
                f"{of.rate:10g}{mean_and_spread(of.right):>18}{', '.join(f'{x:g}' for x in of.chosen):>22}",
                flush=True,
            )
            for name, x in {**found, "the optimizer": of.right}.items():
                lines.setdefault(name, []).append((damping, statistics.fmean(x)))
    marks = {}
    for way, likelihoods in (("left out", [p.left_out for p in by_seed]), ("held out", [p.held_out for p in by_seed])):
        print(f"{way}, the likelihood chooses {', '.join(f'{args.dampings[int(np.argmax(x))]:g}' for x in likelihoods)}")
        marks[f"{way} chooses"] = args.dampings[int(np.argmax(np.mean(likelihoods, axis=0)))]
    curves = []
    for colour, (name, points) in enumerate(lines.items()):
        best = max(right for _, right in points)
        curves.append(Curve(name, [(damping, right - best) for damping, right in points], colour))
    plot(args.plot, "test accuracy below that of the best λ, points, over λ (log)", curves, log_x=True, marks=marks)
    print(f"{args.plot}; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
