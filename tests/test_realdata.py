"""Learning on CIFAR-100: the paper's mDFA result on one task, and that every rival learns."""

from __future__ import annotations

from typing import Any

import pytest

from mdfa_core import Experiment, train
from mdfa_core.training.events import Evaluated, Finished, Started

pytestmark = [pytest.mark.realdata, pytest.mark.slow, pytest.mark.timeout(900)]

TASK = Experiment(data="cifar100", network="cifar-fc", activation="tanh", seed=0)


def test_mdfa_learns_all_training_images_of_two_classes() -> None:
    """Section 4 with plain SGD: 100 % training accuracy, reached here within 200 epochs."""
    experiment = TASK.replace(
        method="mdfa", forward_init="normal:0.1", feedback_init="normal:1", learning_rate=0.01, epochs=200
    )
    best = 0.0
    for event in train(experiment, device="cpu"):
        assert not isinstance(event, Finished), f"only {best:.2%} after 200 epochs"
        if isinstance(event, Started):
            assert (event.train_examples, event.validation_examples, event.test_examples) == ((850,), (150,), (200,))
        if isinstance(event, Evaluated):
            best = max(best, event.train_accuracy[0])
            if best == 1.0:
                assert event.validation_accuracy[0] is not None
                assert event.validation_accuracy[0] > 0.7  # and not by heart alone
                return


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "bp", "forward_init": "uniform:1", "learning_rate": 0.1},
        {"method": "fa", "forward_init": "zeros", "optimizer": "rmsprop", "learning_rate": 1e-3},
        {"method": "dfa", "forward_init": "zeros", "optimizer": "rmsprop", "learning_rate": 1e-3},
        {"method": "mdfa", "forward_init": "zeros", "learning_rate": 0.03},
    ],
    ids=lambda settings: settings["method"],
)
def test_every_method_learns_in_a_few_epochs(settings: dict[str, Any]) -> None:
    *_, finished = train(TASK.replace(epochs=15, **settings), device="cpu")

    assert isinstance(finished, Finished)
    for accuracy in (finished.best_train_accuracy[0], finished.best_validation_accuracy[0], finished.test_accuracy[0]):
        assert accuracy is not None
        assert accuracy > 0.65
