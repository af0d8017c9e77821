from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mdfa_core.base.errors import InvalidValue
from mdfa_core.data import DATASETS, ArrayDataSet, check, describe, fetch, load_task


def arguments(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (30, 1, 5, 7), dtype=np.uint8),
        "train_labels": np.arange(30) % 3,
        "test_images": rng.integers(0, 256, (9, 1, 5, 7), dtype=np.uint8),
        "test_labels": (np.arange(9) % 3).astype(np.uint8),
        "class_names": ["ant", "bee", "cow"],
    } | changes


@pytest.fixture
def mine() -> Iterator[dict[str, Any]]:
    given = arguments()
    DATASETS.add("mine", ArrayDataSet(**given, title="my animals"))
    yield given
    DATASETS.remove("mine")


def test_one_line_adds_a_data_set(mine: dict[str, Any]) -> None:
    task = load_task("mine", classes=2, seed=1, validation=0.25)
    chosen = tuple(int(c) for c in np.random.RandomState(1).permutation(3)[:2])
    assert task.class_ids == chosen
    assert task.class_names == tuple(mine["class_names"][c] for c in chosen)
    assert task.input_shape == (1, 5, 7)
    assert (len(task.train), len(task.validation), len(task.test)) == (15, 5, 6)
    pixels = task.train.gather(torch.tensor([3, 0]))
    np.testing.assert_array_equal(pixels.numpy(), mine["train_images"][task.train.indices[[3, 0]]])
    assert fetch("mine") is None
    assert check("mine") == ["my animals: readable, 30 training and 9 test images of 3 classes, in memory"]
    row = describe()[-1]
    assert (row.name, row.where, row.classes, row.train, row.test) == ("mine", "bundled", 3, 30, 9)


def test_lists_and_tensors_are_taken_too(tmp_path: Path) -> None:
    given = arguments()
    tensors = {name: torch.from_numpy(given[name]) for name in ("train_images", "test_images")}
    data = ArrayDataSet(**given | tensors | {"train_labels": given["train_labels"].tolist()})
    np.testing.assert_array_equal(data.train_images, given["train_images"])
    assert data.train_labels.dtype == np.int64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ["one"]}, "at least two strings"),
        ({"class_names": [1, 2, 3]}, "at least two strings"),
        ({"train_images": np.zeros((30, 1, 5, 7))}, r"train_images of .* are float64 .*: give uint8"),
        ({"test_images": np.zeros((9, 5, 7), np.uint8)}, r"test_images of .* shape \(9, 5, 7\): give uint8"),
        ({"train_images": np.zeros((0, 1, 5, 7), np.uint8)}, "give uint8 images"),
        (
            {"test_images": np.zeros((9, 3, 5, 7), np.uint8)},
            r"are \(1, 5, 7\) \(C, H, W\), its test images \(3, 5, 7\)",
        ),
        ({"train_labels": np.arange(29) % 3}, "give 30 integers"),
        ({"train_labels": np.zeros(30)}, "give 30 integers"),
        ({"train_labels": np.zeros((30, 1), int)}, "give 30 integers"),
        ({"train_labels": np.arange(30) % 3 + 1}, "give every class from 0 to 2"),
        ({"train_labels": np.arange(30) % 2}, "give every class from 0 to 2"),
        ({"test_labels": np.zeros(9, int)}, r"test_labels .* give every class from 0 to 2"),
        ({"train_labels": np.arange(30) % 4}, "no other number"),
    ],
)
def test_other_arrays_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        ArrayDataSet(**arguments(**changes))


def test_rectangles_have_no_image_size(mine: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match="image_size is 5, but the images of my animals are 5×7"):
        load_task("mine", classes=2, seed=0, image_size=5)
