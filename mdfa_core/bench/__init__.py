"""The benchmark: this project beside what a user would run instead, on the same machine in the same run."""

from mdfa_core.bench.profiling import profile
from mdfa_core.bench.report import document, profile_table, refuse_unwritable, table, write
from mdfa_core.bench.rows import ROWS, measure, profiled
from mdfa_core.bench.settings import Settings

__all__ = [
    "ROWS",
    "Settings",
    "document",
    "measure",
    "profile",
    "profile_table",
    "profiled",
    "refuse_unwritable",
    "table",
    "write",
]
