"""Labelled images: the data sets, and n-class tasks drawn from them by a seed."""

from mdfa_core.data.arrays import ArrayDataSet
from mdfa_core.data.cache import TaskCache, TaskFacts
from mdfa_core.data.source import ArrayImages, DataSet, Facts, Images
from mdfa_core.data.table import DATASETS, Description, check, describe, fetch
from mdfa_core.data.tasks import MEMORY_LIMIT, ArraySplit, Gathered, LazySplit, Split, Task, load_task

__all__ = [
    "DATASETS",
    "MEMORY_LIMIT",
    "ArrayDataSet",
    "ArrayImages",
    "ArraySplit",
    "DataSet",
    "Description",
    "Facts",
    "Gathered",
    "Images",
    "LazySplit",
    "Split",
    "Task",
    "TaskCache",
    "TaskFacts",
    "check",
    "describe",
    "fetch",
    "load_task",
]
