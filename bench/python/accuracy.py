"""M-FAC beside SGD and AdamW on three small tasks: equal steps, an equal number of trials to choose settings by, five seeds.

    python3 bench/python/accuracy.py [--out FOLDER] [--tasks mnist,autoencoder,gpt] [--times]

Needs the package with torch (pip install './python[torch]'). Each trial is a line of FOLDER/trials.jsonl as soon as it is done, and is not
done again: a run that is cut goes on where it was. At the end accuracy.json, accuracy.md and a plot of each task are written there.
--variants adds what was chosen with one thing changed: VARIANTS below. --times only measures steps at the chosen settings.

The protocol, which is the same for all tasks and optimizers:

  - Steps, batches, initial weights and schedule (a linear warm-up over 20 steps, then a cosine to 0) are the same for all optimizers.
  - Settings are chosen by the measure on held-out data of one training each, by seed 1000, which is not reported. First 3 × 3
    trials: the learning rate and a second number, each at a centre and a factor below and above it. Then the 8 around the best of
    these, at the square roots of the factors. Then three more, named below, at the best of all: 20 trials for each optimizer.
  - The five seeds 0 … 4 are trained with what was chosen, and measured on the test data. All numbers are mean ± standard deviation.
"""

import argparse
import functools
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import torch

import mfac
import mfac.torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python" / "examples"))
import common
import gpt
from common import Curve, plot

SEEDS, CHOOSING = range(5), 1000
WARMUP, AVERAGED = 20, 20  # steps
WINDOW, STEP_NORM = 128, 0.3  # of M-FAC, all tasks
VARIANTS: List[Tuple[str, str, Dict[str, float], int]] = [  # optimizer, what differs, settings, times the steps
    ("M-FAC", "no limit of the step", {"max_step_norm": 0}, 1),
    ("M-FAC", "μ 0.9", {"momentum": 0.9}, 1),
    ("M-FAC", "m 32", {"window": 32}, 1),
    ("AdamW", "β₁ 0.9", {"beta1": 0.9}, 1),
    ("AdamW", "four times the steps", {}, 4),
]
NAMES = {
    "damping": "λ",
    "momentum": "μ",
    "window": "m",
    "1 - momentum": "1 - μ",
    "beta1": "β₁",
    "1 - beta2": "1 - β₂",
    "clip": "gradients cut to",
}
TRAIN, HELD = 20_000, 5_000  # images
CODE = (196, 100, 50, 25, 10, 25, 50, 100, 196)

Settings = Dict[str, float]


class Problem(NamedTuple):
    """A training: the model, the loss of its next batch, and the measure on held-out and test data."""

    model: torch.nn.Module
    loss: Callable[[], torch.Tensor]
    held: Callable[[], float]
    test: Callable[[], float]


class Task(NamedTuple):
    title: str
    measure: str
    more: bool  # is better
    steps: int
    start: Callable[[int], Problem]


class Images(NamedTuple):
    train: common.Data
    held: common.Data
    test: common.Data


def images(folder: str) -> Images:
    both, test = common.read(common.folder(folder))
    order = torch.randperm(len(both.y), generator=torch.Generator().manual_seed(0))
    return Images(both.part(order[:TRAIN]), both.part(order[TRAIN : TRAIN + HELD]), test)


def picked(n: int, size: int, seed: int) -> Callable[[], torch.Tensor]:
    order = torch.Generator().manual_seed(seed)
    return lambda: torch.randint(n, (size,), generator=order)


def classifier(data: Images, seed: int) -> Problem:
    model, batch = common.network(seed), picked(TRAIN, 250, seed)

    def loss() -> torch.Tensor:
        part = data.train.part(batch())
        return torch.nn.functional.cross_entropy(model(part.x), part.y)

    return Problem(model, loss, lambda: common.accuracy(model, data.held), lambda: common.accuracy(model, data.test))


def autoencoder(data: Images, seed: int) -> Problem:
    """Of images of 14×14, four pixels averaged to one; tanh between layers, but the code is linear."""
    torch.manual_seed(seed)
    layers: List[torch.nn.Module] = []
    for a, b in zip(CODE, CODE[1:]):
        linear = torch.nn.Linear(a, b)
        torch.nn.init.xavier_normal_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
        layers.append(linear)
        if b not in (CODE[-1], min(CODE)):
            layers.append(torch.nn.Tanh())
    model = torch.nn.Sequential(*layers)
    train, held, test = (torch.nn.functional.avg_pool2d(part.x.view(-1, 1, 28, 28), 2).flatten(1) for part in data)
    batch = picked(TRAIN, 250, seed)

    def loss() -> torch.Tensor:
        x = train[batch()]
        return torch.nn.functional.binary_cross_entropy_with_logits(model(x), x, reduction="sum") / len(x)

    def error(x: torch.Tensor) -> float:
        with torch.no_grad():
            return float((model(x).sigmoid() - x).square().sum(1).mean())

    return Problem(model, loss, lambda: error(held), lambda: error(test))


def characters(text: gpt.Corpus, seed: int) -> Problem:
    model, batches = gpt.GPT(len(text.characters), seed), gpt.batches(text.train, 16, seed)
    return Problem(model, lambda: gpt.loss_of(model, next(batches)), lambda: gpt.bits(model, text.held), lambda: gpt.bits(model, text.test))


class Optimizer(NamedTuple):
    make: Callable[[torch.nn.Module, Settings], torch.optim.Optimizer]
    fixed: Settings
    rate: Tuple[float, float]  # centre and factor
    second: Tuple[str, float, float]
    more: List[Settings]  # the last trials: these in place of what was best before


def optimizers(client: mfac.Client) -> Dict[str, Optimizer]:
    def m_fac(model: torch.nn.Module, s: Settings) -> torch.optim.Optimizer:
        if "accuracy" in client.runs():  # a trial begins with an empty window
            client.delete("accuracy")
        return mfac.torch.MFAC(
            model.named_parameters(), s["lr"], momentum=s["momentum"], client=client, name="accuracy", window=int(s["window"]),
            damping=s["damping"], max_step_norm=s["max_step_norm"] or None,
        )  # fmt: skip

    def sgd(model: torch.nn.Module, s: Settings) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), s["lr"], momentum=1 - s["1 - momentum"], nesterov=bool(s["nesterov"]))

    def adamw(model: torch.nn.Module, s: Settings) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), s["lr"], betas=(s["beta1"], 1 - s["1 - beta2"]), weight_decay=s["weight_decay"])

    return {
        "M-FAC": Optimizer(
            m_fac,
            {"window": WINDOW, "max_step_norm": STEP_NORM, "momentum": 0.9},
            (0.05, 5),
            ("damping", 3e-3, 10),
            [{"momentum": 0.8}, {"momentum": 0.6}, {"momentum": 0.4}],
        ),
        "SGD": Optimizer(
            sgd,
            {"nesterov": 0, "clip": 0},
            (0.1, 5),
            ("1 - momentum", 0.1, 3),
            [{"nesterov": 1}, {"clip": 1}, {"clip": 0.3}],
        ),
        "AdamW": Optimizer(
            adamw,
            {"beta1": 0.9, "weight_decay": 0.01, "clip": 0},
            (0.01, 5),
            ("1 - beta2", 0.01, 10),
            [{"beta1": 0.8}, {"beta1": 0.6}, {"clip": 1}],
        ),
    }


def trained(problem: Problem, optimizer: torch.optim.Optimizer, clip: float, steps: int, of: int) -> Optional[List[float]]:
    """The losses of the first steps, of a schedule of so many; None if they left the finite numbers."""
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, (i + 1) / WARMUP) * (1 + math.cos(math.pi * i / of)) / 2)
    losses = []
    for _ in range(steps):
        loss = problem.loss()
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            return None
        if clip:
            torch.nn.utils.clip_grad_norm_(problem.model.parameters(), clip)
        try:
            optimizer.step()
        except (mfac.NotFinite, mfac.IllConditioned):
            return None
        schedule.step()
    return losses


class Trials:
    """What was trained already, in a file."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path, self.until = path, time.monotonic() + seconds
        self.done: Dict[str, Dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                record = json.loads(line)
                self.done[json.dumps(record["trial"])] = record

    def of(self, name: str, task: Task, which: str, optimizer: Optimizer, settings: Settings, seed: int) -> Dict[str, Any]:
        key = {"task": name, "steps": task.steps, "optimizer": which, "settings": settings, "seed": seed}
        if json.dumps(key) not in self.done:
            if time.monotonic() > self.until:
                raise SystemExit("cut by --seconds: run it again to go on")
            problem, began = task.start(seed), time.monotonic()
            losses = trained(problem, optimizer.make(problem.model, settings), settings.get("clip", 0), task.steps, task.steps)
            record: Dict[str, Any] = {"trial": key, "held": None, "test": None, "loss": None}
            if losses is not None and math.isfinite(problem.held()):
                record.update(held=problem.held(), test=problem.test(), loss=statistics.fmean(losses[-AVERAGED:]))
                record["curve"] = [round(statistics.fmean(losses[i : i + 10]), 5) for i in range(0, len(losses), 10)]
            self.done[json.dumps(key)] = record
            with self.path.open("a") as f:
                f.write(json.dumps(record) + "\n")
            print(f"{name} {which} seed {seed} {settings}: held out {record['held']}, {time.monotonic() - began:.1f} s", flush=True)
        return self.done[json.dumps(key)]


def rounded(x: float, digits: int = 2) -> float:
    return float(f"{x:.{digits}g}")


def chosen(name: str, task: Task, which: str, optimizer: Optimizer, trials: Trials) -> Tuple[Settings, int]:
    """The best settings on held-out data, and of how many."""
    tried: List[Tuple[float, Settings]] = []

    def attempt(settings: Settings) -> None:
        held = trials.of(name, task, which, optimizer, settings, CHOOSING)["held"]
        if settings not in [s for _, s in tried]:
            tried.append((-math.inf if held is None else held if task.more else -held, settings))

    def best() -> Settings:
        return max(tried, key=lambda t: t[0])[1]

    def around(rate: float, second: float, power: float) -> None:
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                lr, other = rounded(rate * optimizer.rate[1] ** (power * i)), rounded(second * optimizer.second[2] ** (power * j))
                attempt({**optimizer.fixed, "lr": lr, optimizer.second[0]: other})

    around(optimizer.rate[0], optimizer.second[1], 1)
    around(best()["lr"], best()[optimizer.second[0]], 0.5)
    base = best()
    for more in optimizer.more:
        attempt({**base, **more})
    return best(), len(tried)


def spread(values: List[float], digits: int = 3) -> str:
    return f"{statistics.fmean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def milliseconds(task: Task, optimizers: Dict[str, Optimizer], settings: Dict[str, Settings]) -> Dict[str, float]:
    """The median time of a step with a full window, of fifteen goes of each in turn."""
    going: Dict[str, Callable[[], Any]] = {}
    for which, optimizer in optimizers.items():
        problem = task.start(0)
        go = functools.partial(trained, problem, optimizer.make(problem.model, settings[which]), settings[which].get("clip", 0))
        go(WINDOW + 2, task.steps)
        going[which] = functools.partial(go, 10, task.steps)
    times: Dict[str, List[float]] = {which: [] for which in going}
    for _ in range(15):
        for which, ten in going.items():
            began = time.monotonic()
            ten()
            times[which].append(100 * (time.monotonic() - began))
    return {which: statistics.median(t) for which, t in times.items()}


def told(settings: Settings) -> str:
    """Settings as the table has them: what is off is left out."""
    shown = {}
    for key, value in settings.items():
        name = NAMES.get(key, key)
        if name.startswith("1 - "):
            shown[name[4:]] = rounded(1 - value, 4)
        elif value:
            shown[name] = value
    return ", ".join(f"{name} {value:g}" for name, value in shown.items())


def row(which: str, settings: Settings, of: List[Dict[str, Any]], more: bool) -> str:
    tests, losses = [t["test"] for t in of], [t["loss"] for t in of]
    if None in tests:
        return f"| {which} | {told(settings)} | left the finite numbers | | |"
    return f"| {which} | {told(settings)} | {spread(tests)} | {(min if more else max)(tests):.3f} | {spread(losses)} |"


def draw(path: Path, task: Task, curves: Dict[str, List[List[float]]]) -> None:
    """Training losses, each the mean of ten steps and of the seeds."""
    lines = []
    for colour, (which, of) in enumerate(curves.items()):
        lines.append(Curve(which, [(10 * i + 5, statistics.fmean(c[i] for c in of)) for i in range(len(of[0]))], colour))
    plot(path, f"{task.title}: training loss (log) over steps, mean of {len(SEEDS)} seeds", lines, log_y=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="M-FAC beside SGD and AdamW on three small tasks.")
    parser.add_argument("--out", type=Path, default=Path("accuracy"), help="folder of trials and results (default accuracy)")
    parser.add_argument("--tasks", default="mnist,autoencoder,gpt", help="which, and in which order")
    parser.add_argument("--mnist", default="", help="folder of MNIST's four files")
    parser.add_argument("--variants", action="store_true", help="train what was chosen with one thing changed, too")
    parser.add_argument("--steps", type=common.number(1, 1_000_000), help="of each training (default: each task's own)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="end with the first trial that is done after so many")
    parser.add_argument("--times", action="store_true", help="measure steps at the chosen settings")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data, text = images(args.mnist), gpt.corpus()
    tasks = {
        "mnist": Task("MNIST, 784-40-20-10", "test accuracy, %", True, args.steps or 200, lambda seed: classifier(data, seed)),
        "autoencoder": Task("deep autoencoder", "squared error an image", False, args.steps or 1000, lambda seed: autoencoder(data, seed)),
        "gpt": Task("character GPT", "bits a character", False, args.steps or 300, lambda seed: characters(text, seed)),
    }
    names = args.tasks.split(",")
    for name in names:
        if name not in tasks:
            parser.error(f"argument --tasks: {name} is none of {', '.join(tasks)}")
    args.out.mkdir(parents=True, exist_ok=True)
    trials = Trials(args.out / "trials.jsonl", args.seconds)
    results: Dict[str, Any] = {"torch": torch.__version__, "python": sys.version.split()[0], "tasks": {}}
    lines: List[str] = []
    with mfac.local(workers=1, memory="1GiB") as client:
        contenders = optimizers(client)
        for name in names:
            task, rows = tasks[name], {}
            d = sum(p.numel() for p in task.start(0).model.parameters())
            picks = {which: chosen(name, task, which, optimizer, trials) for which, optimizer in contenders.items()}
            if args.times:
                for which, ms in milliseconds(task, contenders, {which: settings for which, (settings, _) in picks.items()}).items():
                    print(f"{name} {which}: {ms:.1f} ms a step", flush=True)
                continue
            lines += ["", f"{task.title}: {d:,} parameters, {task.steps} steps", ""]
            lines += [f"| | chosen | {task.measure} | worst | training loss |", "|---|---|---|---|---|"]
            curves = {}
            for which, (settings, count) in picks.items():
                of = [trials.of(name, task, which, contenders[which], settings, seed) for seed in SEEDS]
                lines.append(row(which, settings, of, task.more))
                rows[which] = {"settings": settings, "trials": count, "test": [t["test"] for t in of], "loss": [t["loss"] for t in of]}
                if all("curve" in t for t in of):
                    curves[which] = [t["curve"] for t in of]
            for which, label, change, times in VARIANTS if args.variants else ():
                settings, longer = {**picks[which][0], **change}, task._replace(steps=times * task.steps)
                if (settings, times) == (picks[which][0], 1):
                    continue
                of = [trials.of(name, longer, which, contenders[which], settings, seed) for seed in SEEDS]
                lines.append(row(f"{which}, {label}", settings, of, task.more))
                rows[f"{which}, {label}"] = {"settings": settings, "test": [t["test"] for t in of], "loss": [t["loss"] for t in of]}
            results["tasks"][name] = {"parameters": d, "steps": task.steps, "measure": task.measure, "optimizers": rows}
            draw(args.out / f"accuracy-{name}.svg", task, curves)
    if not args.times:
        (args.out / "accuracy.json").write_text(json.dumps(results, indent=1) + "\n")
        (args.out / "accuracy.md").write_text("\n".join(lines[1:]) + "\n")
        print("\n".join(lines))


if __name__ == "__main__":
    main()
