from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mdfa_core.base import rng
from mdfa_core.base.errors import DataError, InvalidValue, UnknownName
from mdfa_core.data import DATASETS, ArraySplit, LazySplit, Split, StackedSplits, Task, load_task, tasks
from mdfa_core.data.data_dir import find_data_dir
from tests.support.cases import pairwise

EVERY = pytest.mark.parametrize("name", list(DATASETS))


def size_of(name: str) -> int | None:
    return 12 if name == "imagefolder" else None


def classes_of(name: str, wanted: int) -> int:
    """As many classes as are wanted, or all the data set has."""
    return min(wanted, DATASETS[name].counts.classes or wanted)


def load(name: str, folder: Path, **settings: Any) -> Task:
    return load_task(
        name, data_dir=folder, **{"classes": classes_of(name, 3), "seed": 0, "image_size": size_of(name)} | settings
    )


def pixels_of(split: Split) -> torch.Tensor:
    return split.gather(torch.arange(len(split)))


def splits_of(task: Task) -> dict[str, Split]:
    return {"train": task.train, "validation": task.validation, "test": task.test}


@EVERY
@pytest.mark.parametrize(
    ("classes", "seed", "validation"), [(2, 0, 0.15), (3, 1, 0.5), (4, 4, 0.0), (3, 2**32 - 1, 0.3)]
)
def test_a_task_against_a_slow_reference(
    name: str, everything: Path, classes: int, seed: int, validation: float
) -> None:
    classes = classes_of(name, classes)
    task = load(name, everything, classes=classes, seed=seed, validation=validation)
    data, data_dir = DATASETS[name], find_data_dir(everything)
    names = data.list_classes(data_dir)
    chosen = np.random.RandomState(seed).permutation(len(names))[:classes].tolist()
    assert task.class_ids == tuple(chosen)
    assert task.class_names == tuple(names[c] for c in chosen)

    expected: dict[str, list[tuple[int, int, np.ndarray]]] = {"train": [], "validation": [], "test": []}
    for part in ("train", "test"):
        images = data.images(data_dir, part, range(len(names)), size_of(name))
        kept = [row for row in range(len(images)) if images.class_ids[row] in chosen]
        order = rng.numpy_generator(seed, "split").permutation(len(kept)).tolist()
        held_out = set(order[: round(validation * len(kept))])
        for position, row in enumerate(kept):
            split = "test" if part == "test" else "validation" if position in held_out else "train"
            label = chosen.index(images.class_ids[row])
            expected[split].append((int(images.indices[row]), label, images.read(np.array([row]))[0]))

    for split_name, split in splits_of(task).items():
        rows = expected[split_name]
        assert len(split) == len(rows)
        assert split.part == ("test" if split_name == "test" else "train")
        assert split.indices.tolist() == [index for index, _, _ in rows]
        assert split.labels.dtype == torch.int64
        assert split.labels.tolist() == [label for _, label, _ in rows]
        pixels = pixels_of(split)
        assert pixels.dtype == torch.uint8
        assert tuple(pixels.shape) == (len(rows), *task.input_shape)
        for position, (_, _, image) in enumerate(rows):
            np.testing.assert_array_equal(pixels[position].numpy(), image)


@EVERY
@pytest.mark.parametrize("seed", range(5))
def test_the_splits_share_no_image_and_lose_none(name: str, everything: Path, seed: int) -> None:
    task = load(name, everything, seed=seed)
    members = [{(split.part, int(index)) for index in split.indices} for split in splits_of(task).values()]
    assert [len(split) for split in splits_of(task).values()] == [len(member) for member in members]
    assert len(set().union(*members)) == sum(len(member) for member in members)
    data, data_dir = DATASETS[name], find_data_dir(everything)
    wanted = {
        (part, int(index))
        for part in ("train", "test")
        for index in data.images(data_dir, part, task.class_ids, size_of(name)).indices
    }
    assert set().union(*members) == wanted


@EVERY
def test_every_label_occurs(name: str, everything: Path) -> None:
    classes = classes_of(name, 4)
    task = load(name, everything, classes=classes)
    for split in (task.train, task.test):
        assert set(split.labels.tolist()) == set(range(classes))


@EVERY
def test_a_lazy_task_has_the_same_pixels(name: str, everything: Path) -> None:
    held, lazy = load(name, everything), load(name, everything, memory_limit=0)
    for one, other in zip(splits_of(held).values(), splits_of(lazy).values(), strict=True):
        assert isinstance(one, ArraySplit)
        assert isinstance(other, LazySplit)
        assert torch.equal(one.labels, other.labels)
        assert one.indices.tolist() == other.indices.tolist()
        assert torch.equal(pixels_of(one), pixels_of(other))
        some = torch.randint(0, len(one), (7,), generator=torch.Generator().manual_seed(0))
        assert torch.equal(one.gather(some), other.gather(some))
        assert one.gather(some[:0]).shape == other.gather(some[:0]).shape == (0, *held.input_shape)
        for outside in (-1, len(one)):
            for split in (one, other):
                with pytest.raises(IndexError):
                    split.gather(torch.tensor([0, outside]))


def test_the_memory_limit_counts_all_splits(everything: Path) -> None:
    task = load("cifar10", everything)
    nbytes = sum(len(split) for split in splits_of(task).values()) * 3 * 32 * 32
    assert isinstance(load("cifar10", everything, memory_limit=nbytes).train, ArraySplit)
    assert isinstance(load("cifar10", everything, memory_limit=nbytes - 1).train, LazySplit)


def test_only_the_chosen_classes_are_decoded(tmp_path: Path, write: Any) -> None:
    names = write.image_folder(tmp_path)
    chosen = rng.class_choice(0, 2, 4)
    for class_id in set(range(4)) - set(chosen):
        for part in ("train", "val"):
            for path in (tmp_path / part / names[class_id]).iterdir():
                path.write_bytes(b"broken")
    assert len(load_task("imagefolder", classes=2, seed=0, image_size=8, data_dir=tmp_path).train) == 17
    path = tmp_path / "val" / names[chosen[0]] / f"{names[chosen[0]]}_0.JPEG"
    path.write_bytes(b"broken")
    with pytest.raises(DataError, match=path.name):
        load_task("imagefolder", classes=2, seed=0, image_size=8, data_dir=tmp_path)
    lazy = load_task("imagefolder", classes=2, seed=0, image_size=8, data_dir=tmp_path, memory_limit=0)
    with pytest.raises(DataError, match=path.name):
        pixels_of(lazy.test)


def test_the_folder_can_come_from_the_environment(everything: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDFA_DATA_DIR", str(everything))
    assert load_task("mnist", classes=2, seed=0).name == "mnist"


class TestChecksum:
    @EVERY
    def test_is_the_same_every_time(self, name: str, everything: Path) -> None:
        for limit in (0, 2**30):
            first, second = (load(name, everything, memory_limit=limit).checksum for _ in range(2))
            assert first == second
            assert len(first) == 64

    @EVERY
    def test_tells_tasks_apart(self, name: str, everything: Path) -> None:
        variants: list[dict[str, Any]] = [{}, {"seed": 1}, {"validation": 0.3}, {"validation": 0.0}]
        if classes_of(name, 3) > 2:
            variants.append({"classes": 2})
        checksums = {load(name, everything, **variant).checksum for variant in variants}
        assert len(checksums) == len(variants)

    def test_is_what_it_says(self, everything: Path) -> None:
        task = load("cifar100", everything)
        digest = hashlib.sha256()
        for split in splits_of(task).values():
            digest.update(f"{split.part} {len(split)} (3, 32, 32)\n".encode())
            for label in split.labels.tolist():
                digest.update(label.to_bytes(8, "little"))
            digest.update(pixels_of(split).numpy().tobytes())
        assert task.checksum == digest.hexdigest() == load("cifar100", everything, memory_limit=0).checksum

    def test_of_the_digits_is_the_same_on_every_machine(self) -> None:
        assert load_task("digits", classes=2, seed=0).checksum == (
            "f6f4f23cf574b604613926a3f28d441c32d8e730cf561a3ecb88b18c16ba3b88"
        )

    def test_sees_a_single_pixel(self, tmp_path: Path, write: Any) -> None:
        write.mnist(tmp_path, packed=False)
        before = load("mnist", tmp_path, classes=10).checksum
        path = tmp_path / "train-images-idx3-ubyte"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        assert load("mnist", tmp_path, classes=10).checksum != before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 1}, "classes is 1: give an integer of at least 2"),
        ({"classes": 0}, "at least 2"),
        ({"classes": 2.0}, r"classes is 2\.0"),
        ({"classes": True}, "classes is True"),
        ({"classes": "2"}, "classes is '2'"),
        ({"classes": 11}, "classes is 11, but scikit-learn digits has 10 classes: choose 2 to 10"),
        ({"seed": -1}, "seed is -1: give an integer from 0 to 4294967295"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"seed": None}, "seed is None"),
        ({"validation": 1}, "validation is 1: give a share"),
        ({"validation": 1.5}, "0 ≤ validation < 1"),
        ({"validation": -0.1}, r"validation is -0\.1"),
        ({"validation": float("nan")}, "validation is nan"),
        ({"validation": "0.1"}, r"validation is '0\.1'"),
        ({"validation": True}, "validation is True"),
        ({"validation": 0.9999}, "takes all .* training images: give a smaller share"),
        ({"validation": 0.99}, r"validation is 0\.99, which leaves no training image of \d: give a smaller share"),
        ({"image_size": 16}, "image_size is 16, but the images of scikit-learn digits are 8×8"),
        ({"image_size": 0}, "image_size is 0: give an integer of at least 1"),
        ({"image_size": 8.0}, r"image_size is 8\.0"),
        ({"memory_limit": -1}, "memory_limit is -1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        load_task("digits", **{"classes": 2, "seed": 0} | settings)


def test_numpy_numbers_are_numbers() -> None:
    task = load_task(
        "digits", classes=np.int64(2), seed=np.uint8(0), image_size=np.int32(8), validation=np.float64(0.15)
    )
    assert task.checksum == load_task("digits", classes=2, seed=0).checksum
    assert all(type(class_id) is int for class_id in task.class_ids)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"unknown data set 'cifar': choose one of blobs, .*, cifar10, cifar100, "):
        load_task("cifar", classes=2, seed=0)


def test_global_random_states_stay_alone(everything: Path) -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    load("imagefolder", everything)
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002


class TestGathered:
    """Rows of indices into splits, whichever way their images are held."""

    @staticmethod
    def rows(splits: list[Split]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.stack([torch.randint(0, len(split), (9,), generator=generator) for split in splits])

    @pytest.mark.parametrize(
        ("name", "which", "joined"), pairwise(DATASETS, ["0", "00", "01", "010", "012", "1L0"], [False, True])
    )
    def test_are_the_images_and_labels_of_each_split(
        self, name: str, which: str, joined: bool, everything: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tasks, "_calls_count", lambda device: joined)
        of = {str(seed): load(name, everything, seed=seed).train for seed in range(3)}
        of["L"] = load(name, everything, seed=4, memory_limit=0).train  # lazy, where the data set can be
        splits = [of[letter] for letter in which]
        index = self.rows(splits)
        images, labels = StackedSplits(splits).gather(index)
        assert images.dtype == torch.uint8
        for row, split in enumerate(splits):
            assert torch.equal(images[row], split.gather(index[row]))
            assert torch.equal(labels[row], split.labels[index[row]])

    @pytest.mark.parametrize(("limit", "calls"), [(2**31, 1), (10, 2)])
    def test_take_one_call_if_a_copy_is_not_too_large(
        self, limit: int, calls: int, everything: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        splits = [load("digits", everything, seed=seed).train for seed in (0, 1)]
        monkeypatch.setattr(tasks, "_calls_count", lambda device: True)
        monkeypatch.setattr(tasks, "MEMORY_LIMIT", limit)
        stacked, asked = StackedSplits(splits), []
        gather = ArraySplit.gather
        monkeypatch.setattr(ArraySplit, "gather", lambda split, index: (asked.append(1), gather(split, index))[1])
        stacked.gather(self.rows(splits))
        assert len(asked) == calls

    def test_go_on_without_a_copy_where_there_is_no_room_for_it(
        self, everything: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(tensors: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        splits = [load("digits", everything, seed=seed).train for seed in (0, 1)]
        index = self.rows(splits)
        expected = StackedSplits(splits).gather(index)
        monkeypatch.setattr(tasks, "_calls_count", lambda device: True)
        monkeypatch.setattr(torch, "cat", full)
        for found, exact in zip(StackedSplits(splits).gather(index), expected, strict=True):
            assert torch.equal(found, exact)

    def test_copy_nothing_on_a_cpu(self, everything: Path) -> None:
        splits = [load("digits", everything, seed=seed).train for seed in (0, 1)]
        assert StackedSplits(splits)._whole is None


@pytest.mark.gpu
def test_everything_lies_on_the_device(everything: Path) -> None:
    for limit in (0, 2**30):
        task = load("imagefolder", everything, device="cuda", memory_limit=limit)
        same = load("imagefolder", everything)
        for split, other in zip(splits_of(task).values(), splits_of(same).values(), strict=True):
            pixels = split.gather(torch.arange(len(split), device="cuda"))
            assert pixels.is_cuda
            assert split.labels.is_cuda
            assert torch.equal(pixels.cpu(), pixels_of(other))


@pytest.mark.realdata
class TestRealData:
    def test_cifar100(self) -> None:
        task = load_task("cifar100", classes=2, seed=0)
        assert task.class_ids == (26, 86)
        assert task.class_names == ("crab", "telephone")
        assert [len(split) for split in splits_of(task).values()] == [850, 150, 200]
        assert task.train.labels.bincount().min() > 400

    def test_image_folder(self) -> None:
        task = load_task("imagefolder", classes=5, seed=0, image_size=64)
        assert task.input_shape == (3, 64, 64)
        assert len(task.train) + len(task.validation) >= 5
        assert set(task.test.labels.tolist()) == set(range(5))
        lazy = load_task("imagefolder", classes=5, seed=0, image_size=64, memory_limit=0)
        some = torch.arange(0, len(task.train), 100)
        assert torch.equal(task.train.gather(some), lazy.train.gather(some))


@EVERY
def test_a_sealed_task_is_the_same_task_without_its_test_images(name: str, everything: Path) -> None:
    task = load(name, everything)
    sealed = task.sealed()

    assert len(sealed.test) == 0
    assert sealed.test.gather(torch.zeros(0, dtype=torch.int64)).shape == (0, *task.input_shape)
    assert (sealed.train, sealed.validation, sealed.checksum) == (task.train, task.validation, task.checksum)
    assert len(task.test) > 0
