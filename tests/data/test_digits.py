from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mdfa_core.base.errors import InvalidValue
from mdfa_core.data import DATASETS
from mdfa_core.data.data_dir import DataDir

NOWHERE = DataDir(Path("nowhere"), named=True)


def test_pixels_and_held_out_part_against_a_slow_reference() -> None:
    bunch = load_digits()
    seen = [0] * 10
    parts: dict[str, list[tuple[int, list[int]]]] = {"train": [], "test": []}
    for values, digit in zip(bunch.data, bunch.target, strict=True):
        part = "test" if seen[digit] % 5 == 2 else "train"
        seen[digit] += 1
        # round(v · 255 / 16) in whole numbers; the only half is v = 8, 127.5, which becomes 128
        parts[part].append((int(digit), [(int(v) * 255 + 8) // 16 for v in values]))
    for part in ("train", "test"):
        images = DATASETS["digits"].images(NOWHERE, part, range(10), None)
        assert images.shape == (1, 8, 8)
        assert images.class_ids.tolist() == [digit for digit, _ in parts[part]]
        pixels = images.read(np.arange(len(images)))
        assert pixels.reshape(len(images), 64).tolist() == [values for _, values in parts[part]]
        assert (pixels.min(), pixels.max()) == (0, 255)


def test_a_fifth_of_every_class_is_held_out() -> None:
    data = DATASETS["digits"]
    train, test = (data.images(NOWHERE, part, range(10), 8) for part in ("train", "test"))
    assert (len(train), len(test)) == (data.counts.train, data.counts.test) == (1438, 359)
    for digit in range(10):
        held_out, kept = (test.class_ids == digit).sum(), (train.class_ids == digit).sum()
        assert held_out == round((held_out + kept) / 5)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(InvalidValue, match="image_size is 28"):
        DATASETS["digits"].images(NOWHERE, "train", (0, 1), 28)
