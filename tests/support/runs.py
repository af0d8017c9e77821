"""Small runs for tests: experiments, the events of a run as lists or lines, and images that show their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from mdfa_core import METHODS, Every, Experiment, train
from mdfa_core.data import ArrayDataSet
from mdfa_core.training.events import (
    Event,
    Started,
    to_dict,
    to_json,
)
from tests.support.references import DIRECT

NETS = {"fc": "fc:8,6", "conv": "conv:3/3/1,4/3/2"}
CASES = [(method, net) for method in METHODS for net in NETS.values() if net == NETS["conv"] or method in DIRECT]
"""Every rule in a convolutional net, and the paper's rules in a dense one, too: a run treats their weights alike."""

SMALL = Experiment(network="fc:8", epochs=2)
"""Three mini-batches in an epoch."""

OFTEN: dict[str, Any] = {"progress": Every(steps=1), "probe": Every(steps=2)}
ABSURD = 1e38
"""A learning rate with which the second mini-batch overflows float32."""


def lines(events: Iterator[Event] | Sequence[Event]) -> list[str]:
    """Events as text: equal where every number is equal to the last bit, NaN included."""
    return [to_json(event) for event in events]


def trained(experiments: Experiment | Sequence[Experiment], **options: Any) -> list[Event]:
    return list(train(experiments, device="cpu", **options))


E = TypeVar("E", bound=Event)


def of_kind(kind: type[E], events: Sequence[Event]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


_PER_LAYER = {"layers", "undefined", "angle", "norm_ratio", "saturation"}


def of_replica(events: Iterable[Event], replica: int) -> list[Any]:
    """What each event says about one replica."""
    return [_of_replica(event, replica) for event in events]


def _of_replica(event: Event, replica: int) -> Any:
    if isinstance(event, Started):
        lists = ("seeds", "tasks", "train_examples", "validation_examples", "test_examples")
        rest = {name: value for name, value in to_dict(event).items() if name not in ("replicas", *lists)}
        return rest | {name: getattr(event, name)[replica] for name in lists}

    def pick(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {inner: pick(inner, item) for inner, item in value.items()}
        if isinstance(value, tuple):
            return [layer[replica] for layer in value] if name in _PER_LAYER else value[replica]
        return value

    return pick("", to_dict(event))


def numbered_images(train: int, test: int = 10) -> ArrayDataSet:
    """Two classes in turn; the first two pixels of an image are its number."""

    def images(count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        numbers = np.arange(count)
        return np.stack([numbers // 256, numbers % 256], axis=1).astype(np.uint8).reshape(count, 1, 1, 2)

    return ArrayDataSet(
        train_images=images(train),
        train_labels=np.arange(train) % 2,
        test_images=images(test),
        test_labels=np.arange(test) % 2,
        class_names=["even", "odd"],
    )


def numbers_of(inputs: torch.Tensor) -> list[int]:
    """The numbers of a batch [1, N, …] of such images."""
    pixels = (inputs[0].flatten(1) * 255).round().to(torch.int64)
    return (pixels[:, 0] * 256 + pixels[:, 1]).tolist()
