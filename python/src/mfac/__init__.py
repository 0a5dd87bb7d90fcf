"""Inverse-Hessian-vector products of a stream of gradients.

>>> import numpy as np, mfac
>>> d, step, rng = 1000, 1, np.random.default_rng(0)
>>> with mfac.local(workers=3) as client:              # or mfac.connect("nats://127.0.0.1:4222")
...     run = client.attach("demo", dim=d, window=64, damping=1e-4)
...     commit = run.publish(step, rng.normal(size=(8, d)))   # (d,), or (k, d) for the steps step … step + k − 1
...     x = run.ihvp(rng.normal(size=d))                # H⁻¹v: (d,) → (d,), (k, d) → (k, d)
>>> commit.rows, x.shape
(8, (1000,))

H = GᵀG/N + λI is the damped empirical Fisher matrix of the last m gradients G that were published. docs/python.md is the
guide; each method says its shapes, units and errors.
"""

from ._answers import Answer, Block, Commit, Influence, Likelihoods, Pairs, Scalars, Scores, SelfInfluence, Spectrum, Tuning, Window
from ._client import TLS, Client, connect, local
from ._errors import (
    AgentDied,
    AgentNotStarted,
    Behind,
    Busy,
    Cancelled,
    Closed,
    Denied,
    Exists,
    Frozen,
    IllConditioned,
    Invalid,
    MFACError,
    NotFinite,
    NotGrowing,
    Overflow,
    Timeout,
    TooFewRows,
    TooLarge,
    Unavailable,
    UnknownRun,
    UnknownStep,
    VersionGone,
    VersionMismatch,
)
from ._link import Phase
from ._run import Run
from ._version import __version__

__all__ = [
    "TLS", "AgentDied", "AgentNotStarted", "Answer", "Behind", "Block", "Busy", "Cancelled", "Client", "Closed", "Commit", "Denied",
    "Exists", "Frozen", "IllConditioned", "Influence", "Invalid", "Likelihoods", "MFACError", "NotFinite", "NotGrowing",
    "Overflow", "Pairs", "Phase", "Run", "Scalars", "Scores", "SelfInfluence", "Spectrum", "Timeout", "TooFewRows", "TooLarge", "Tuning",
    "Unavailable", "UnknownRun", "UnknownStep", "VersionGone", "VersionMismatch", "Window", "__version__", "connect", "local",
]  # fmt: skip

for _name in __all__:  # as they are called, in messages too; doctest looks for those with methods where they are
    if isinstance(globals()[_name], type) and _name not in ("Client", "Run", "Answer"):
        globals()[_name].__module__ = "mfac"
del _name
