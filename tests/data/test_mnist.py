from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdfa_core.base.errors import DataError
from mdfa_core.data.data_dir import find_data_dir
from mdfa_core.data.mnist import OFFICIAL, Mnist, read_idx


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("nested", ["mnist", "MNIST/raw", "."])
def test_files_are_found_and_read(tmp_path: Path, write: Any, packed: bool, nested: str) -> None:
    written = write.mnist(tmp_path / nested, packed=packed)
    data_dir = find_data_dir(tmp_path)
    assert Mnist().find(data_dir) == tmp_path / nested
    for part in ("train", "test"):
        pixels, digits = written[part]
        images = Mnist().images(data_dir, part, range(10), None)
        np.testing.assert_array_equal(images.read(np.arange(len(images))), pixels)
        np.testing.assert_array_equal(images.class_ids, digits)


def test_a_missing_file_is_named(tmp_path: Path, write: Any) -> None:
    write.mnist(tmp_path / "mnist")
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"mnist/t10k-labels-idx1-ubyte\.gz: put the official file there"):
        Mnist().images(find_data_dir(tmp_path), "train", (0, 1), None)


BREAKS: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "cut": ("train-images-idx3-ubyte", lambda raw: raw[:5000], "holds 4984 bytes, but its header says 78400"),
    "too long": ("train-images-idx3-ubyte", lambda raw: raw + b"\0", "holds 78401 bytes"),
    "no header": ("train-images-idx3-ubyte", lambda raw: raw[:3], "not an idx file"),
    "cut header": ("train-images-idx3-ubyte", lambda raw: raw[:10], "not an idx file"),
    "labels for images": ("train-labels-idx1-ubyte", lambda raw: raw[:3] + b"\3" + raw[4:], "not an idx file"),
    "wrong label": ("train-labels-idx1-ubyte", lambda raw: raw[:-1] + b"\x0a", "labels from 0 to 10"),
    "fewer labels": (
        "train-labels-idx1-ubyte",
        lambda raw: raw[:4] + (99).to_bytes(4, "big") + raw[8:-1],
        "100 images but 99 labels",
    ),
    "other size": (
        "train-images-idx3-ubyte",
        lambda raw: raw[:8] + (14).to_bytes(4, "big") + (56).to_bytes(4, "big") + raw[16:],
        "images of 14×56 instead of 28×28",
    ),
}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", BREAKS)
def test_broken_files_are_named(tmp_path: Path, write: Any, kind: str, packed: bool) -> None:
    write.mnist(tmp_path, packed=packed)
    name, change, message = BREAKS[kind]
    path = tmp_path / (f"{name}.gz" if packed else name)
    raw = change(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    path.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(DataError, match=message) as caught:
        Mnist().images(find_data_dir(tmp_path), "train", (0, 1), None)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("kept", [0, 5, 1000])
def test_truncated_packed_files_are_named(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "some.gz"
    content = gzip.compress(np.random.default_rng(0).bytes(5000))
    path.write_bytes(content[:kept])
    with pytest.raises(DataError, match=r"some\.gz is"):
        read_idx(path, dimensions=1)
    path.write_bytes(content[:kept] + b"?" * 20 + content[kept + 20 :])
    with pytest.raises(DataError, match=r"some\.gz is"):
        read_idx(path, dimensions=1)


def test_check_says_whether_the_files_are_official(tmp_path: Path, write: Any, served_mnist: Mnist) -> None:
    folder = tmp_path / "published"
    first, second = served_mnist.check(find_data_dir(folder))
    assert first == f"MNIST: readable, 100 training and 30 test images of 10 classes in {folder}"
    assert second == "MNIST: all checksums are the official ones"
    _, second = Mnist().check(find_data_dir(folder))
    assert "not the official files" in second
    assert "t10k-images-idx3-ubyte.gz" in second
    write.mnist(tmp_path / "unpacked", packed=False)
    _, second = Mnist().check(find_data_dir(tmp_path / "unpacked"))
    assert "official checksums exist for .gz files only" in second


def test_official_checksums() -> None:
    assert {file.name: file.md5 for file in OFFICIAL} == {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    }
