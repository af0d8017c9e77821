"""Records as flat tables, one row a run, an epoch or a layer of a probe, written as CSV or Parquet."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdfa_core.errors import StoreError
from mdfa_core.experiment import Experiment
from mdfa_core.records import OUTCOME, Point, Probe, Provenance, Record
from mdfa_core.registry import Table

_BOTH = ("unit", "example", "batch", "angle")  # told over all hidden layers and for each
_LAYERS_ONLY = ("unit_undefined", "example_undefined", "batch_undefined", "norm_ratio", "saturation")


@dataclass(frozen=True, kw_only=True)
class FlatTable:
    """A way to flatten records.

    Attributes:
        description: what a row is.
        columns: the type of each column, as annotated: `str`, `int`, `float` or `bool`, perhaps with `| None`.
        rows: a record's rows.
    """

    description: str
    columns: dict[str, str]
    rows: Callable[[Record], Iterable[dict[str, Any]]]


def _types(kind: type[Any]) -> dict[str, str]:
    return {field.name: str(field.type) for field in dataclasses.fields(kind)}


def run_row(record: Record) -> dict[str, Any]:
    """One row for a run: key, settings, outcome, data and code, provenance."""
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

FLAT: Table[FlatTable] = Table("table")
FLAT.add(
    "runs",
    FlatTable(
        description="one row a run: settings, outcome, provenance",
        columns={
            "key": "str",
            **_types(Experiment),
            **{name: _types(Record)[name] for name in _RUN},
            **_types(Provenance),
        },
        rows=lambda record: [run_row(record)],
    ),
)
FLAT.add(
    "curves",
    FlatTable(
        description="one row an epoch of a run: losses and accuracies",
        columns={"key": "str", **_types(Point)},
        rows=_curve_rows,
    ),
)
FLAT.add(
    "probes",
    FlatTable(
        description="one row a hidden layer of a probe, and one without a layer for what was measured over all of them",
        columns={
            "key": "str",
            **{name: _types(Probe)[name] for name in ("step", "epoch", "units")},
            "layer": "int | None",
            **dict.fromkeys((*_BOTH, *_LAYERS_ONLY), "float | None"),
        },
        rows=_probe_rows,
    ),
)


def write_csv(path: Path, table: FlatTable, records: Iterable[Record]) -> None:
    """Write records as CSV with a heading; what is not known is left empty, floats are exact."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table.columns), restval=None, lineterminator="\n")
        writer.writeheader()
        for record in records:
            writer.writerows(table.rows(record))


def write_parquet(path: Path, table: FlatTable, records: Iterable[Record]) -> None:
    """Write records as Parquet, one typed column a name.

    Raises:
        StoreError: pyarrow, which does it, is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise StoreError("Parquet needs pyarrow: pip install -e '.[results]' in the clone, or export .csv") from None
    kinds = {"str": pyarrow.string(), "int": pyarrow.int64(), "float": pyarrow.float64(), "bool": pyarrow.bool_()}
    schema = pyarrow.schema([(name, kinds[kind.removesuffix(" | None")]) for name, kind in table.columns.items()])
    with parquet.ParquetWriter(path, schema) as writer:
        for record in records:
            rows = list(table.rows(record))
            if rows:
                writer.write_batch(pyarrow.RecordBatch.from_pylist(rows, schema))
