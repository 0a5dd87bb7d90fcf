"""A character GPT that M-FAC, SGD and AdamW train on Python's own documentation, the learning rate of each chosen alike.

    python gpt.py              # two minutes on two cores that others use, over a cluster of its own (mfac.local)
    python gpt.py --server nats://127.0.0.1:4222

The text is pydoc_data.topics, what help("for") prints: 465,000 characters of English that come with Python, not quite the same in
each version of it. Of the rates the best on held-out text is taken, by a seed that is not reported. It prints a table and what the model
that M-FAC trained writes, and draws the training losses as gpt.svg. docs/torch.md has the figures.
"""

import argparse
import math
import statistics
import time
from pathlib import Path
from pydoc_data import topics
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

import torch

import mfac
import mfac.torch
from common import Curve, cluster, mean_and_spread, new_file, number, plot

BATCH, WARMUP = 16, 20  # of each trial; the rate grows over the first steps, then falls to 0
WINDOW, DAMPING, STEP_NORM = 128, 1e-3, 0.3
CONTEXT, WIDTH, HEADS, LAYERS = 64, 64, 4, 2
BLOCK = 2_000  # characters: of each ten blocks of text one is held out and one is for the test


class Corpus(NamedTuple):
    characters: str
    train: torch.Tensor  # (n,), numbers of characters
    held: torch.Tensor
    test: torch.Tensor

    def text(self, numbers: torch.Tensor) -> str:
        return "".join(self.characters[int(i)] for i in numbers)


def corpus() -> Corpus:
    whole = "\n".join(topics.topics[name] for name in sorted(topics.topics))
    characters = "".join(sorted(set(whole)))
    number = {c: i for i, c in enumerate(characters)}
    parts: List[List[int]] = [[], [], []]
    for block, at in enumerate(range(0, len(whole), BLOCK)):
        parts[{3: 1, 8: 2}.get(block % 10, 0)] += [number[c] for c in whole[at : at + BLOCK]]
    return Corpus(characters, *(torch.tensor(p) for p in parts))


class Block(torch.nn.Module):
    """Attention to what came before, then two layers at each place; both add to x (batch, places, width)."""

    later: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_layers = torch.nn.LayerNorm(WIDTH), torch.nn.LayerNorm(WIDTH)
        self.queries_keys_values = torch.nn.Linear(WIDTH, 3 * WIDTH)
        self.together = torch.nn.Linear(WIDTH, WIDTH)
        self.layers = torch.nn.Sequential(torch.nn.Linear(WIDTH, 4 * WIDTH), torch.nn.GELU(), torch.nn.Linear(4 * WIDTH, WIDTH))
        self.register_buffer("later", torch.ones(CONTEXT, CONTEXT, dtype=torch.bool).triu(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, places, _ = x.shape
        of = self.queries_keys_values(self.before_attention(x)).view(batch, places, 3, HEADS, WIDTH // HEADS)
        q, k, v = of.permute(2, 0, 3, 1, 4)
        looks = q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
        looks = looks.masked_fill(self.later[:places, :places], -torch.inf).softmax(-1)
        x = x + self.together((looks @ v).transpose(1, 2).reshape(batch, places, WIDTH))
        return x + self.layers(self.before_layers(x))


class GPT(torch.nn.Module):
    def __init__(self, characters: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.character, self.place = torch.nn.Embedding(characters, WIDTH), torch.nn.Embedding(CONTEXT, WIDTH)
        self.blocks = torch.nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.at_end, self.next = torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, characters)
        for p in self.parameters():
            if p.dim() > 1:
                torch.nn.init.normal_(p, std=0.05)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Of each next character the logits (batch, places, characters)."""
        x = self.character(text) + self.place(torch.arange(text.shape[1]))
        return self.next(self.at_end(self.blocks(x)))


def loss_of(model: torch.nn.Module, text: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy, in nats a character, of all but the first of each row of text (batch, places + 1)."""
    return torch.nn.functional.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())


def batches(text: torch.Tensor, size: int, seed: int) -> Iterator[torch.Tensor]:
    """Pieces of the text (size, CONTEXT + 1), at random."""
    order = torch.Generator().manual_seed(seed)
    while True:
        at = torch.randint(len(text) - CONTEXT, (size, 1), generator=order)
        yield text[at + torch.arange(CONTEXT + 1)]


def bits(model: torch.nn.Module, text: torch.Tensor) -> float:
    """Bits a character of all of the text, cut into contexts."""
    rows = text[: len(text) // (CONTEXT + 1) * (CONTEXT + 1)].view(-1, CONTEXT + 1)
    with torch.no_grad():
        return sum(float(loss_of(model, part)) * len(part) for part in rows.split(128)) / len(rows) / math.log(2)


class Trial(NamedTuple):
    model: torch.nn.Module
    losses: List[float]
    seconds: float


def trial(optimizer_of: Callable[[torch.nn.Module], torch.optim.Optimizer], seed: int, text: Corpus, steps: int) -> Trial:
    model = GPT(len(text.characters), seed)
    optimizer = optimizer_of(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, (i + 1) / WARMUP) * (1 + math.cos(math.pi * i / steps)) / 2)
    losses, began = [], time.monotonic()
    for _, batch in zip(range(steps), batches(text.train, BATCH, seed)):
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return Trial(model, losses, time.monotonic() - began)


def contenders(client: mfac.Client) -> Dict[str, Tuple[List[float], Callable[[torch.nn.Module, float], torch.optim.Optimizer]]]:
    """Of each the rates, and how it is made: all else is what bench/python/accuracy.py chose, for each alike."""

    def make_mfac(model: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
        if "example-gpt" in client.runs():  # a trial begins with an empty window
            client.delete("example-gpt")
        return mfac.torch.MFAC(
            model.named_parameters(), lr, momentum=0.8, client=client, name="example-gpt", window=WINDOW, damping=DAMPING,
            max_step_norm=STEP_NORM,
        )  # fmt: skip

    return {
        "M-FAC": ([0.05, 0.1, 0.2, 0.5, 1.0], make_mfac),
        "SGD": ([0.02, 0.05, 0.1, 0.2, 0.5], lambda model, lr: torch.optim.SGD(model.parameters(), lr, momentum=0.83)),
        "AdamW": ([1e-3, 2e-3, 5e-3, 1e-2, 2e-2], lambda model, lr: torch.optim.AdamW(model.parameters(), lr, betas=(0.8, 0.968))),
    }


def written(model: torch.nn.Module, text: Corpus, begin: str, length: int) -> str:
    """What the model writes after begin."""
    order = torch.Generator().manual_seed(0)
    so_far = torch.tensor([[text.characters.index(c) for c in begin]])
    with torch.no_grad():
        for _ in range(length):
            likely = (model(so_far[:, -CONTEXT:])[0, -1] / 0.7).softmax(-1)
            so_far = torch.cat([so_far, torch.multinomial(likely, 1, generator=order)[None]], 1)
    return text.text(so_far[0])


def draw(path: Path, curves: Dict[str, List[float]]) -> None:
    """Losses, averaged over ten steps."""
    smooth = {n: [statistics.fmean(c[max(0, i - 9) : i + 1]) for i in range(len(c))] for n, c in curves.items()}
    lines = [Curve(n, list(enumerate(c)), colour) for colour, (n, c) in enumerate(smooth.items())]
    plot(path, "training loss, nats a character (log), over steps", lines, log_y=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="M-FAC beside SGD and AdamW on a character GPT.")
    parser.add_argument("--server", default="", help="NATS url of a cluster (default: one of its own)")
    parser.add_argument("--steps", type=number(10, 100_000), default=150, help="of each training (default 150)")
    parser.add_argument("--seed", type=number(0, 1 << 31), default=0, help="the first seed (default 0)")
    parser.add_argument("--seeds", type=number(1, 100), default=3, help="how many seeds (default 3)")
    parser.add_argument("--plot", type=new_file, default=Path("gpt.svg"), help="where the plot goes (default gpt.svg)")
    args = parser.parse_args()
    text, began = corpus(), time.monotonic()
    curves: Dict[str, List[float]] = {}
    writer: Any = None
    with cluster(args.server) as client:
        d = sum(p.numel() for p in GPT(len(text.characters), 0).parameters())
        print(f"{d} parameters; each training is {args.steps} steps of {BATCH}·{CONTEXT} characters of {len(text.train)}", flush=True)
        print(f"M-FAC: window {WINDOW}, λ = {DAMPING:g}, steps no longer than {STEP_NORM}")
        print(f"{'':8} {'rate':>7} {'test, bits a character':>24} {'ms a step':>10}", flush=True)
        for name, (rates, make) in contenders(client).items():

            def run(lr: float, seed: int, make: Any = make) -> Trial:
                return trial(lambda model: make(model, lr), seed, text, args.steps)

            held = {lr: bits(run(lr, 1000).model, text.held) for lr in rates}  # by a seed that is not reported
            best = min(rates, key=lambda lr: held[lr] if math.isfinite(held[lr]) else math.inf)
            trials = [run(best, seed) for seed in range(args.seed, args.seed + args.seeds)]
            curves[name] = trials[0].losses
            writer = writer or trials[0].model
            tested = mean_and_spread([bits(t.model, text.test) for t in trials], 3)
            edge = " (the end of its rates)" if best in (rates[0], rates[-1]) else ""
            each = 1000 * statistics.fmean(t.seconds for t in trials) / args.steps
            print(f"{name:8} {best:7g} {tested:>24} {each:10.1f}{edge}", flush=True)
    draw(args.plot, curves)
    print(f"{args.plot}; {time.monotonic() - began:.0f} s\n\nThe model that M-FAC trained writes:\n\n{written(writer, text, 'The ', 400)}")


if __name__ == "__main__":
    main()
