"""Many runs: train those that are missing, keep every finished one, and choose settings by search.

Example:
    from mdfa_core import Experiment
    from mdfa_core.runs import Store, Sweep

    with Store("runs.sqlite") as store:
        sweep = Sweep([Experiment(seed=seed) for seed in range(5)], store=store, test=True)
        for advance in sweep:
            print(advance.done, "of", advance.total)
        accuracies = [record.test_accuracy for record in sweep.records()]

Record, Recorder    one finished run as a value, and the listener that makes it from a run's events
Store               finished runs and notes in one SQLite file; merge and export
Sweep, Advance      train the experiments that a store does not have
schedule            several sweeps on the same workers
Job, Workers, InProcess
                    one replica stack to train, and the workers that train it
Search, Round        tuning by successive halving on validation images
CellNote, SearchNote
                    what a store keeps about cells of tables and about searches
FLAT                flat tables of records, for CSV and Parquet

Modules: `records`, `export`, `notes`, `exchange` and `store` keep runs; `workers`, `cluster` (Dask, imported only when
used), `capacity`, `packing`, `timing`, `scheduling`, `sweep` and `tuning` train them.
"""

from mdfa_core.runs.export import FLAT
from mdfa_core.runs.notes import CellNote, Round, SearchNote
from mdfa_core.runs.records import Record, Recorder
from mdfa_core.runs.scheduling import Advance, schedule
from mdfa_core.runs.store import Store
from mdfa_core.runs.sweep import Sweep
from mdfa_core.runs.tuning import Search
from mdfa_core.runs.workers import InProcess, Job, Workers

__all__ = [
    "FLAT",
    "Advance",
    "CellNote",
    "InProcess",
    "Job",
    "Record",
    "Recorder",
    "Round",
    "Search",
    "SearchNote",
    "Store",
    "Sweep",
    "Workers",
    "schedule",
]
