from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdfa_core.base.errors import DataError
from mdfa_core.data.data_dir import find_data_dir
from mdfa_core.data.image_folder import ImageFolder
from mdfa_core.data.images import read_image

DATA = ImageFolder()


@pytest.fixture
def root(tmp_path: Path, write: Any) -> Path:
    write.image_folder(tmp_path / "pictures")
    return tmp_path / "pictures"


def test_the_folder_itself_or_the_only_one_in_it(root: Path, write: Any) -> None:
    assert DATA.find(find_data_dir(root)) == root
    assert DATA.find(find_data_dir(root.parent)) == root
    (root.parent / "train").mkdir()  # half a layout is none
    (root.parent / ".hidden" / "train").mkdir(parents=True)
    (root.parent / ".hidden" / "val").mkdir()
    assert DATA.find(find_data_dir(root.parent)) == root
    write.image_folder(root.parent / "others")
    with pytest.raises(DataError, match=r"holds several image folders \(others, pictures\): give the one to use"):
        DATA.find(find_data_dir(root.parent))
    assert DATA.find(find_data_dir(root.parent / "others")) == root.parent / "others"


def test_none_at_all(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DataError, match="holds no image folder: put train/<class>"):
        DATA.fetch(find_data_dir(tmp_path))
    with pytest.raises(DataError, match=r"holds no image folder.*image folders are not downloaded"):
        DATA.fetch(find_data_dir())
    with pytest.raises(DataError, match="nowhere does not exist"):
        DATA.fetch(find_data_dir(tmp_path / "nowhere"))


def test_a_byte_order_mark_before_the_words_is_no_part_of_them(root: Path) -> None:
    (root / "words.txt").write_bytes(b"\xef\xbb\xbfn00000000\tcrane\n")
    assert DATA.list_classes(find_data_dir(root))[0] == "crane"


def test_classes_are_sorted_and_get_their_words(root: Path) -> None:
    named = tuple(f"creature {c}, beast {c}" for c in range(3))
    assert DATA.list_classes(find_data_dir(root)) == (*named, "n00000003")
    (root / "words.txt").write_text("n00000000\tcrane\nn00000001\tcrane\nn00000002\t\nother\tthing\n\nbroken line\n")
    assert DATA.list_classes(find_data_dir(root)) == (
        "crane (n00000000)",
        "crane (n00000001)",
        "n00000002",
        "n00000003",
    )
    (root / "words.txt").unlink()
    assert DATA.list_classes(find_data_dir(root)) == tuple(f"n{c:08d}" for c in range(4))


@pytest.mark.parametrize("part", ["train", "test"])
def test_files_are_listed_in_order_and_decoded(root: Path, part: Any) -> None:
    folder = root / {"train": "train", "test": "val"}[part]
    images = DATA.images(find_data_dir(root), part, (3, 1), 12)
    expected = []
    for class_id in (1, 3):
        for position, path in enumerate(sorted((folder / f"n{class_id:08d}").iterdir())):
            expected.append((class_id, class_id * 10**9 + position, read_image(path, 12)))
    assert images.class_ids.tolist() == [class_id for class_id, _, _ in expected]
    assert images.indices.tolist() == [index for _, index, _ in expected]
    assert images.shape == (3, 12, 12)
    rows = np.array([4, 0, len(images) - 1, 4])
    np.testing.assert_array_equal(images.read(rows), np.stack([expected[row][2] for row in rows]))
    assert images.read(np.array([], np.int64)).shape == (0, 3, 12, 12)


def test_indices_do_not_depend_on_the_other_classes(root: Path) -> None:
    alone, among = (DATA.images(find_data_dir(root), "train", ids, 8) for ids in ((2,), (3, 2, 0)))
    np.testing.assert_array_equal(alone.indices, among.indices[among.class_ids == 2])


def test_the_usual_size_is_the_papers(root: Path) -> None:
    assert DATA.shape(None) == DATA.images(find_data_dir(root), "test", (0, 1), None).shape == (3, 224, 224)


def test_only_visible_images_count(root: Path) -> None:
    folder = root / "train" / "n00000000"
    before = DATA.images(find_data_dir(root), "train", (0,), 8)
    (folder / "notes.txt").write_text("no image")
    (folder / "._n00000000_1.JPEG").write_bytes(b"\0")
    (root / "train" / ".cache").mkdir()
    (root / "train" / "list.csv").write_text("")
    assert DATA.images(find_data_dir(root), "train", (0,), 8).names == before.names
    shutil.copy(folder / "n00000000_1.JPEG", folder / "z.Jpg")
    assert DATA.images(find_data_dir(root), "train", (0,), 8).names == (*before.names, "train/n00000000/z.Jpg")


def test_an_empty_class_is_named(root: Path) -> None:
    for path in (root / "val" / "n00000002").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="val/n00000002 holds no image: put images there, or remove the class"):
        DATA.images(find_data_dir(root), "test", (2, 0), 8)
    DATA.images(find_data_dir(root), "test", (1, 0), 8)  # of no concern to a task without that class


def test_classes_of_one_part_only_are_named(root: Path) -> None:
    (root / "val" / "n00000009").mkdir()
    with pytest.raises(DataError, match=r"the class .*val/n00000009 has no folder .*train/n00000009"):
        DATA.list_classes(find_data_dir(root))
    shutil.rmtree(root / "val" / "n00000009")
    shutil.rmtree(root / "val" / "n00000001")
    with pytest.raises(DataError, match=r"the class .*train/n00000001 has no folder .*val/n00000001"):
        DATA.list_classes(find_data_dir(root))


def test_too_few_classes(tmp_path: Path, write: Any) -> None:
    write.image_folder(tmp_path, classes=1)
    with pytest.raises(DataError, match="train holds 1 class folders: give at least two"):
        DATA.list_classes(find_data_dir(tmp_path))


def test_a_pipe_among_the_images_is_named(root: Path) -> None:
    path = next((root / "train" / "n00000001").iterdir())
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=rf"{re.escape(path.name)} is no file: replace or remove it"):
        read_image(path, 8)


def test_a_corrupt_image_is_named(root: Path) -> None:
    path = root / "train" / "n00000001" / "n00000001_3.JPEG"
    path.write_bytes(path.read_bytes()[:-200])
    images = DATA.images(find_data_dir(root), "train", (1,), 16)
    images.read(np.array([0, 1, 2]))
    with pytest.raises(DataError, match=r"n00000001_3\.JPEG is not a readable image"):
        images.read(np.arange(len(images)))
    with pytest.raises(DataError, match=r"n00000001_3\.JPEG is not a readable image"):
        DATA.check(find_data_dir(root))


def test_no_thread_outlives_reading(root: Path) -> None:
    images = DATA.images(find_data_dir(root), "train", (0, 1), 16)
    before = threading.active_count()
    images.read(np.arange(len(images)))
    assert threading.active_count() == before


def test_files_are_identified_by_name_and_size(root: Path) -> None:
    def identity(size: int = 16) -> bytes:
        images = DATA.images(find_data_dir(root), "train", (0, 1), size)
        digest = hashlib.sha256()
        images.identify(np.arange(len(images)), digest)
        return digest.digest()

    original = identity()
    assert identity(17) != original
    path = root / "train" / "n00000000" / "n00000000_0.JPEG"
    content = path.read_bytes()
    path.write_bytes(content + b"\0")
    assert identity() != original
    path.write_bytes(content)
    moved = shutil.move(root, root.parent / "elsewhere")
    shutil.copytree(moved, root)
    assert identity() == original  # where the folder lies does not matter
    path.unlink()
    images = DATA.images(find_data_dir(root.parent / "elsewhere"), "train", (0, 1), 8)
    shutil.rmtree(root.parent / "elsewhere")
    with pytest.raises(DataError, match=r"cannot read .*n00000000_0\.JPEG"):
        images.identify(np.arange(2), hashlib.sha256())


def test_check_decodes_everything(root: Path) -> None:
    (finding,) = DATA.check(find_data_dir(root))
    assert "40 training and 12 test images (from val/) of 4 classes" in finding
