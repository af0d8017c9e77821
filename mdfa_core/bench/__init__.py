"""The benchmark behind `mdfa bench`: training steps of this project beside PyTorch's, on one machine in one run.

`measure_host` measures the machine and `measure` runs the benchmarks in `BENCHMARKS`. `document` turns the results into
JSON, and `table` prints that.
"""

from mdfa_core.bench.benchmarks import BENCHMARKS, measure, workload_of
from mdfa_core.bench.floor import measure_host
from mdfa_core.bench.profiling import profile
from mdfa_core.bench.report import check_writable, document, profile_table, table, write
from mdfa_core.bench.settings import Settings

__all__ = [
    "BENCHMARKS",
    "Settings",
    "check_writable",
    "document",
    "measure",
    "measure_host",
    "profile",
    "profile_table",
    "table",
    "workload_of",
    "write",
]
