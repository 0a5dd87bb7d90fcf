"""In the loop of transformers.Trainer: publishing beside its optimizer, and MFAC as its optimizer."""

import importlib
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator, List, Optional

import pytest
import torch
import transformers

import mfac
import mfac.torch
from mfac.torch.huggingface import PublishGradients

from .tasks import weights

transformers.utils.logging.disable_progress_bar()

STEPS = 8  # of four sequences, twice: two epochs
IDS = torch.randint(0, 16, (64, 1), generator=torch.Generator().manual_seed(1)) + torch.arange(8) * 3  # counting in threes
IDS %= 16
DATA = [{"input_ids": ids, "labels": ids} for ids in IDS]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums so small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def gpt2(dropout: float = 0.1) -> Any:
    torch.manual_seed(7)
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=16, n_positions=8, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
            resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout,
        )
    )  # fmt: skip


def trainer(model: Any, folder: Path, *callbacks: Any, optimizer: Any = None, **options: Any) -> Any:
    few = {
        "output_dir": str(folder), "num_train_epochs": 2, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2, "max_grad_norm": 0.5, "report_to": [], "disable_tqdm": True, "save_strategy": "no", "use_cpu": True,
        "logging_steps": 1, "dataloader_pin_memory": False,
    }  # fmt: skip
    args = transformers.TrainingArguments(**{**few, **options})
    of = transformers.Trainer(model, args, train_dataset=DATA, callbacks=list(callbacks), optimizers=(optimizer, None))
    of.remove_callback(transformers.trainer_callback.PrinterCallback)
    return of


def attached(client: mfac.Client, name: str, model: torch.nn.Module) -> mfac.Run:
    return client.attach(name, layout=mfac.torch.layout(model), window=32, damping=0.1)


def threads() -> int:
    return sum(t.name == "mfac-publisher" for t in threading.enumerate())


def gradient(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.reshape(-1).clone() for p in model.parameters()])


class Sees(transformers.TrainerCallback):  # type: ignore[misc,unused-ignore]
    """The gradients that the optimizer gets, by transformers' own event."""

    def __init__(self) -> None:
        self.gradients: List[torch.Tensor] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.gradients.append(gradient(model))


class Raises(transformers.TrainerCallback):  # type: ignore[misc,unused-ignore]
    """After the step of that number, once."""

    def __init__(self, step: Optional[int]) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            self.step = None
            raise ZeroDivisionError("in the midst")


def test_training_is_the_same(client: mfac.Client, name: str, tmp_path: Path) -> None:
    """Bit for bit, with dropout; and what is published is what the optimizer gets: of two batches, clipped, in two epochs."""
    model, sees = gpt2(), Sees()
    run = attached(client, name, model)
    publish = PublishGradients(run, depth=64)
    of = trainer(model, tmp_path, publish, sees)
    of.train()
    assert run.steps().steps.tolist() == list(range(1, STEPS + 1))
    for step, g in enumerate(sees.gradients, 1):
        assert float(g.norm()) <= 0.5001
        assert run.gradient(step).tobytes() == g.numpy().tobytes()
    assert (publish.published, publish.dropped, publish.publisher, threads()) == (STEPS, 0, None, 0)
    of.evaluate(DATA[:8])
    assert run.status()["rows"] == STEPS
    plain = gpt2()
    trainer(plain, tmp_path).train()
    assert weights(model).numpy().tobytes() == weights(plain).numpy().tobytes()


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_gradients_by_hand(client: mfac.Client, name: str, tmp_path: Path, clip: float) -> None:
    """autograd's own."""
    model = gpt2(dropout=0.0)
    run = attached(client, name, model)
    options = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 1, "max_grad_norm": clip, "max_steps": 1}
    of = trainer(model, tmp_path, PublishGradients(run), **options)
    labels = IDS[:16].clone()
    labels[:, 0] = -100  # predicted from nothing: the model leaves it out, newer Trainers count it
    of.train_dataset = [{"input_ids": ids, "labels": to} for ids, to in zip(IDS[:16], labels)]
    of.train()
    hand = gpt2(dropout=0.0)
    hand(input_ids=IDS[:16], labels=labels).loss.backward()
    if clip:
        assert float(torch.nn.utils.clip_grad_norm_(hand.parameters(), clip)) > clip
    got = torch.from_numpy(run.gradient(1))
    assert float((got - gradient(hand)).norm() / got.norm()) < 1e-5  # the sixteen are summed in another order, in float32


def test_an_exception_in_the_midst(client: mfac.Client, name: str, tmp_path: Path) -> None:
    model = gpt2()
    run = attached(client, name, model)
    publish = PublishGradients(run)
    of = trainer(model, tmp_path, publish, Raises(3))
    with pytest.raises(ZeroDivisionError), publish:
        of.train()
    assert (run.steps().steps.tolist(), publish.published, publish.publisher, threads()) == ([1, 2, 3], 3, None, 0)
    of.add_callback(Raises(2))
    of.remove_callback(Raises)
    of.callback_handler.callbacks[-1].step = 2
    with pytest.raises(ZeroDivisionError):
        of.train()
    assert threads() == 1  # nobody has told the callback
    of.train()  # ends it, and numbers count on
    assert run.steps().steps.tolist() == list(range(1, 3 + 2 + STEPS + 1))
    assert (publish.published, publish.publisher, threads()) == (3 + 2 + STEPS, None, 0)


def test_errors_surface(client: mfac.Client, name: str, tmp_path: Path) -> None:
    class Deletes(transformers.TrainerCallback):  # type: ignore[misc,unused-ignore]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == STEPS - 1:
                assert publish.publisher is not None
                publish.publisher.flush()
                client.delete(name)

    model = gpt2()
    publish = PublishGradients(attached(client, name, model))
    with pytest.raises(mfac.UnknownRun), publish:
        trainer(model, tmp_path, publish, Deletes()).train()
    assert publish.published == STEPS - 1 and threads() == 0
    other = client.attach(name, dim=10, window=4)
    with pytest.raises(mfac.Invalid, match="number of parameters"):
        trainer(model, tmp_path, PublishGradients(other)).train()


def test_resume(client: mfac.Client, name: str, tmp_path: Path) -> None:
    """Numbers are those of the Trainer's steps, also in a run that is new; in one that has gone on, they count on."""
    model = gpt2()
    run = attached(client, name, model)
    trainer(model, tmp_path, PublishGradients(run), save_strategy="steps", save_steps=4).train()
    for n, steps in ((f"{name}-new", [5, 6, 7, 8]), (name, [*range(1, 13)])):
        again = gpt2()
        run = attached(client, n, again)
        trainer(again, tmp_path, PublishGradients(run)).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
        assert run.steps().steps.tolist() == steps
        assert weights(again).numpy().tobytes() == weights(model).numpy().tobytes()


def test_what_is_refused(client: mfac.Client, name: str) -> None:
    """Before a loop begins: parameters in parts, and a scaler where the optimizer has no hooks."""
    model = gpt2()
    publish = PublishGradients(attached(client, name, model))
    state = SimpleNamespace(global_step=0, is_world_process_zero=False)

    def begin(kind: str, scaler: Any = None) -> None:
        inner = torch.optim.SGD(model.parameters(), lr=0.1)
        distributed = SimpleNamespace(distributed_type=SimpleNamespace(value=kind))
        wrapped = SimpleNamespace(optimizer=inner, scaler=scaler, accelerator_state=distributed)
        publish.on_train_begin(None, state, None, model=model, optimizer=wrapped)

    for kind in ("FSDP", "DEEPSPEED"):
        with pytest.raises(mfac.Invalid, match=f"distributed_type is {kind}"):
            begin(kind)
    begin("MULTI_CPU")
    assert publish.publisher is None  # another process publishes
    if hasattr(torch.optim.Optimizer, "register_step_pre_hook"):
        begin("NO", scaler=object())
    else:
        with pytest.raises(mfac.Invalid, match=r"must be ≥ 2\.0 with fp16"):
            begin("NO", scaler=object())


def fitted(client: mfac.Client, name: str, folder: Path, steps: int, resume: Optional[int] = None, **options: Any) -> Any:
    """The trainer, which has a checkpoint at step 4 and at the last."""
    model = gpt2(dropout=0.0)
    optimizer = mfac.torch.MFAC(
        model.named_parameters(), 0.1, 0.9, client=client, name=name, window=16, damping=1e-2, warmup_rows=2, max_step_norm=0.5,
        **options,
    )  # fmt: skip
    of = trainer(
        model, folder / name, optimizer=optimizer, max_steps=steps, max_grad_norm=0.0, lr_scheduler_type="constant",
        save_strategy="steps", save_steps=4,
    )  # fmt: skip
    of.train(resume_from_checkpoint=None if resume is None else str(folder / name / f"checkpoint-{resume}"))
    return of


def test_mfac_as_optimizer(client: mfac.Client, name: str, tmp_path: Path) -> None:
    """Its loss falls; stopped, and gone on from transformers' checkpoint, it trains as if it had never stopped."""
    whole = fitted(client, f"{name}-whole", tmp_path, 12)
    losses = [e["loss"] for e in whole.state.log_history if "loss" in e]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    fitted(client, name, tmp_path, 4)
    resumed = fitted(client, name, tmp_path, 12, resume=4)
    assert weights(resumed.model).numpy().tobytes() == weights(whole.model).numpy().tobytes()
    with pytest.raises(mfac.torch.WindowLost, match="has 12 gradients already"):  # accelerate's round trip accepts no window
        fitted(client, name, tmp_path, 12)
    with pytest.raises(mfac.torch.WindowLost, match="the state is of 4 gradients"):
        fitted(client, name, tmp_path, 12, resume=4)


def test_mfac_puts_its_window_back(client: mfac.Client, name: str, tmp_path: Path) -> None:
    """From a checkpoint that is not the last step's."""
    whole = fitted(client, name, tmp_path, 12, save_window=True)
    again = fitted(client, name, tmp_path, 12, resume=4, save_window=True)
    assert torch.allclose(weights(again.model), weights(whole.model), rtol=1e-3, atol=1e-4)  # rows in other slots


def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mfac.torch.huggingface")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="pip install transformers accelerate"):
        importlib.import_module("mfac.torch.huggingface")
