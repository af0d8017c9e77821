"""Flat tables hold what the records hold, as CSV and as Parquet."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pytest

from mdfa_core.base.errors import StoreError
from mdfa_core.runs.export import FLAT, write_csv, write_parquet
from tests.support.synthetic_records import record

RECORDS = [record(0, probes=2), record(1, sealed=True, task_seed=4), record(2, epochs=1, probes=1, drop_last=False)]


def _rows(table: str) -> list[dict[str, Any]]:
    return [dict.fromkeys(FLAT[table].columns) | row for r in RECORDS for row in FLAT[table].rows(r)]


def test_there_is_a_row_for_everything() -> None:
    assert [len(_rows(table)) for table in ("runs", "curves", "probes")] == [3, 7, 3 * 3]
    runs, curves, probes = map(_rows, ("runs", "curves", "probes"))
    assert [row["key"] for row in runs] == [r.key for r in RECORDS]
    assert [row["test_accuracy"] for row in runs] == [r.test_accuracy for r in RECORDS]
    assert [row["train_loss"] for row in curves] == [point.train_loss for r in RECORDS for point in r.curve]
    assert [row["layer"] for row in probes] == [None, 0, 1] * 3
    first, second = RECORDS[0].probes[0], probes[1]
    assert (probes[0]["angle"], probes[0]["norm_ratio"]) == (first.angle, None)
    assert (second["angle"], second["norm_ratio"]) == (first.angle_layers[0], first.norm_ratio[0])


@pytest.mark.parametrize("table", FLAT)
def test_rows_have_the_columns_they_are_said_to_have(table: str) -> None:
    for record_ in RECORDS:
        for row in FLAT[table].rows(record_):
            assert set(row) <= set(FLAT[table].columns)
            for name, value in row.items():
                column = FLAT[table].columns[name]
                assert type(value) is column.kind or (value is None and column.optional), name


@pytest.mark.parametrize("table", FLAT)
def test_csv_is_exact(table: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", FLAT[table], RECORDS)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert read == [{n: "" if v is None else str(v) for n, v in row.items()} for row in _rows(table)]


@pytest.mark.parametrize("table", FLAT)
def test_parquet_is_exact(table: str, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install -e '.[results]' in the clone")
    write_parquet(tmp_path / "t.parquet", FLAT[table], RECORDS)
    assert repr(parquet.read_table(tmp_path / "t.parquet").to_pylist()) == repr(_rows(table))  # types, too
    write_parquet(tmp_path / "none.parquet", FLAT[table], [])
    empty = parquet.read_table(tmp_path / "none.parquet")
    assert empty.column_names == list(FLAT[table].columns)
    assert empty.num_rows == 0


def test_row_groups_of_parquet_hold_many_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install -e '.[results]' in the clone")
    monkeypatch.setattr("mdfa_core.runs.export.ROW_GROUP", 4)  # of 7 rows
    write_parquet(tmp_path / "t.parquet", FLAT["curves"], RECORDS)
    metadata = parquet.read_metadata(tmp_path / "t.parquet")
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [4, 3]


def test_parquet_without_its_library_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(StoreError, match=r"needs pyarrow: run pip install 'mdfa-lab\[results\]'"):
        write_parquet(tmp_path / "t.parquet", FLAT["runs"], RECORDS)
    assert not list(tmp_path.iterdir())
