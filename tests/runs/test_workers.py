"""A job knows its steps."""

from __future__ import annotations

import pytest

from mdfa_core import Experiment, Run
from mdfa_core.runs.workers import Job

SMALL = Experiment(network="fc:8", epochs=2)


@pytest.mark.parametrize("drop_last", [True, False])
def test_a_job_knows_its_steps(drop_last: bool) -> None:
    experiment = SMALL.replace(drop_last=drop_last, batch_size=50, epochs=3)

    assert Job(experiments=(experiment,)).steps() == Run(experiment, device="cpu").steps
