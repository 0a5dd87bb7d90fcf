"""A callback for transformers.Trainer (docs/torch.md). It needs transformers 4.46 or later, with accelerate.

>>> import tempfile, torch, transformers, mfac.torch
>>> from mfac.torch.huggingface import PublishGradients
>>> config = transformers.GPT2Config(vocab_size=16, n_positions=8, n_embd=8, n_layer=1, n_head=2)
>>> model = transformers.GPT2LMHeadModel(config)
>>> run = client.attach("gpt2", layout=mfac.torch.layout(model), window=8)
>>> ids = torch.arange(8)
>>> data = [{"input_ids": ids, "labels": ids}] * 32
>>> with tempfile.TemporaryDirectory() as folder, PublishGradients(run) as publish:
...     args = transformers.TrainingArguments(folder, max_steps=4, report_to=[], disable_tqdm=True, save_strategy="no", use_cpu=True)
...     _ = transformers.Trainer(model, args, train_dataset=data, callbacks=[publish]).train()  # doctest: +ELLIPSIS
{'train_runtime'...
>>> run.status()["rows"]
4
"""

from typing import Any

import torch

from .._errors import invalid
from ._callback import Publishing

try:
    from transformers import TrainerCallback
except ImportError as e:
    raise ImportError("mfac.torch.huggingface needs transformers: pip install transformers accelerate") from e

__all__ = ["PublishGradients"]


class PublishGradients(Publishing, TrainerCallback):
    """Publishes the gradient of each optimizer step of ``Trainer.train``: accumulated, unscaled and clipped (max_grad_norm is 1.0 by
    default), as the optimizer gets it. Training is the same bit for bit. A step that a GradScaler skips is not published.

    Args:
        run: as made by ``client.attach("name", layout=mfac.torch.layout(model), …)``.
        options: policy, depth, wire, patience and timeout of GradientPublisher.

    The number of a gradient is its step's of the Trainer, from 1, or counts on from the run's newest one if that is higher. What waits is
    published at the end of train. An error of publishing is raised by the next step or at the end of train. Of an exception Trainer
    tells no callback: a with block around ``train``, or the next ``train``, ends what it left. With several processes the first one
    publishes. ``published`` and ``dropped`` count.

    Raises (in train):
        Invalid: parameters are cut into parts (FSDP, DeepSpeed), or the run is of another model.
    """

    def __enter__(self) -> "PublishGradients":
        return self

    def __exit__(self, kind: Any, error: Any, _: object) -> None:
        self._end(failed=error is not None)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **_: Any) -> None:
        self._end(failed=True)  # what an exception left
        kind = str(optimizer.accelerator_state.distributed_type.value)
        if kind != "NO" and not kind.startswith("MULTI_"):
            raise invalid("distributed_type", kind, "NO or MULTI_…: others cut parameters into parts")
        if optimizer.scaler is not None and not hasattr(torch.optim.Optimizer, "register_step_pre_hook"):
            raise invalid("torch", torch.__version__, "≥ 2.0 with fp16: before it, accelerate's scaler goes past what publishes")
        if state.is_world_process_zero:
            inner = optimizer
            while hasattr(inner, "accelerator_state"):  # accelerate's wrapper decides when the optimizer steps
                inner = inner.optimizer
            self._begin(model, inner)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._before(state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._end()
