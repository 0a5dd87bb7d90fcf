"""M-FAC's optimizer from the paper's formulas alone, to hold mfac.torch.MFAC against (E. Frantar, E. Kurtic, D. Alistarh, M-FAC:
Efficient Matrix-Free Approximations of Second-Order Information, NeurIPS 2021, section 3.1 and the optimizer of section 4).

With F₀ = λI and Fᵢ = Fᵢ₋₁ + (1/m)gᵢgᵢᵀ the Sherman–Morrison formula gives, for the gradients g₁ … gₙ of the window,

    Fₙ⁻¹x = x/λ − Σᵢ (Fᵢ₋₁⁻¹gᵢ) (Fᵢ₋₁⁻¹gᵢ)ᵀx / (m + gᵢᵀFᵢ₋₁⁻¹gᵢ)

It is written as it stands there, in float64, O(m²d) a step, and shares nothing with the package.
"""

from collections import deque
from typing import Deque, List, Sequence

import torch


def inverse_times(x: torch.Tensor, gradients: Sequence[torch.Tensor], m: int, damping: float) -> torch.Tensor:
    directions: List[torch.Tensor] = []  # Fᵢ₋₁⁻¹gᵢ
    denominators: List[torch.Tensor] = []

    def times(y: torch.Tensor) -> torch.Tensor:
        z = y / damping
        for v, q in zip(directions, denominators):
            z = z - v * (v @ y) / q
        return z

    for g in gradients:
        v = times(g)
        denominators.append(m + g @ v)
        directions.append(v)
    return times(x)


class Reference:
    """w ← w − lr·v, v ← μv + (1 − μ)F⁻¹(g + decay·w), a window of m gradients, the newest included."""

    def __init__(self, w: torch.Tensor, lr: float, momentum: float, decay: float, m: int, damping: float) -> None:
        self.w, self.v = w.double(), torch.zeros_like(w, dtype=torch.float64)
        self.lr, self.momentum, self.decay, self.m, self.damping = lr, momentum, decay, m, damping
        self.window: Deque[torch.Tensor] = deque(maxlen=m)

    def step(self, g: torch.Tensor) -> torch.Tensor:
        g = g.double() + self.decay * self.w
        self.window.append(g)
        self.v = self.momentum * self.v + (1 - self.momentum) * inverse_times(g, list(self.window), self.m, self.damping)
        self.w = self.w - self.lr * self.v
        return self.w
