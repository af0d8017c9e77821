"""Slices of data sets give the same tasks, bit for bit, from the images of a few classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import slices
from mdfa_core.base.errors import DataError
from mdfa_core.data import load_task
from mdfa_core.data.cifar import CIFAR100
from mdfa_core.training.experiment import Experiment

CIFAR = [Experiment(data="cifar100", outputs=outputs, task_seed=seed) for outputs in (1, 3) for seed in (0, 1)]
FOLDER = [Experiment(data="imagefolder", outputs=3, task_seed=seed, image_size=16) for seed in (0, 1)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-100 with a few images a class, and an image folder of five classes."""
    import pickle

    folder = tmp_path_factory.mktemp("data")
    cifar = folder / CIFAR100.folder
    cifar.mkdir()
    rng = np.random.default_rng(0)
    for name, each in (("train", 8), ("test", 3)):
        labels = rng.permutation(np.repeat(np.arange(100), each)).tolist()
        pixels = rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        (cifar / name).write_bytes(pickle.dumps({"data": pixels, "fine_labels": labels}))
    (cifar / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"kind {n}" for n in range(100)]}))
    for part, each in (("train", 8), ("val", 2)):
        for number in range(5):
            place = folder / "pictures" / part / f"n{number}"
            place.mkdir(parents=True)
            for image in range(each):
                Image.fromarray(rng.integers(0, 256, (20, 18, 3), dtype=np.uint8)).save(place / f"{image}.JPEG")
    return folder


def _checksum(experiment: Experiment, data_dir: Path) -> str:
    return load_task(experiment.data, **experiment.task_settings, data_dir=data_dir).checksum


def test_a_slice_has_the_tasks_bit_for_bit(data: Path, tmp_path: Path) -> None:
    parts = slices.write([*CIFAR, *FOLDER], tmp_path / "slice", data_dir=str(data), limit=10**7)
    ours = slices.read(tmp_path / "slice", tmp_path / "made")

    assert [part.name for part, _ in parts] == ["part-1"]
    assert parts[0][1] == sum(file.stat().st_size for file in parts[0][0].iterdir())
    assert len(ours.present["cifar100"]) < 10
    for experiment in (*CIFAR, *FOLDER):
        assert ours.has(experiment)
        ours.check(experiment)
        assert _checksum(experiment, tmp_path / "made") == _checksum(experiment, data)
    assert not ours.has(Experiment(data="cifar100", outputs=5, task_seed=0))
    assert not ours.has(Experiment(data="digits"))


def test_parts_are_small_and_any_of_them_will_do(data: Path, tmp_path: Path) -> None:
    index = len(json.dumps({"classes": [f"kind {n}" for n in range(100)]})) + 2000
    parts = slices.write(CIFAR, tmp_path / "slice", data_dir=str(data), limit=index + 80_000)

    assert len(parts) > 1
    assert all(size <= index + 80_000 for _, size in parts)
    for part, _ in parts[1:]:
        shutil.rmtree(part)
    ours = slices.read(tmp_path / "slice", tmp_path / "made")
    there = [experiment for experiment in CIFAR if ours.has(experiment)]
    assert CIFAR[0] in there  # the first task comes first
    assert len(there) < len(CIFAR)
    for experiment in there:
        ours.check(experiment)


def test_other_images_are_refused(data: Path, tmp_path: Path) -> None:
    slices.write(FOLDER[:1], tmp_path / "slice", data_dir=str(data), limit=10**7)
    ours = slices.read(tmp_path / "slice", tmp_path / "made")
    file = sorted((tmp_path / "made" / slices.IMAGES / "val").glob("*/*.JPEG"))[0]
    Image.new("RGB", (20, 18)).save(file)

    with pytest.raises(DataError, match="are not those that the slice was made of"):
        ours.check(FOLDER[0])


def test_a_slice_is_never_mixed_with_other_files_nor_read_when_damaged(data: Path, tmp_path: Path) -> None:
    (tmp_path / "slice").mkdir()
    assert not slices.is_slice(tmp_path / "slice")
    ((part, _),) = slices.write(CIFAR[:1], tmp_path / "slice", data_dir=str(data), limit=10**7)
    assert slices.is_slice(tmp_path / "slice")
    with pytest.raises(DataError, match="has files already: name another"):
        slices.write(CIFAR[:1], tmp_path / "slice", data_dir=str(data), limit=10**7)
    with pytest.raises(DataError, match=r"a class has [0-9,]+ bytes, and a part 100: allow larger parts"):
        slices.write(CIFAR[:1], tmp_path / "small", data_dir=str(data), limit=100)
    archive = next(part.glob(f"*{slices.SUFFIX}"))
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(DataError, match="is damaged"):
        slices.read(tmp_path / "slice", tmp_path / "made")


def test_a_sheet_keeps_every_image() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (47, 3, 4, 6), dtype=np.uint8)

    assert (slices._cut(slices._sheet(pixels), 47, 4, 6) == pixels).all()
