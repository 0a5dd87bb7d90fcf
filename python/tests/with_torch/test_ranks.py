"""Data-parallel jobs: two ranks by gloo."""

import multiprocessing
import os
import socket
import traceback
from typing import Any, Callable

import numpy as np
import pytest
import torch

import mfac
import mfac.torch

from .tasks import X, Y, train, weights

Net = Callable[[], torch.nn.Module]
WORLD = 2
STEPS = 10


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def network() -> torch.nn.Module:
    torch.manual_seed(7)
    return torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))


def rank_main(rank: int, url: str, name: str, port: int, averaged: bool, results: Any) -> None:
    import torch.distributed as dist  # noqa: PLC0415

    try:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORLD)
        with mfac.connect(url) as client:
            model = network()
            optimizer = mfac.torch.MFAC(
                model.named_parameters(), 0.02, 0.9, client=client, name=name, window=6, damping=0.01, warmup_rows=3, group=True
            )
            if averaged:  # each rank has half of a mini-batch, and torch averages
                parallel = torch.nn.parallel.DistributedDataParallel(model)
                for i in range(STEPS):
                    optimizer.zero_grad()
                    at = torch.arange(32 * i + 16 * rank, 32 * i + 16 * rank + 16) % len(X)
                    torch.nn.functional.cross_entropy(parallel(X[at]), Y[at]).backward()
                    optimizer.step()
            else:
                train(model, optimizer, range(STEPS))
            results.put((rank, weights(model).numpy()))
    except BaseException:
        results.put((rank, traceback.format_exc()))
    results.close()
    results.join_thread()
    os._exit(0)  # torch 1.13, taking gloo apart, can wait for a thread of gloo's that waits for Python's lock


@pytest.mark.parametrize("averaged", [False, True], ids=["identical gradients", "averaged by torch"])
def test_two_ranks(client: mfac.Client, name: str, averaged: bool) -> None:
    context: Any = multiprocessing.get_context("spawn")
    results, port = context.Queue(), free_port()
    ranks = [context.Process(target=rank_main, args=(r, client.url, name, port, averaged, results)) for r in range(WORLD)]
    for p in ranks:
        p.start()
    got = {}
    try:
        for _ in ranks:
            rank, result = results.get(timeout=120)
            assert isinstance(result, np.ndarray), result  # at once: the other rank waits for this one
            got[rank] = result
        for p in ranks:
            p.join(30)
    finally:
        for p in ranks:
            p.kill()
    assert got[0].tobytes() == got[1].tobytes()
    model = network()
    optimizer = mfac.torch.MFAC(
        model.named_parameters(), 0.02, 0.9, client=client, name=f"{name}-one", window=6, damping=0.01, warmup_rows=3
    )
    train(model, optimizer, range(STEPS))
    if averaged:
        assert np.allclose(got[0], weights(model).numpy(), rtol=1e-5, atol=1e-5)  # the averages differ by a rounding
    else:
        assert got[0].tobytes() == weights(model).numpy().tobytes()
    assert client.join(name).status()["newest"] == STEPS
