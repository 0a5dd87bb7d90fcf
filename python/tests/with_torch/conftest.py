"""A small network, and runs."""

import importlib.util
import re
from typing import Any, Callable, Iterator

import pytest
import torch

import mfac

NEEDED = {"test_lightning.py": ("lightning", "pytorch_lightning"), "test_huggingface.py": ("transformers", "accelerate")}
collect_ignore = [test for test, names in NEEDED.items() if any(importlib.util.find_spec(n) is None for n in names)]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for test in collect_ignore:
        terminalreporter.write_line(f"{test}: left out without {' and '.join(NEEDED[test])}; .ci/run torch runs it")


@pytest.fixture
def name(client: mfac.Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a run of the test's own; those that begin with it are deleted afterwards."""
    n = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-")
    yield n
    for run in client.runs():
        if run.startswith(n):
            client.delete(run)


@pytest.fixture
def net() -> Callable[[], torch.nn.Module]:
    """Networks of 20-16-3, all the same."""

    def made() -> torch.nn.Module:
        torch.manual_seed(7)
        return torch.nn.Sequential(torch.nn.Linear(20, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))

    return made
