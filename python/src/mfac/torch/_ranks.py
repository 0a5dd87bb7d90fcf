"""Data-parallel jobs: each rank has columns of the averaged gradient, and gets those of the result."""

from typing import Any, Tuple

import torch
import torch.distributed as dist

from .._errors import invalid


class Ranks:
    """Which columns are this rank's: rank r of W has those from ⌊rd/W⌋ to ⌊(r+1)d/W⌋."""

    def __init__(self, group: Any, dim: int) -> None:
        self.group: Any = None if group is True else group
        self.rank, self.world = dist.get_rank(self.group), dist.get_world_size(self.group)
        if dim < self.world:
            raise invalid("number of parameters", dim, f"≥ {self.world}, the number of ranks")
        self.dim = dim
        self.lo, self.hi = self.span(self.rank)

    def span(self, rank: int) -> Tuple[int, int]:
        return rank * self.dim // self.world, (rank + 1) * self.dim // self.world

    def gather(self, full: torch.Tensor) -> None:
        """Fills the columns of the others in full (d,), whose own are there."""
        most = -(-self.dim // self.world)
        mine = torch.zeros(most, dtype=full.dtype)
        mine[: self.hi - self.lo] = full[self.lo : self.hi]
        nccl = dist.get_backend(self.group) == "nccl"
        if nccl:
            mine = mine.cuda()
        parts = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(parts, mine, group=self.group)
        for rank, part in enumerate(parts):
            lo, hi = self.span(rank)
            full[lo:hi] = part[: hi - lo]
