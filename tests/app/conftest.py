"""What the app's tests share: waiting with a bound, and no trace left in the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from mdfa_app.trainer.messages import Phase
from tests.app.visits import Visit
from tests.support.patience import PATIENCE


def wait_until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"{what} did not happen within {patience:g} seconds")
        time.sleep(0.01)


def trainers() -> int:
    """Training threads alive in this process."""
    return sum(thread.name == "trainer" for thread in threading.enumerate())


@pytest.fixture(name="wait_until", scope="session")
def _wait_until() -> Callable[..., None]:
    return wait_until


@pytest.fixture(name="trainers", scope="session")
def _trainers() -> Callable[[], int]:
    return trainers


@pytest.fixture(autouse=True)
def _no_trace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A trainer sets torch's threads for its server; other tests keep theirs. Nothing is downloaded."""
    monkeypatch.setenv("MDFA_MIRROR", "http://127.0.0.1:9")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def visit(wait_until: Callable[..., None]) -> Iterator[Visit]:
    """A page that compares mDFA alone, ready to train."""
    made = Visit(wait_until)
    made.until_phase(Phase.IDLE)
    yield made
    made.close()


@pytest.fixture(scope="module")
def resting(wait_until: Callable[..., None]) -> Iterator[Visit]:
    """Such a page that the tests of a module share; they do not train on it."""
    made = Visit(wait_until)
    made.until_phase(Phase.IDLE)
    yield made
    made.close()
