"""Pruning by curvature beside pruning by magnitude: at once, and in stages with training between them.

    python prune.py            # a minute and a half on two cores, over a cluster of its own (mfac.local)
    python prune.py --server nats://127.0.0.1:4222

A network is trained on MNIST (common.py says where that is), and gradients of single images are published. Then the weights that
a rule finds least needed become 0. It prints a table and draws it as prune.svg. docs/example-prune.md has the figures.
"""

import contextlib
import copy
import sys
import time
from typing import Dict, Iterator, List, Optional, Set, Tuple

import torch
from torch.nn.utils import prune as torch_prune

import mfac
import mfac.torch
from common import Curve, Data, accuracy, arguments, cluster, fit, folder, loss_of, mean_and_spread, network, number, plot, read, window

SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98)
BY_CURVATURE = ("summed", "joint")
MANY = 8  # steps of one pruning, with the same gradients
RULES = ("magnitude", "diagonal Fisher", *BY_CURVATURE)
DAMPING = 1e-6  # as a share of tr F, the mean squared norm of a gradient
EPOCHS, BETWEEN, RATE = 10, 2, 1e-3  # of the training, and of that after each stage


def parameters(model: torch.nn.Module) -> List[Tuple[torch.nn.Module, str]]:
    return [(layer, name) for layer in model.modules() if isinstance(layer, torch.nn.Linear) for name in ("weight", "bias")]


def masked(model: torch.nn.Module) -> int:
    """How many weights are pruned, all of them 0."""
    masks = [(getattr(layer, name), getattr(layer, name + "_mask", None)) for layer, name in parameters(model)]
    if any(mask is not None and bool((p[mask == 0] != 0).any()) for p, mask in masks):
        raise RuntimeError("a weight that is pruned is not 0")
    return sum(int((mask == 0).sum()) for _, mask in masks if mask is not None)


@contextlib.contextmanager
def gradients(client: mfac.Client, model: torch.nn.Module, images: Data) -> Iterator[mfac.Run]:
    with window(client, "example-prune", model, len(images.y)) as run:
        mfac.torch.publish_examples(model, run, [images], loss_of)
        yield run


def prune(model: torch.nn.Module, rule: str, sparsity: float, images: Data, run: Optional[mfac.Run], steps: int = 1) -> None:
    """Leaves masks, as torch.nn.utils.prune does. run has the gradients of the images, for the rules that need H."""
    if run is not None and rule in BY_CURVATURE:
        mfac.torch.prune(model, run, sparsity, rule=rule, steps=steps, damping=DAMPING * run.scalars()["trace"])
        return
    places = parameters(model)
    scores = {(layer, name): getattr(layer, name).detach().double().square() for layer, name in places}
    if rule == "diagonal Fisher":  # w²F, F the mean square of its gradients
        rows = mfac.torch.per_sample_gradients(model, loss_of, images.x, images.y).double()
        for (place, w), f in zip(scores.items(), rows.square().mean(0).split([s.numel() for s in scores.values()])):
            scores[place] = w * f.view(w.shape)
    d = sum(w.numel() for w in scores.values())
    more = int(round(sparsity * d, 6)) - masked(model)
    torch_prune.global_unstructured(places, torch_prune.L1Unstructured, importance_scores=scores, amount=more)


def at_once(client: mfac.Client, model: torch.nn.Module, train: Data, test: Data, rows: int) -> Dict[str, List[float]]:
    """The accuracy by each rule at each sparsity, each from the network as it was trained."""
    images, got = train.part(slice(0, rows)), {}
    with gradients(client, model, images) as run:
        for name, (rule, steps) in {**{rule: (rule, 1) for rule in RULES}, f"summed, {MANY} steps": ("summed", MANY)}.items():
            models = [copy.deepcopy(model) for _ in SPARSITIES]
            for pruned, sparsity in zip(models, SPARSITIES):
                prune(pruned, rule, sparsity, images, run, steps)
            got[name] = [accuracy(pruned, test) for pruned in models]
    return got


def in_stages(
    client: mfac.Client, model: torch.nn.Module, rule: str, train: Data, test: Data, rows: int, seed: int
) -> Tuple[List[float], int]:
    """The accuracy after each stage and the training that follows it, and how many weights are 0 in the end."""
    images, got, pruned = train.part(slice(0, rows)), [], copy.deepcopy(model)
    for stage, sparsity in enumerate(SPARSITIES):
        with gradients(client, pruned, images) if rule in BY_CURVATURE else contextlib.nullcontext() as run:
            prune(pruned, rule, sparsity, images, run)
        zeros = masked(pruned)
        fit(pruned, train, BETWEEN, 100 * seed + stage, RATE)
        if masked(pruned) != zeros:
            raise RuntimeError("training has changed the masks")
        got.append(accuracy(pruned, test))
    for layer, name in parameters(pruned):
        torch_prune.remove(layer, name)  # the masks: weights are what they are now
    return got, sum(int((p == 0).sum()) for p in pruned.parameters())


def main() -> None:
    parser = arguments("Pruning by curvature beside pruning by magnitude.", "prune.svg", 3)
    parser.add_argument("--images", type=number(100, 60_000), default=10_000, help="to train on (default 10000)")
    parser.add_argument("--window", type=number(1, 4096), default=512, help="images whose gradients are asked (default 512)")
    args = parser.parse_args()
    if args.window > args.images:
        parser.error(f"argument --window: {args.window} is more than the images, {args.images}")
    both, test = read(folder(args.mnist))
    train, began = both.part(slice(0, args.images)), time.monotonic()
    dense: List[float] = []
    once: Dict[str, List[List[float]]] = {}
    staged: Dict[str, List[List[float]]] = {}
    zeros: Set[int] = set()
    with cluster(args.server) as client:
        for seed in range(args.seed, args.seed + args.seeds):
            model = fit(network(seed), train, EPOCHS, seed).eval()
            dense.append(accuracy(model, test))
            for rule, accuracies in at_once(client, model, train, test, args.window).items():
                once.setdefault(rule, []).append(accuracies)
            for rule in RULES:
                accuracies, count = in_stages(client, model, rule, train, test, args.window, seed)
                staged.setdefault(rule, []).append(accuracies)
                zeros.add(count)
            print(f"seed {seed}, {time.monotonic() - began:.0f} s so far", file=sys.stderr, flush=True)
    d = sum(p.numel() for p in network(0).parameters())
    print(f"{d} parameters, {len(train.y)} images, window {args.window}, λ = {DAMPING:g} tr F, {args.seeds} seeds from {args.seed}")
    print(f"test accuracy in %; before pruning {mean_and_spread(dense)}")
    curves = []
    for title, found in (("at once", once), (f"in stages, {BETWEEN} epochs after each", staged)):
        print(f"\n{title:32}" + "".join(f"{f'{100 * s:g} % are 0':>16}" for s in SPARSITIES))
        for colour, (rule, seeds) in enumerate(found.items()):
            columns = list(zip(*seeds))
            print(f"{rule:32}" + "".join(f"{mean_and_spread(c):>16}" for c in columns))
            points = [(1 - s, sum(c) / len(c)) for s, c in zip(SPARSITIES, columns)]
            curves.append(Curve(f"{rule}, {'in stages' if found is staged else 'at once'}", points, colour, found is once))
    print(f"\n{', '.join(map(str, sorted(zeros)))} of {d} weights are 0 after the last training, by each rule")
    plot(
        args.plot, "test accuracy, %, over the share of weights that are left (log)", curves, log_x=True,
        ticks={1 - s: f"{100 * (1 - s):.0f} %" for s in SPARSITIES},
    )  # fmt: skip
    print(f"{args.plot}; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
