"""The time of an epoch is measured, and the cost of a job orders jobs."""

from __future__ import annotations

import pytest

from mdfa_core import Experiment
from mdfa_core.runs.timing import seconds_an_epoch


@pytest.mark.parametrize("batch_size", [32, 100, 200], ids=["many steps", "two steps", "one step"])
def test_an_epoch_takes_time_however_few_its_mini_batches(batch_size: int) -> None:
    assert seconds_an_epoch(Experiment(network="fc:8", batch_size=batch_size, epochs=1), device="cpu") > 0
