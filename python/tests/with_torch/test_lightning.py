"""In Lightning's loop: publishing beside its optimizer, and MFAC as its optimizer."""

import contextlib
import importlib
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

import lightning.pytorch
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import mfac
import mfac.torch
from mfac.torch.lightning import PublishGradients

from .tasks import X, Y, weights
from .test_ranks import free_port

pytestmark = [
    pytest.mark.usefixtures("lightning_modules"),
    pytest.mark.filterwarnings(
        "ignore:The '[a-z]+_dataloader' does not have many workers",
        "ignore:You defined a `validation_step` but have no `val_dataloader`",
        "ignore:Checkpoint directory .* exists and is not empty",
        "ignore:You're resuming from a checkpoint that ended before the epoch ended",
        "ignore:`isinstance.treespec, LeafSpec",
    ),
]

BATCHES = 8  # of 32, an epoch
STEPS = 8  # in two epochs, two batches each
CLIP = 0.5
Made = Callable[[Any], torch.optim.Optimizer]


def sgd(model: Any) -> torch.optim.Optimizer:
    """Its step changes gradients in place."""
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, foreach=True)


def network() -> torch.nn.Module:
    torch.manual_seed(7)
    return torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(16, 3))


def module(made: Made = sgd, at: str = "lightning.pytorch", fail: Optional[int] = None) -> Any:
    """A LightningModule. It raises at its batch number fail."""

    class Module(importlib.import_module(at).LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = network()
            self.batches = 0
            self.losses: List[float] = []

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            if self.batches == fail:
                raise ZeroDivisionError("in the midst")
            self.batches += 1
            loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            self.losses.append(float(loss.detach()))
            return loss

        def validation_step(self, batch: Any, _: int) -> None:
            self.net(batch[0])

        def configure_optimizers(self) -> Any:
            optimizer = made(self)
            return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]

    return Module()


def trainer(*callbacks: Any, at: str = "lightning.pytorch", **options: Any) -> Any:
    few = {
        "max_epochs": 2, "accumulate_grad_batches": 2, "gradient_clip_val": CLIP, "accelerator": "cpu", "devices": 1, "logger": False,
        "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 1,
    }  # fmt: skip
    return importlib.import_module(at).Trainer(callbacks=list(callbacks), **{**few, **options})


def batches(of: Iterable[int] = range(BATCHES)) -> Any:
    examples = [i for b in of for i in range(32 * b, 32 * b + 32)]
    # A generator of its own, else it draws from the one that dropout draws from.
    return DataLoader(TensorDataset(X[examples], Y[examples]), batch_size=32, generator=torch.Generator())


def attached(client: mfac.Client, name: str, model: torch.nn.Module) -> mfac.Run:
    return client.attach(name, layout=mfac.torch.layout(model), window=32, damping=0.1)


def threads() -> int:
    return sum(t.name == "mfac-publisher" for t in threading.enumerate())


def by_hand() -> Tuple[torch.Tensor, List[torch.Tensor]]:
    """The weights and the gradients of the same training, without Lightning."""
    model, gradients = network(), []
    optimizer = sgd(model)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    torch.manual_seed(3)
    for _ in range(2):
        for i in range(BATCHES):
            at = slice(32 * i, 32 * i + 32)
            (torch.nn.functional.cross_entropy(model(X[at]), Y[at]) / 2).backward()
            if i % 2:
                torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
                gradients.append(torch.cat([p.grad.reshape(-1).clone() for p in model.parameters() if p.grad is not None]))
                optimizer.step()
                optimizer.zero_grad()
        schedule.step()
    return weights(model), gradients


@pytest.mark.parametrize("at", ["lightning.pytorch", "pytorch_lightning"])
def test_training_is_the_same(client: mfac.Client, name: str, at: str) -> None:
    """As by hand, bit for bit: two batches a step, clipped, two epochs with validation between."""

    class Seeded(importlib.import_module(at).Callback):  # type: ignore[misc]
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            torch.manual_seed(3)

    model = module(at=at)
    run = attached(client, name, model)
    publish = PublishGradients(run, depth=64)
    of = trainer(publish, Seeded(), at=at)
    of.fit(model, batches(), batches())
    w, gradients = by_hand()
    assert max(float(g.norm()) for g in gradients) <= CLIP * 1.0001
    assert weights(model).numpy().tobytes() == w.numpy().tobytes()
    assert run.steps().steps.tolist() == list(range(1, STEPS + 1))
    for step, g in enumerate(gradients, 1):
        assert run.gradient(step).tobytes() == g.numpy().tobytes()
    assert (publish.published, publish.dropped, publish.publisher, threads()) == (STEPS, 0, None, 0)

    of.validate(model, batches(), verbose=False)
    assert run.status()["rows"] == STEPS
    plain = module(at=at)
    trainer(Seeded(), at=at).fit(plain, batches(), batches())
    assert weights(plain).numpy().tobytes() == w.numpy().tobytes()


def test_an_exception_in_the_midst(client: mfac.Client, name: str) -> None:
    model = module(fail=5)
    run = attached(client, name, model)
    publish = PublishGradients(run)
    with pytest.raises(ZeroDivisionError):
        trainer(publish).fit(model, batches())
    assert (run.steps().steps.tolist(), publish.published, threads()) == ([1, 2], 2, 0)
    model.batches = 6
    trainer(publish, max_epochs=1).fit(model, batches())  # with the same callback: numbers count on
    assert (run.steps().steps.tolist(), publish.published, threads()) == ([1, 2, 3, 4, 5, 6], 6, 0)


def test_errors_surface(client: mfac.Client, name: str) -> None:
    class Deletes(lightning.pytorch.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == self.at:
                assert publish.publisher is not None
                publish.publisher.flush()
                client.delete(name)
                self.at = -1

        at = 2

    model = module()
    publish = PublishGradients(attached(client, name, model))
    of = trainer(publish, Deletes())
    with pytest.raises(mfac.UnknownRun):
        of.fit(model, batches())
    assert of.global_step < STEPS and threads() == 0

    model = module()
    publish = PublishGradients(attached(client, name, model))
    last = Deletes()
    last.at = STEPS
    with pytest.raises(mfac.UnknownRun):  # at the end of fit, if no step follows
        of = trainer(publish, last, max_steps=STEPS + 1, max_epochs=-1)
        of.fit(model, batches())
    assert of.global_step == STEPS + 1 and threads() == 0


def test_resume(client: mfac.Client, name: str, tmp_path: Path) -> None:
    """Numbers are those of the Trainer's steps, also in a run that is new; in one that has gone on, they count on."""
    saved = tmp_path / "half.ckpt"
    model = module()
    run = attached(client, name, model)
    half = trainer(PublishGradients(run), max_epochs=1)
    half.fit(model, batches())
    half.save_checkpoint(saved)
    for n, steps in ((name, [1, 2, 3, 4, 5, 6, 7, 8]), (f"{name}-new", [5, 6, 7, 8]), (name, [*range(1, 13)])):
        model = module()
        run = attached(client, n, model)
        trainer(PublishGradients(run)).fit(model, batches(), ckpt_path=saved)
        assert run.steps().steps.tolist() == steps


class Scaler:
    """What torch.amp.GradScaler does on a CPU, where torch is too old for one; the second step is one to skip."""

    scales = 0

    def scale(self, loss: torch.Tensor) -> torch.Tensor:
        self.scales += 1
        return loss * (float("inf") if self.scales == 2 else 1024.0)

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [p.grad.mul_(1 / 1024) for p in optimizer.param_groups[0]["params"]]
        self.skips = not all(bool(torch.isfinite(g).all()) for g in gradients)

    def step(self, optimizer: torch.optim.Optimizer) -> Any:
        return None if self.skips else optimizer.step()

    def update(self) -> None:
        pass


def scaler() -> Any:
    if not hasattr(torch.amp, "GradScaler"):
        return Scaler()

    class Skips(torch.amp.GradScaler):
        scales = 0

        def scale(self, loss: Any) -> Any:
            self.scales += 1
            return super().scale(loss * (float("inf") if self.scales == 2 else 1.0))

    return Skips("cpu", init_scale=1024.0)


class Precision(lightning.pytorch.plugins.MixedPrecision):
    def autocast_context_manager(self) -> Any:  # not to float16, which an old torch has none of on a CPU
        return contextlib.nullcontext()


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_scaler_skips(client: mfac.Client, name: str) -> None:
    """Such a step is not published, and gradients are unscaled."""
    seen: List[torch.Tensor] = []

    class Sees(lightning.pytorch.Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            seen.append(torch.cat([p.grad.reshape(-1).clone() for p in pl_module.parameters()]))

    model = module()
    run = attached(client, name, model)
    amp = Precision("16-mixed", "cpu", scaler())
    options: Dict[str, Any] = {
        "plugins": [amp],
        "max_epochs": 1,
        "accumulate_grad_batches": 1,
        "gradient_clip_val": None,
        "limit_train_batches": 4,
    }
    trainer(PublishGradients(run), Sees(), **options).fit(model, batches())
    assert not bool(torch.isfinite(seen[1]).all())
    kept = [g for g in seen if bool(torch.isfinite(g).all())]
    assert run.steps().steps.tolist() == [1, 3, 4] and len(kept) == 3
    for step, g in zip((1, 3, 4), kept):
        assert run.gradient(step).tobytes() == g.numpy().tobytes()


def test_optimization_by_hand(client: mfac.Client, name: str) -> None:
    """automatic_optimization = False: one optimizer is published, several are refused."""

    class Manual(lightning.pytorch.LightningModule):
        automatic_optimization = False

        def __init__(self, optimizers: int) -> None:
            super().__init__()
            self.net, self.many = network(), optimizers

        def training_step(self, batch: Any, _: int) -> None:
            optimizer: Any = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1]))
            optimizer.step()

        def configure_optimizers(self) -> Any:
            return [sgd(self.net) for _ in range(self.many)]

    options: Dict[str, Any] = {"max_epochs": 1, "accumulate_grad_batches": 1, "gradient_clip_val": None}
    model = Manual(1)
    run = attached(client, name, model)
    trainer(PublishGradients(run), **options).fit(model, batches())
    assert run.status()["rows"] == BATCHES
    with pytest.raises(mfac.Invalid, match="number of optimizers is 2, must be 1") as e:
        trainer(PublishGradients(run), **options).fit(Manual(2), batches())
    assert e.value.field == "number of optimizers"


def test_strategies(client: mfac.Client, name: str) -> None:
    model: Any = module()
    run = attached(client, name, model)
    strategies = lightning.pytorch.strategies
    publish = PublishGradients(run)
    for strategy in (strategies.FSDPStrategy, strategies.DeepSpeedStrategy):
        of = SimpleNamespace(optimizers=[sgd(model)], strategy=object.__new__(strategy))
        with pytest.raises(mfac.Invalid, match=f"strategy is {strategy.__name__}"):
            publish.on_train_start(of, model)
    other = SimpleNamespace(optimizers=[sgd(model)], strategy=object.__new__(strategies.DDPStrategy), is_global_zero=False)
    publish.on_train_start(other, model)
    assert publish.publisher is None  # the first process publishes


PARALLEL = """
import os
import sys
import lightning.pytorch, torch
import mfac, mfac.torch
from mfac.torch.lightning import PublishGradients

torch.set_num_threads(1)
if torch.__version__.startswith("1."):  # see lightning_modules in conftest.py
    lightning.pytorch.LightningModule._register_sharded_tensor_state_dict_hooks_if_available = lambda _: None
from tests.with_torch.test_lightning import attached, batches, module, optimizer, sgd, trainer

url, name, rank, weights = sys.argv[1:]
options = dict(devices=2, strategy="ddp", use_distributed_sampler=False, accumulate_grad_batches=1, max_epochs=1)
with mfac.connect(url) as client:
    publish = PublishGradients(attached(client, name, module()))
    trained = []
    for made, callbacks in ((sgd, [publish]), (optimizer(client, name + "-mfac", group=True), [])):
        model = module(made)
        model.net[2].p = 0.0
        trainer(*callbacks, **options).fit(model, batches(range(int(rank), 8, 2)))
        trained.append(model.net.state_dict())
    torch.save([publish.published, *trained], weights)
os._exit(0)  # as in test_ranks.py
"""


def test_two_processes(client: mfac.Client, name: str, script: Callable[..., Any], tmp_path: Path) -> None:
    """Data-parallel: the averaged gradients are published, by the first; and MFAC is the optimizer of both."""
    env = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "GLOO_SOCKET_IFNAME": "lo"}
    env.update(TORCHELASTIC_RUN_ID="1", GROUP_RANK="0", PYTHONWARNINGS="ignore")
    files = [tmp_path / f"{rank}.pt" for rank in range(2)]
    ranks = [script(PARALLEL, client.url, name, r, files[r], RANK=str(r), LOCAL_RANK=str(r), **env) for r in range(2)]
    try:
        for process in ranks:
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
    finally:
        for process in ranks:
            process.kill()
    (published, *firsts), (none, *seconds) = (torch.load(f) for f in files)
    assert (published, none) == (BATCHES // 2, 0)
    run = client.join(name)
    assert run.status()["rows"] == BATCHES // 2
    for made, first, second in zip((sgd, optimizer(client, f"{name}-hand")), firsts, seconds):
        model: Any = network()
        model[2].p = 0.0
        of = made(model)
        for i in range(BATCHES // 2):
            at = slice(64 * i, 64 * i + 64)  # each process has one of the two batches
            of.zero_grad()
            torch.nn.functional.cross_entropy(model(X[at]), Y[at]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            if made is sgd:
                g = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
                assert torch.allclose(torch.from_numpy(run.gradient(i + 1)), g, rtol=1e-4, atol=1e-6)  # averaged in float32
            of.step()
        for key, w in model.state_dict().items():
            assert first[key].numpy().tobytes() == second[key].numpy().tobytes()
            assert torch.allclose(first[key], w, rtol=1e-4, atol=1e-5)


def optimizer(client: mfac.Client, name: str, **options: Any) -> Made:
    return lambda model: mfac.torch.MFAC(
        model.named_parameters(), 0.05, 0.9, client=client, name=name, window=16, damping=0.01, warmup_rows=2, **options
    )


def fitted(client: mfac.Client, name: str, epochs: int, folder: Path, resume: Optional[int] = None, **options: Any) -> Any:
    """The module, after so many epochs, from the checkpoint after resume epochs if that is given."""
    model = module(optimizer(client, name, **options))
    model.net[2].p = 0.0
    of = trainer(max_epochs=epochs, gradient_clip_val=None)
    of.fit(model, batches(), ckpt_path=None if resume is None else folder / f"{name}-{resume}.ckpt")
    of.save_checkpoint(folder / f"{name}-{epochs}.ckpt")
    return model


def test_mfac_as_optimizer(client: mfac.Client, name: str, tmp_path: Path) -> None:
    """Its loss falls; stopped, and gone on from Lightning's checkpoint, it trains as if it had never stopped."""
    whole = fitted(client, f"{name}-whole", 4, tmp_path)
    assert sum(whole.losses[-BATCHES:]) < 0.8 * sum(whole.losses[:BATCHES])
    fitted(client, name, 2, tmp_path)
    resumed = fitted(client, name, 4, tmp_path, resume=2)
    assert weights(resumed).numpy().tobytes() == weights(whole).numpy().tobytes()
    with pytest.raises(mfac.torch.WindowLost, match="has 16 gradients already"):
        fitted(client, name, 4, tmp_path)
    with pytest.raises(mfac.torch.WindowLost, match="the state is of 8 gradients"):
        fitted(client, name, 4, tmp_path, resume=2)


def test_mfac_puts_its_window_back(client: mfac.Client, name: str, tmp_path: Path) -> None:
    """From a checkpoint of Lightning's that is not the last step."""
    fitted(client, name, 2, tmp_path, save_window=True)
    fitted(client, name, 4, tmp_path, resume=2, save_window=True)
    again = fitted(client, name, 4, tmp_path, resume=2, save_window=True)
    whole = fitted(client, f"{name}-whole", 4, tmp_path)
    assert torch.allclose(weights(again), weights(whole), rtol=1e-4, atol=1e-5)  # rows in other slots


def test_without_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said; one of the two packages suffices."""
    for at in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.delitem(sys.modules, "mfac.torch.lightning")
        monkeypatch.setitem(sys.modules, at, None)
        if at == "pytorch_lightning":
            with pytest.raises(ImportError, match="pip install lightning, or pytorch-lightning"):
                importlib.import_module("mfac.torch.lightning")
        else:
            one = importlib.import_module("mfac.torch.lightning").PublishGradients
            assert not issubclass(one, lightning.pytorch.Callback)
            assert issubclass(one, sys.modules["pytorch_lightning"].Callback)  # type: ignore[attr-defined,unused-ignore]
