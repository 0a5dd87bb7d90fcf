"""What the callbacks of training frameworks have in common."""

from typing import Any, Optional

import torch

from .._errors import MFACError
from .._run import Run
from ._publisher import GradientPublisher


class Publishing:
    """A GradientPublisher for each training. published and dropped count over all of them."""

    def __init__(self, run: Run, **options: Any) -> None:
        self.run, self.options = run, options
        self.publisher: Optional[GradientPublisher] = None
        self.published, self.dropped = 0, 0

    def _begin(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.publisher = GradientPublisher(model, self.run, **self.options).attach(optimizer)

    def _before(self, steps: int) -> None:
        """Of the optimizer's step that follows, so many having been made."""
        if self.publisher is not None:
            self.publisher.skip_to(steps)

    def _end(self, failed: bool = False) -> None:
        """Publishes what waits. Raises what went wrong with it, unless the training has failed of something already."""
        publisher, self.publisher = self.publisher, None
        if publisher is None:
            return
        try:
            publisher.close()
        except MFACError:
            if not failed:
                raise
        finally:
            self.published += publisher.published
            self.dropped += publisher.dropped
