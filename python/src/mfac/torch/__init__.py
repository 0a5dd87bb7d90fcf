"""PyTorch: an optimizer, and what a training loop feeds and asks (docs/torch.md). It needs torch 1.13 or later.

``mfac.torch.lightning`` and ``mfac.torch.huggingface`` have callbacks for the Trainers of these; neither is imported here.

>>> import torch, mfac.torch
>>> model = torch.nn.Linear(10, 2)
>>> optimizer = mfac.torch.MFAC(model.named_parameters(), lr=0.1, momentum=0.9, client=client, name="linear", window=32, damping=1e-3)
>>> loss = model(torch.ones(4, 10)).square().mean()
>>> loss.backward()
>>> optimizer.step()                # w ← w − lr·v, v ← μv + (1 − μ)H⁻¹g
>>> optimizer.run.status()["rows"]
1
"""

from ._errors import WindowLost
from ._flat import layout
from ._influence import ExampleScores, influence, per_sample_gradients, publish_examples
from ._optim import MFAC
from ._prune import prune
from ._publisher import GradientPublisher

__all__ = [
    "MFAC", "ExampleScores", "GradientPublisher", "WindowLost", "influence", "layout", "per_sample_gradients", "prune", "publish_examples",
]  # fmt: skip
