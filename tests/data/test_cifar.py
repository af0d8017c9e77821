from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdfa_core.base.errors import DataError
from mdfa_core.data.cifar import CIFAR10, CIFAR100, Cifar, read_pickle
from mdfa_core.data.data_dir import find_data_dir

BOTH = pytest.mark.parametrize("data", [CIFAR10, CIFAR100], ids=["cifar10", "cifar100"])


def written_by(write: Any, data: Cifar) -> Callable[..., Any]:
    return {10: write.cifar10, 100: write.cifar100}[data.classes]


@BOTH
@pytest.mark.parametrize("python", [2, 3])
@pytest.mark.parametrize("nested", [True, False])
def test_files_are_found_and_read(tmp_path: Path, write: Any, data: Cifar, python: int, nested: bool) -> None:
    folder = tmp_path / data.folder if nested else tmp_path
    written = written_by(write, data)(folder, python=python)
    data_dir = find_data_dir(tmp_path)
    assert data.find(data_dir) == folder
    for part in ("train", "test"):
        pixels, class_ids = written[part]
        images = data.images(data_dir, part, range(data.classes), None)
        np.testing.assert_array_equal(images.read(np.arange(len(images))), pixels)
        np.testing.assert_array_equal(images.class_ids, class_ids)
        np.testing.assert_array_equal(images.indices, np.arange(len(class_ids)))
    kind = "thing" if data.classes == 10 else "kind"
    assert data.list_classes(data_dir) == tuple(f"{kind} {c}" for c in range(data.classes))


@BOTH
def test_a_missing_file_is_named(tmp_path: Path, write: Any, data: Cifar) -> None:
    data_dir = find_data_dir(tmp_path)
    with pytest.raises(DataError, match=rf"lacks .*{data.folder}/{data.train_files[0]}: unpack https://.*tar\.gz into"):
        data.list_classes(data_dir)
    written_by(write, data)(tmp_path / data.folder)
    (tmp_path / data.folder / data.meta_file).unlink()
    with pytest.raises(DataError, match=rf"lacks .*{data.folder}/{data.meta_file}"):
        data.images(data_dir, "train", (0, 1), None)


def test_folders_named_like_the_files_are_not_taken_for_them(tmp_path: Path) -> None:
    for name in ("train", "test", "meta"):
        (tmp_path / name).mkdir()
    assert CIFAR100.find(find_data_dir(tmp_path)) is None


class Evil:
    def __reduce__(self) -> Any:
        return eval, ("open('/nonexistent-evil', 'w')",)


@pytest.mark.parametrize("evil", [Evil(), np.random.default_rng, {"data": Evil()}, pickle.Unpickler, np.load])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_names_anything_but_arrays_is_refused(tmp_path: Path, evil: object, protocol: int) -> None:
    path = tmp_path / "train"
    path.write_bytes(pickle.dumps(evil, protocol))
    with pytest.raises(DataError, match=r"train is truncated or corrupt \(it refers to .*, which is not allowed\)"):
        read_pickle(path)


def test_a_pickle_cannot_decode_with_any_codec(tmp_path: Path) -> None:
    path = tmp_path / "train"
    path.write_bytes(b"c_codecs\nencode\n(VAAAA\nVrot13\ntR.")
    with pytest.raises(DataError, match="bytes encoded in rot13"):
        read_pickle(path)


@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_protocol_is_read(tmp_path: Path, protocol: int) -> None:
    content = {"data": np.arange(12, dtype=np.uint8).reshape(3, 4), "labels": [1, 2, 3], "raw": b"\xff\0"}
    (tmp_path / "file").write_bytes(pickle.dumps(content, protocol))
    found = read_pickle(tmp_path / "file")
    np.testing.assert_array_equal(found["data"], content["data"])
    assert (found["labels"], found["raw"]) == (content["labels"], content["raw"])


@pytest.mark.parametrize("python", [2, 3])
def test_truncated_and_overwritten_files_are_named(tmp_path: Path, write: Any, python: int) -> None:
    write.cifar100(tmp_path, each=1, python=python)
    path = tmp_path / "train"
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for kept in (0, 1, 10, 100, *rng.integers(0, len(content), 20)):
        path.write_bytes(content[:kept])
        with pytest.raises(DataError, match=r"train is truncated or corrupt .*: delete its folder and fetch"):
            CIFAR100.images(find_data_dir(tmp_path), "train", (0, 1), None)
    for start in (0, 40):  # farther in are pixels, which could be anything
        path.write_bytes(content[:start] + rng.bytes(200) + content[start + 200 :])
        with pytest.raises(DataError, match="train"):
            CIFAR100.images(find_data_dir(tmp_path), "train", (0, 1), None)


GOOD: dict[str, Any] = {"data": np.zeros((4, 3072), np.uint8), "fine_labels": [0, 1, 2, 99]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list instead of a dictionary"),
        ({"fine_labels": [0]}, "rows of 3072 bytes as 'data'"),
        (GOOD | {"data": np.zeros((4, 3071), np.uint8)}, "rows of 3072 bytes"),
        (GOOD | {"data": np.zeros((4, 3072), np.int16)}, "it holds an array of 'i2' instead of bytes"),
        (GOOD | {"data": np.zeros((4, 3072), object)}, "it holds an array of 'O8' instead of bytes"),
        (GOOD | {"data": np.zeros((), np.uint8)}, "rows of 3072 bytes"),
        (GOOD | {"data": [[0] * 3072] * 4}, "rows of 3072 bytes"),
        (GOOD | {"fine_labels": [0, 1, 2]}, "4 images but 3 labels"),
        (GOOD | {"fine_labels": [0, 1, 2, 100]}, "labels from 0 to 100, but 0 to 99 are allowed"),
        (GOOD | {"fine_labels": [0, 1, 2, "3"]}, "list of class numbers as 'fine_labels'"),
        ({"data": GOOD["data"], "coarse_labels": [0] * 4}, "list of class numbers as 'fine_labels'"),
    ],
)
def test_files_with_other_content_are_named(tmp_path: Path, write: Any, content: object, message: str) -> None:
    write.cifar100(tmp_path, each=1)
    (tmp_path / "train").write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=message) as caught:
        CIFAR100.images(find_data_dir(tmp_path), "train", (0, 1), None)
    assert str(tmp_path / "train") in str(caught.value)


@pytest.mark.parametrize("names", [None, ["a"] * 99, [1] * 100, "x" * 100])
def test_broken_class_names_are_named(tmp_path: Path, write: Any, names: object) -> None:
    write.cifar100(tmp_path, each=1)
    (tmp_path / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    with pytest.raises(DataError, match="meta does not list 100 class names as 'fine_label_names'"):
        CIFAR100.list_classes(find_data_dir(tmp_path))


@BOTH
def test_check_says_whether_the_files_are_official(tmp_path: Path, write: Any, data: Cifar) -> None:
    written = written_by(write, data)(tmp_path)
    counts = f"{len(written['train'][1])} training and {len(written['test'][1])} test images of {data.classes} classes"
    first, second = data.check(find_data_dir(tmp_path))
    assert first == f"{data.title}: readable, {counts} in {tmp_path}"
    assert f"not the official files (the checksum differs): {', '.join(data.files)};" in second
    official = {name: hashlib.md5((tmp_path / name).read_bytes()).hexdigest() for name in data.files}
    assert (
        replace(data, official=official)
        .check(find_data_dir(tmp_path))[1]
        .endswith("all checksums are the official ones")
    )


@BOTH
def test_every_file_has_an_official_checksum(data: Cifar) -> None:
    assert set(data.official) == set(data.files)
    assert all(len(md5) == 32 for md5 in (*data.official.values(), data.archive.md5))
