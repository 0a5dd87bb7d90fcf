"""Training images forgotten by one Newton step, held against training anew without them.

    python forget.py           # a minute on two cores, over a cluster of its own (mfac.local)
    python forget.py --server nats://127.0.0.1:4222

Networks learn to tell 3 from 8 on 500 of MNIST's images (common.py says where they are). Some of these are to be forgotten: drawn by
chance, or 25 that had a wrong label. It prints how far each network is from the one that never saw them, and draws how much of the
distance is left, by how many are forgotten, as forget.svg. docs/example-forget.md has the figures.
"""

import copy
import time
from typing import Dict, List, NamedTuple, Sequence

import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import mfac
import mfac.torch
from common import Curve, Data, accuracy, arguments, cluster, folder, loss_of, mean_and_spread, network, number, plot, read, window

DIGITS = (3, 8)
NETWORKS = ((784, 2), (784, 16, 2))
STEPS, RATE, DECAY = 400, 0.02, 0.1  # of each training; the weight decay μ is λ too
MORE = 20  # steps on the images that are kept, for comparison
COUNTS, TABLED = (5, 10, 25, 50, 100), 25  # images that are forgotten
WAYS = ("untouched", "Newton step", "Newton step, plain gradients", f"{MORE} more steps on the rest", "trained anew")


class Outcome(NamedTuple):
    test_distance: float  # root mean square of the differences of logits from those of the network that is trained anew
    gone_distance: float
    gone: float  # accuracies
    kept: float
    test: float


def digits(data: Data) -> Data:
    at = (data.y == DIGITS[0]) | (data.y == DIGITS[1])
    return Data(data.x[at], (data.y[at] == DIGITS[1]).long())


def descend(model: torch.nn.Module, data: Data, steps: int) -> torch.nn.Module:
    """Gradient descent with momentum on the mean loss + μ/2·|w|², by all images at once."""
    optimizer = torch.optim.SGD(model.parameters(), RATE, momentum=0.9, weight_decay=DECAY)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model(data.x), data.y).backward()
        optimizer.step()
    return model


def gauss_newton(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Its gradient is the image's row of the Gauss–Newton matrix: with two classes the loss' curvature in the logits has rank one,
    and the row is the gradient times √(p/(1 − p)), p = exp(−loss) being what the network gives to the label."""
    loss = loss_of(output, target)
    return loss / torch.expm1(loss.detach()).sqrt()


def newton(
    client: mfac.Client, model: torch.nn.Module, data: Data, order: torch.Tensor, counts: Sequence[int], plain: bool
) -> List[torch.nn.Module]:
    """w + (1/n) H⁻¹ Σ (g + μw) over the first so many images of order, n being the others: H = (1/n) Σ rrᵀ + μI of their rows r."""
    w = parameters_to_vector(model.parameters()).detach()
    grads = mfac.torch.per_sample_gradients(model, loss_of, data.x[order[: counts[-1]]], data.y[order[: counts[-1]]])
    models = [copy.deepcopy(model) for _ in counts]
    with window(client, "example-forget", model, len(data.y), DECAY) as run:
        steps = mfac.torch.publish_examples(model, run, [(data.x, data.y)], loss_of if plain else gauss_newton)
        for before, count, after in zip((0, *counts), counts, models):
            run.forget(steps[order[before:count].numpy()])
            change = run.ihvp((grads[:count].double() + DECAY * w).sum(0).numpy() / run.status()["rows"])
            vector_to_parameters(w + torch.from_numpy(change).float(), after.parameters())
    return models


def forget(
    client: mfac.Client, sizes: Sequence[int], seed: int, data: Data, right: Data, order: torch.Tensor, counts: Sequence[int], test: Data
) -> List[Dict[str, Outcome]]:
    """What becomes by each way of a network that is trained on data and is to forget the first so many images of order, by counts. right
    has the right labels."""
    model = descend(network(seed, sizes), data, STEPS)
    moved = newton(client, model, data, order, counts, plain=False)
    moved_plain = newton(client, model, data, order, counts, plain=True)
    found = []
    for count, by_newton, by_plain in zip(counts, moved, moved_plain):
        gone, kept = order[:count], order[count:]
        longer = descend(copy.deepcopy(model), data.part(kept), MORE)
        anew = descend(network(seed, sizes), data.part(kept), STEPS)
        found.append(
            {
                way: Outcome(
                    distance(m, anew, test.x), distance(m, anew, data.x[gone]),
                    accuracy(m, right.part(gone)), accuracy(m, right.part(kept)), accuracy(m, test),
                )
                for way, m in zip(WAYS, (model, by_newton, by_plain, longer, anew))
            }
        )  # fmt: skip
    return found


def distance(a: torch.nn.Module, b: torch.nn.Module, x: torch.Tensor) -> float:
    with torch.no_grad():
        return float((a(x) - b(x)).square().mean().sqrt())


def show(title: str, outcomes: List[Dict[str, Outcome]]) -> None:
    print(f"\n{title:38}{'distance: test':>18}{'forgotten':>18}{'right: forgotten':>18}{'kept':>16}{'test':>16}")
    for way in WAYS:
        columns = list(zip(*(o[way] for o in outcomes)))
        far = "".join(f"{mean_and_spread(c, 4):>18}" for c in columns[:2])
        print(f"{way:38}{far}{mean_and_spread(columns[2]):>18}" + "".join(f"{mean_and_spread(c):>16}" for c in columns[3:]), flush=True)


def main() -> None:
    parser = arguments("Training images forgotten by one Newton step.", "forget.svg", 3)
    parser.add_argument("--images", type=number(150, 4096), default=500, help="to train on (default 500)")
    args = parser.parse_args()
    both, test = (digits(data) for data in read(folder(args.mnist)))
    began, curves = time.monotonic(), []
    print(f"{DIGITS[0]} or {DIGITS[1]}, {args.images} images, λ = μ = {DECAY:g}, {args.seeds} seeds from {args.seed}; right answers in %")
    with cluster(args.server) as client:
        for colour, sizes in enumerate(NETWORKS):
            chance: List[List[Dict[str, Outcome]]] = []
            wrong: List[Dict[str, Outcome]] = []
            for seed in range(args.seed, args.seed + args.seeds):
                random = torch.Generator().manual_seed(seed)
                data = both.part(torch.randperm(len(both.y), generator=random)[: args.images])
                order = torch.randperm(args.images, generator=random)
                chance.append(forget(client, sizes, seed, data, data, order, COUNTS, test))
                flipped = Data(data.x, data.y.clone())
                flipped.y[order[:TABLED]] = 1 - data.y[order[:TABLED]]
                wrong += forget(client, sizes, seed, flipped, data, order, [TABLED], test)
            name = "-".join(map(str, sizes))
            by_count = dict(zip(COUNTS, map(list, zip(*chance))))
            show(f"{name}: {TABLED} drawn by chance", by_count[TABLED])
            show(f"{name}: {TABLED} that had a wrong label", wrong)
            for way, short, dashed in ((WAYS[1], "Newton step", False), (WAYS[3], f"{MORE} more steps", True)):
                left = {c: [o[way].test_distance / o["untouched"].test_distance for o in found] for c, found in by_count.items()}
                curves.append(Curve(f"{short}, {name}", [(c, sum(x) / len(x)) for c, x in left.items()], colour, dashed))
    plot(
        args.plot, "share of the distance that is left (log), over images that are forgotten", curves, log_x=True, log_y=True,
        ticks={c: str(c) for c in COUNTS},
    )  # fmt: skip
    print(f"\n{args.plot}; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
