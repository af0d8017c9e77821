"""Settings that failed: training that ends within two points of chance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mdfa_core.studies.paper.failures import at_chance, failed_tasks
from mdfa_core.studies.paper.published import CELLS
from tests.studies.reports.made_up import record_of

TWO, TEN = CELLS["table-1/fc/tanh/fa/2"], CELLS["table-3/fc/tanh/fa/10"]


@pytest.mark.parametrize(
    ("name", "train", "failed"),
    [
        (TWO.name, 0.519, True),
        (TWO.name, 0.481, True),
        (TWO.name, 0.521, False),
        (TEN.name, 0.119, True),
        (TEN.name, 0.5, False),
    ],
)
def test_the_last_epoch_decides(name: str, train: float, failed: bool) -> None:
    run = record_of(CELLS[name], 0, 0.9, 0.9)
    fallen = replace(run, curve=(*run.curve[:-1], replace(run.curve[-1], train_accuracy=train)))

    assert at_chance(fallen) is failed
    assert fallen.best_train_accuracy == 0.9


def test_a_run_that_diverged_in_its_first_epoch_failed() -> None:
    runs = [record_of(TWO, task, None if task == 3 else 0.9, None) for task in range(5)]

    assert failed_tasks(runs) == (3,)
