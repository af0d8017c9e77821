"""Flat tables of records, with one row per run, per epoch or per layer of a probe, as CSV or Parquet."""

from __future__ import annotations

import csv
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdfa_core.base.distribution import install
from mdfa_core.base.errors import StoreError
from mdfa_core.base.registry import Registry
from mdfa_core.base.types import FieldType, field_types
from mdfa_core.runs.records import OUTCOME, Point, Probe, Provenance, Record
from mdfa_core.training.experiment import Experiment

ROW_GROUP = 1 << 16
"""Rows of a row group of a Parquet file. Only one group is in memory while a file is written."""

_BOTH = ("unit", "example", "batch", "angle")  # over all hidden layers, and for each layer
_LAYERS_ONLY = ("unit_undefined", "example_undefined", "batch_undefined", "norm_ratio", "saturation")


@dataclass(frozen=True, kw_only=True)
class FlatTable:
    """A way to flatten records.

    Attributes:
        description: the meaning of a row.
        columns: the type of each column: str, int, float or bool, and whether it may be empty.
        rows: a record's rows.
    """

    description: str
    columns: dict[str, FieldType]
    rows: Callable[[Record], Iterable[dict[str, Any]]]


def run_row(record: Record) -> dict[str, Any]:
    """The row of a run: key, settings, outcome, checksum, numerics and provenance."""
    return {
        "key": record.key,
        **record.experiment.to_dict(),
        **{name: getattr(record, name) for name in _RUN},
        **dataclasses.asdict(record.provenance),
    }


def _curve_rows(record: Record) -> Iterator[dict[str, Any]]:
    key = record.key
    return ({"key": key, **dataclasses.asdict(point)} for point in record.curve)


def _probe_rows(record: Record) -> Iterator[dict[str, Any]]:
    key = record.key
    for probe in record.probes:
        common = {"key": key, "step": probe.step, "epoch": probe.epoch, "units": probe.units}
        yield {**common, "layer": None, **{name: getattr(probe, name) for name in _BOTH}}
        for layer in range(len(probe.saturation)):
            values = {name: getattr(probe, f"{name}_layers")[layer] for name in _BOTH}
            yield {**common, "layer": layer, **values, **{name: getattr(probe, name)[layer] for name in _LAYERS_ONLY}}


_RUN = (*OUTCOME, "sealed", "checksum", "numerics")

FLAT: Registry[FlatTable] = Registry("table")
FLAT.add(
    "runs",
    FlatTable(
        description="one row per run: settings, outcome, provenance",
        columns={
            "key": FieldType(str),
            **field_types(Experiment),
            **{name: field_types(Record)[name] for name in _RUN},
            **field_types(Provenance),
        },
        rows=lambda record: [run_row(record)],
    ),
)
FLAT.add(
    "curves",
    FlatTable(
        description="one row per epoch of a run: losses and accuracies",
        columns={"key": FieldType(str), **field_types(Point)},
        rows=_curve_rows,
    ),
)
FLAT.add(
    "probes",
    FlatTable(
        description="one row per hidden layer of a probe, and one without a layer for all layers together",
        columns={
            "key": FieldType(str),
            **{name: field_types(Probe)[name] for name in ("step", "epoch", "units")},
            "layer": FieldType(int, optional=True),
            **dict.fromkeys((*_BOTH, *_LAYERS_ONLY), FieldType(float, optional=True)),
        },
        rows=_probe_rows,
    ),
)


def write_csv(path: Path, table: FlatTable, records: Iterable[Record]) -> None:
    """Write records as CSV with a header. Missing values are empty; floats are exact.

    A text that a spreadsheet would compute (it begins with =, +, -, @, a tab or a line break) gets an apostrophe before
    it, with which spreadsheets mark texts.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table.columns), restval=None, lineterminator="\n")
        writer.writeheader()
        for record in records:
            writer.writerows({name: _harmless(value) for name, value in row.items()} for row in table.rows(record))


def _harmless(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.replace("\r", "\\r")  # Python's writer does not quote it, and readers end the row there
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\n")) else text


def write_parquet(path: Path, table: FlatTable, records: Iterable[Record]) -> None:
    """Write records as Parquet with typed columns.

    Raises:
        StoreError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise StoreError(f"Parquet needs pyarrow: run {install('results')}, or export .csv") from None
    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    schema = pyarrow.schema([(name, kinds[column.kind]) for name, column in table.columns.items()])
    rows = itertools.chain.from_iterable(map(table.rows, records))
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(itertools.islice(rows, ROW_GROUP)):
            writer.write_batch(pyarrow.RecordBatch.from_pylist(group, schema), row_group_size=ROW_GROUP)
