"""Publishing gradients beside any optimizer."""

import threading
import types
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

import torch

from .._errors import Closed, MFACError, Timeout, invalid
from .._run import Run
from ._feed import Feed
from ._flat import Buffer, Flat, gradient_of


class GradientPublisher:
    """Publishes the gradient of each step of an optimizer, on a thread of its own. Training is the same bit for bit: it
    only reads gradients.

    Args:
        model: its parameters are the run's columns, by the run's layout or in order.
        run: as made by ``client.attach("name", layout=mfac.torch.layout(model), …)``.
        policy: where ``depth`` gradients wait: ``"block"`` waits for one to go, ``"drop"`` leaves this one out, ``"newest"`` the
            oldest one that waits. ``dropped`` counts.
        depth: how many may wait; each takes d float32 of shared memory, and one more is being published.
        wire, patience, timeout: as for MFAC.

    An error of the thread is raised by the next step of the optimizer, before it moves a weight, or by flush or close. Steps
    that a GradScaler skips are not published. The number of a gradient is the step's, counted on from the run's newest one.

    >>> model = torch.nn.Linear(10, 2)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> run = client.attach("beside", layout=mfac.torch.layout(model), window=8)
    >>> with mfac.torch.GradientPublisher(model, run).attach(optimizer) as publisher:
    ...     for _ in range(3):
    ...         optimizer.zero_grad()
    ...         model(torch.ones(4, 10)).square().mean().backward()
    ...         _ = optimizer.step()
    >>> publisher.published, run.status()["rows"]
    (3, 3)
    """

    def __init__(
        self,
        model: torch.nn.Module,
        run: Run,
        *,
        policy: str = "block",
        depth: int = 2,
        wire: Optional[str] = None,
        patience: float = 60.0,
        timeout: Optional[float] = None,
    ) -> None:
        if policy not in ("block", "drop", "newest"):
            raise invalid("policy", policy, "block, drop or newest")
        if not 1 <= depth <= 64:
            raise invalid("depth", depth, "in [1, 64]")
        self.run, self.policy = run, policy
        self.published, self.dropped = 0, 0
        self._flat = Flat.of_model(model, run)
        self._step = int(run.status()["newest"])
        self._feed = Feed(run, self._step, wire=wire, patience=patience, timeout=timeout)
        self._changed = threading.Condition()
        self._free = [Buffer(run._client, self._flat) for _ in range(depth + 1)]
        self._waiting: Deque[Tuple[int, Buffer]] = deque()
        self._held: Optional[Buffer] = None  # what the next gradient is copied to
        self._filled = False  # there is one to send, or to leave out where none is held
        self._busy, self._closed = False, False
        self._error: Optional[BaseException] = None
        self._detach: List[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._work, name="mfac-publisher", daemon=True)
        self._thread.start()

    def __enter__(self) -> "GradientPublisher":
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            self.close()
        except MFACError:
            if kind is None:  # else what ended the block is the error
                raise

    def attach(self, optimizer: torch.optim.Optimizer) -> "GradientPublisher":
        """Publishes at each step of optimizer from now on. A step with a closure is published as the closure's last call
        left the gradients."""
        if self._closed:
            raise Closed("the publisher is closed")

        def before(of: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> Optional[Tuple[Tuple[Any, ...], Dict[str, Any]]]:
            self._raise()
            self._filled = False
            closure = kwargs.get("closure") or next((a for a in args if callable(a)), None)
            if closure is None:
                self.push(of)
                return None

            def copied() -> Any:  # here, since a step may change gradients in place
                loss = closure()
                self._fill(of)
                return loss

            swapped = {k: copied if v is closure else v for k, v in kwargs.items()}
            return tuple(copied if a is closure else a for a in args), swapped

        def after(of: Any, args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> None:
            self._send()

        if hasattr(optimizer, "register_step_pre_hook"):
            hooks = [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)]
            self._detach += [h.remove for h in hooks]
        else:  # torch before 2.0
            self._detach.append(_wrap(optimizer, before, after))
        return self

    def skip_to(self, step: int) -> None:
        """Numbers are above step from now on, for those that count steps elsewhere.

        Args:
            step: of which the next number is one more, or more yet.

        >>> model = torch.nn.Linear(10, 2)
        >>> run = client.attach("skipped", layout=mfac.torch.layout(model), window=8)
        >>> model(torch.ones(4, 10)).square().mean().backward()
        >>> with mfac.torch.GradientPublisher(model, run) as publisher:
        ...     publisher.skip_to(41)
        ...     publisher.push()
        >>> run.steps().steps
        array([42], dtype=uint64)
        """
        self._step = max(self._step, step)

    def push(self, optimizer: Optional[torch.optim.Optimizer] = None) -> None:
        """Publishes the gradients that the parameters have now, by itself: for loops that no optimizer steps.

        Args:
            optimizer: one with a GradScaler's ``found_inf`` or ``grad_scale``: what these say is done.

        Raises:
            MFACError: the publisher is closed.

        >>> model = torch.nn.Linear(10, 2)
        >>> run = client.attach("pushed", layout=mfac.torch.layout(model), window=8)
        >>> model(torch.ones(4, 10)).square().mean().backward()
        >>> publisher = mfac.torch.GradientPublisher(model, run)
        >>> publisher.push()
        >>> publisher.flush(timeout=10)
        >>> publisher.close()
        >>> run.status()["rows"]
        1
        """
        self._fill(optimizer)
        self._send()

    def _fill(self, optimizer: Optional[torch.optim.Optimizer]) -> None:
        """Copies the gradients to the buffer that is sent next."""
        self._filled = False
        found_inf = getattr(optimizer, "found_inf", None)
        if found_inf is not None and float(found_inf):  # a fused optimizer that a GradScaler tells to skip
            return
        gradients = [gradient_of(p) for p in self._flat.params]
        if all(g is None for g in gradients):
            return
        scale = getattr(optimizer, "grad_scale", None)
        if scale is not None:
            gradients = [None if g is None else (g.to_dense() if g.is_sparse else g) / scale.to(g.device) for g in gradients]
        if self._held is None:
            self._held = self._taken()
        if self._held is not None:
            self._held.fresh().fill(gradients)
        self._filled = True

    def _send(self) -> None:
        if not self._filled:
            return
        self._step += 1
        with self._changed:
            if self._held is None:
                self.dropped += 1
            else:
                self._waiting.append((self._step, self._held))
                self._changed.notify_all()
        self._held, self._filled = None, False

    def _taken(self) -> Optional[Buffer]:
        """A buffer to fill, or None where this gradient is to be left out."""
        with self._changed:
            if self.policy == "block":
                self._changed.wait_for(lambda: self._free or self._closed)
            if self._closed:
                raise Closed("the publisher is closed")
            if self._free:
                return self._free.pop()
            if self.policy == "drop":
                return None
            self.dropped += 1
            return self._waiting.popleft()[1]

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                step, buffer = self._waiting.popleft()
                self._busy = True
            error: Optional[BaseException] = None
            try:
                self._feed.put(buffer.array, step)
            except BaseException as e:  # it is raised where the program waits for it
                error = e
            with self._changed:
                self._busy = False
                self._free.append(buffer)
                if error is None:
                    self.published += 1
                else:
                    self._error = self._error or error
                self._changed.notify_all()

    def _raise(self) -> None:
        with self._changed:
            error, self._error = self._error, None
        if error is not None:
            raise error

    def flush(self, timeout: Optional[float] = None) -> None:
        """Returns when all gradients are published: ``push`` has an example.

        Args:
            timeout: seconds; without one, as long as it takes.

        Raises:
            Timeout: they are not after so many seconds.
            MFACError: the first error since the last one that was raised.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout):
                raise Timeout(f"{len(self._waiting)} gradients wait to be published after {timeout} s")
        self._raise()

    def close(self, timeout: Optional[float] = None) -> None:
        """Lets go of the optimizers, publishes what waits, and ends the thread. What is not published in time is left out. The end of a
        ``with`` does it; ``push`` has an example.

        Args:
            timeout: seconds; without one, as long as it takes.

        Raises:
            Timeout, MFACError: as flush does. The publisher is closed all the same.
        """
        for detach in self._detach:
            detach()
        self._detach.clear()
        try:
            self.flush(timeout)
        finally:
            with self._changed:
                self._closed = True
                self.dropped += len(self._waiting)
                self._waiting.clear()
                self._changed.notify_all()
            if not self._busy:
                self._thread.join()


def _wrap(optimizer: Any, before: Callable[..., Any], after: Callable[..., None]) -> Callable[[], None]:
    """Hooks for a torch that has none. What learning rate schedulers look for at a step is there."""
    inner, own = optimizer.step, "step" in vars(optimizer)
    live = [True]

    def step(self: Any, *args: Any, **kwargs: Any) -> Any:
        if live[0]:
            args, kwargs = before(self, args, kwargs) or (args, kwargs)
        result = inner(*args, **kwargs)
        if live[0]:
            after(self, args, kwargs)
        return result

    step.__dict__.update(getattr(getattr(inner, "__func__", inner), "__dict__", {}))
    optimizer.step = types.MethodType(step, optimizer)
    mine = optimizer.step

    def detach() -> None:
        live[0] = False
        if vars(optimizer).get("step") is mine:  # nobody has wrapped it since
            if own:
                optimizer.step = inner
            else:
                del optimizer.step

    return detach
