"""Wrong labels among training images, found by what the images bear on themselves and on held-out ones.

    python influence.py        # a minute on two cores, over a cluster of its own (mfac.local)
    python influence.py --server nats://127.0.0.1:4222

One in twenty of MNIST's images (common.py says where they are) gets another label, and a network is trained on all. Images are
looked at in the order that a number of each gives. It prints how many of the wrong labels are found, and what training without the
first twentieth gives, and draws the former as influence.svg. docs/example-influence.md has the figures.
"""

import sys
import time
from typing import Dict, List, Tuple

import numpy as np
import torch

import mfac
import mfac.torch
from common import Curve, Data, accuracy, arguments, cluster, fit, folder, loss_of, mean_and_spread, network, number, plot, read, window

SIZES = (784, 16, 10)
WRONG, EPOCHS = 0.05, 20
DAMPING = 1e-3  # as a share of tr F, the mean squared norm of a gradient
LOOKED_AT = (0.01, 0.02, 0.05, 0.1, 0.2)
HELD = 2_000  # images with right labels


def mislabelled(data: Data, seed: int) -> Tuple[Data, torch.Tensor]:
    """The data with wrong labels, and which."""
    random = torch.Generator().manual_seed(seed)
    at = torch.randperm(len(data.y), generator=random)[: max(1, int(WRONG * len(data.y)))]
    y, wrong = data.y.clone(), torch.zeros(len(data.y), dtype=torch.bool)
    y[at] = (y[at] + torch.randint(1, 10, (len(at),), generator=random)) % 10
    wrong[at] = True
    return Data(data.x, y), wrong


def suspicions(client: mfac.Client, model: torch.nn.Module, data: Data, held: Data, seed: int) -> Dict[str, torch.Tensor]:
    """Of each image a number by each way, large for what is suspicious."""
    with torch.no_grad():
        losses = loss_of(model(data.x), data.y, reduction="none")
    with window(client, "example-influence", model, len(data.y)) as run:
        rows = mfac.torch.per_sample_gradients(model, loss_of, data.x, data.y)
        run.publish(1, rows.numpy())
        damping = DAMPING * run.scalars()["trace"]
        own = run.self_influence(damping=damping).left_out
        of_held = torch.autograd.grad(loss_of(model(held.x), held.y), list(model.parameters()))
        on_held = run.scores(torch.cat([g.reshape(-1) for g in of_held]).numpy(), damping=damping).scores
    return {
        "self-influence": torch.from_numpy(own),
        "harm to held-out images": torch.from_numpy(-on_held),
        "gradient norm": rows.norm(dim=1),
        "loss": losses,
        "chance": torch.rand(len(data.y), generator=torch.Generator().manual_seed(seed)),
    }


def main() -> None:
    parser = arguments("Wrong labels among training images, by influence.", "influence.svg", 3)
    parser.add_argument("--images", type=number(100, 8192), default=2_000, help="to train on and to rank (default 2000)")
    args = parser.parse_args()
    both, test = read(folder(args.mnist))
    clean, held = both.part(slice(0, args.images)), both.part(slice(-HELD, None))
    began = time.monotonic()
    found: Dict[str, List[np.ndarray]] = {}
    tested: Dict[str, List[float]] = {}
    with cluster(args.server) as client:
        for seed in range(args.seed, args.seed + args.seeds):
            data, wrong = mislabelled(clean, seed)
            count = int(wrong.sum())

            def train_on(which: str, part: Data, seed: int = seed) -> torch.nn.Module:
                model = fit(network(seed, SIZES), part, EPOCHS, seed).eval()
                tested.setdefault(which, []).append(accuracy(model, test))
                return model

            model = train_on("all images", data)
            train_on("all but the wrong ones", data.part(~wrong))
            for name, values in suspicions(client, model, data, held, seed).items():
                order = values.argsort(descending=True)
                found.setdefault(name, []).append(wrong[order].double().cumsum(0).numpy() / count)
                train_on(f"all but the first {100 * WRONG:g} % by {name}", data.part(order[count:]))
            print(f"seed {seed}, {time.monotonic() - began:.0f} s so far", file=sys.stderr, flush=True)
    n, d = args.images, sum(p.numel() for p in network(0, SIZES).parameters())
    print(f"{d} parameters, {n} images, {int(WRONG * n)} wrong labels, λ = {DAMPING:g} tr F, {args.seeds} seeds from {args.seed}")
    print(f"\n{'wrong labels found, %, in the first':36}" + "".join(f"{f'{100 * s:g} %':>14}" for s in LOOKED_AT))
    for name, recalls in found.items():
        print(f"{name:36}" + "".join(f"{mean_and_spread([100 * r[round(s * n) - 1] for r in recalls], 1):>14}" for s in LOOKED_AT))
    print("\ntest accuracy, %, of training on")
    for name, accuracies in tested.items():
        print(f"{name:48}{mean_and_spread(accuracies):>14}")
    curves = []
    for colour, (name, recalls) in enumerate(found.items()):
        recall = 100 * np.mean(recalls, axis=0)
        curves.append(Curve(name, [(100 * (i + 1) / n, recall[i]) for i in range(n // 4)], colour, name == "chance"))
    plot(args.plot, "wrong labels found, %, over images looked at, %", curves)
    print(f"{args.plot}; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
