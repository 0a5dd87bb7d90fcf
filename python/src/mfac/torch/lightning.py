"""A callback for Lightning (docs/torch.md). It needs lightning or pytorch-lightning, 2.2 or later; Trainers of both take it.

>>> import torch, lightning, mfac.torch
>>> from mfac.torch.lightning import PublishGradients
>>> class Line(lightning.LightningModule):
...     def __init__(self):
...         super().__init__()
...         self.layer = torch.nn.Linear(10, 1)
...
...     def training_step(self, batch, i):
...         return self.layer(batch).square().mean()
...
...     def configure_optimizers(self):
...         return torch.optim.SGD(self.parameters(), lr=0.1)
>>> model = Line()
>>> run = client.attach("line", layout=mfac.torch.layout(model), window=8)
>>> trainer = lightning.Trainer(max_epochs=1, callbacks=[PublishGradients(run)], accelerator="cpu", barebones=True)
>>> trainer.fit(model, torch.ones(4, 10))  # batches are what the loader yields: rows
>>> run.status()["rows"]
4
"""

import importlib
from typing import TYPE_CHECKING, Any, List

from .._errors import invalid
from ._callback import Publishing

__all__ = ["PublishGradients"]


def _base() -> type:
    """What callbacks derive from: of both packages where there are both, for each wants its own."""
    found: List[type] = []
    why = None
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            found.append(importlib.import_module(name).Callback)
        except ImportError as e:
            why = why or e
    if not found:
        raise ImportError("mfac.torch.lightning needs Lightning: pip install lightning, or pytorch-lightning") from why
    return type("Callback", tuple(found), {})


if TYPE_CHECKING:
    from lightning.pytorch import Callback
else:
    Callback = _base()


class PublishGradients(Publishing, Callback):
    """Publishes the gradient of each optimizer step of ``Trainer.fit``: accumulated, unscaled and clipped, as the optimizer gets it.
    Training is the same bit for bit. A step that a GradScaler skips is not published.

    Args:
        run: as made by ``client.attach("name", layout=mfac.torch.layout(model), …)``, model the LightningModule.
        options: policy, depth, wire, patience and timeout of GradientPublisher.

    The number of a gradient is its step's of the Trainer, from 1, or counts on from the run's newest one if that is higher. What waits is
    published at the end of fit, and after an exception too. An error of publishing is raised by the next step or at the end of fit.
    With DDP the first process publishes. ``published`` and ``dropped`` count.

    Raises (in fit):
        Invalid: there are several optimizers, or the strategy cuts parameters into parts, or the run is of another model.
    """

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if len(trainer.optimizers) != 1:
            raise invalid("number of optimizers", len(trainer.optimizers), "1; of several, attach a GradientPublisher to each")
        strategies = [c.__name__ for c in type(trainer.strategy).__mro__]
        if "DeepSpeedStrategy" in strategies or not {"SingleDeviceStrategy", "DDPStrategy"} & set(strategies):
            raise invalid("strategy", strategies[0], "SingleDeviceStrategy or DDPStrategy: others cut parameters into parts")
        if trainer.is_global_zero:
            self._begin(pl_module, trainer.optimizers[0])

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self._before(trainer.global_step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._end(failed=True)
