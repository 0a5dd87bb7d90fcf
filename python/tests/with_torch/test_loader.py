"""A DataLoader whose workers ask the cluster."""

from typing import Any, Tuple

import numpy as np
import pytest
import torch

import mfac


class Preconditioned(torch.utils.data.Dataset):
    """H⁻¹v of vectors v, each worked out where it is loaded."""

    def __init__(self, run: mfac.Run, vectors: Any) -> None:
        self.run, self.vectors = run, vectors

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, i: int) -> Tuple[int, Any]:
        return i, self.run.ihvp(self.vectors[i])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # threads of ours hold no lock that a child takes
@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_workers_of_a_loader(run: mfac.Run, how: str) -> None:
    vectors = np.random.default_rng(5).normal(size=(24, run.dim))
    loader: Any = torch.utils.data.DataLoader(Preconditioned(run, vectors), batch_size=4, num_workers=2, multiprocessing_context=how)
    want = np.stack([run.ihvp(v) for v in vectors])
    for _ in range(2):  # with new workers each time
        seen = 0
        for at, x in loader:
            assert np.array_equal(x.numpy(), want[at.numpy()])
            assert (run.ihvp(vectors[0]) == want[0]).all()  # meanwhile
            seen += len(at)
        assert seen == 24
