from __future__ import annotations

import hashlib

import numpy as np
import pytest

from mdfa_core.base.errors import DataError, InvalidValue
from mdfa_core.data.source import ArrayImages, checked_part, fixed_shape, select


def sample() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (40, 2, 3, 5), dtype=np.uint8), rng.integers(0, 6, 40)


def test_select_keeps_the_wanted_classes_in_order() -> None:
    pixels, class_ids = sample()
    images = select(pixels, class_ids, (4, 1))
    kept = [i for i in range(40) if class_ids[i] in (1, 4)]
    assert images.indices.tolist() == kept
    assert images.class_ids.tolist() == [class_ids[i] for i in kept]
    assert images.shape == (2, 3, 5)
    assert len(images) == len(kept)
    assert images.nbytes == len(kept) * 30
    np.testing.assert_array_equal(images.read(np.array([2, 0])), pixels[[kept[2], kept[0]]])


def test_reading_gives_a_copy() -> None:
    images = select(*sample(), (4, 1))
    images.read(np.array([0]))[:] = 0
    assert images.read(np.array([0])).any()


def test_arrays_are_identified_by_their_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9000, 1, 2, 2), dtype=np.uint8)
    images = ArrayImages(pixels, np.zeros(9000, np.int64), np.arange(9000))
    rows = np.arange(0, 9000, 2)
    digest = hashlib.sha256()
    images.identify(rows, digest)
    assert digest.digest() == hashlib.sha256(pixels[rows].tobytes()).digest()


def test_fixed_shape() -> None:
    assert fixed_shape("X", (1, 8, 8), None) == fixed_shape("X", (1, 8, 8), 8) == (1, 8, 8)
    with pytest.raises(InvalidValue, match="image_size is 9, but the images of X are 8×8"):
        fixed_shape("X", (1, 8, 8), 9)
    with pytest.raises(InvalidValue):
        fixed_shape("X", (1, 8, 6), 8)


def test_checked_part() -> None:
    pixels, class_ids = sample()
    checked_part("f", pixels, class_ids, 6)
    with pytest.raises(DataError, match="f has 40 images but 39 labels"):
        checked_part("f", pixels, class_ids[1:], 6)
    with pytest.raises(DataError, match="labels from 0 to 5, but 0 to 4 are allowed"):
        checked_part("f", pixels, class_ids, 5)
    with pytest.raises(DataError, match="labels from -1"):
        checked_part("f", pixels, class_ids - 1, 6)
