from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mdfa_core.base.errors import DataError, UnknownName
from mdfa_core.data import DATASETS, DataSet, check, describe, fetch
from mdfa_core.data.plane import Plane

PLANES = tuple(name for name, data in DATASETS.items() if isinstance(data, Plane))
EVERY = pytest.mark.parametrize("name", list(DATASETS))


@EVERY
def test_every_entry_is_complete(name: str) -> None:
    data = DATASETS[name]
    assert isinstance(data, DataSet)
    assert data.title
    assert data.licence
    assert data.source.startswith("https://")
    channels, height, width = data.shape(None)
    assert channels in (1, 2, 3)  # grey, a point of the plane, colour
    assert data.shape(height) == (channels, height, width)


@EVERY
def test_fetch_and_check(name: str, everything: Path) -> None:
    data = DATASETS[name]
    folder = fetch(name, everything)
    assert (folder is None) == data.bundled
    first = check(name, everything)[0]
    assert first.startswith(f"{data.title}: readable, ")
    assert folder is None or str(folder) in first


@EVERY
def test_what_is_missing_is_said(name: str, tmp_path: Path) -> None:
    if DATASETS[name].bundled:
        pytest.skip("has no files")
    for use in (fetch, check):
        with pytest.raises(DataError, match=str(tmp_path)):
            use(name, tmp_path)


def test_unknown_names() -> None:
    for use in (fetch, check):
        with pytest.raises(UnknownName, match="unknown data set 'nothing'"):
            use("nothing")


def test_describe_where_everything_is(everything: Path) -> None:
    rows = {row.name: row for row in describe(everything)}
    assert list(rows) == list(DATASETS)
    assert {name: row.where for name, row in rows.items()} == {
        "digits": "bundled",
        "mnist": f"ready in {everything / 'mnist'}",
        "cifar10": f"ready in {everything / 'cifar-10-batches-py'}",
        "cifar100": f"ready in {everything / 'cifar-100-python'}",
        "imagefolder": f"ready in {everything / 'pictures'}",
        **dict.fromkeys(PLANES, "bundled"),
    }
    assert {name: row.classes for name, row in rows.items()} == {
        "digits": 10,
        "mnist": 10,
        "cifar10": 10,
        "cifar100": 100,
        "imagefolder": 4,
        **dict.fromkeys(PLANES, 2),
    }
    assert rows["digits"].image_shape == (1, 8, 8)
    assert (rows["cifar100"].train, rows["cifar100"].test) == (50_000, 10_000)


def test_describe_where_nothing_is(tmp_path: Path, cache: Path) -> None:
    for row in describe(tmp_path):
        assert row.where == ("bundled" if DATASETS[row.name].bundled else f"not in {tmp_path}")
    for row in describe():
        assert row.where == ("bundled" if DATASETS[row.name].bundled else "not downloaded")
    assert not cache.exists()
    describe(tmp_path / "nowhere")


@pytest.mark.parametrize("named", [True, False])
def test_describe_says_what_is_missing(everything: Path, cache: Path, named: bool) -> None:
    shutil.copytree(everything, cache)
    (cache / "mnist" / "train-labels-idx1-ubyte.gz").unlink()
    (cache / "cifar-10-batches-py" / "data_batch_3").unlink()
    for path in (cache / "cifar-100-python").iterdir():
        path.unlink()
    where = {row.name: row.where for row in describe(cache if named else None)}
    assert "lacks" in where["mnist"]
    assert "train-labels-idx1-ubyte.gz" in where["mnist"]
    assert "data_batch_3" in where["cifar10"]
    assert where["cifar100"] == (f"not in {cache}" if named else "not downloaded")
    assert not (cache / "cifar-10-batches-py" / "data_batch_3").exists()


def test_describe_says_what_is_wrong(everything: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(everything / "pictures", tmp_path / name)
    assert "several image folders" in {row.name: row for row in describe(tmp_path)}["imagefolder"].where
    shutil.rmtree(tmp_path / "two")
    shutil.rmtree(tmp_path / "one" / "val" / "n00000000")
    assert "has no folder" in {row.name: row for row in describe(tmp_path)}["imagefolder"].where
