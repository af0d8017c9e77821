"""Labelled images: the data sets, and classification tasks of n random classes drawn from them by a seed.

`load_task` is the entry: it returns the training, validation and test split of a task. Add a data set of your own with
`DATASETS.add(name, ArrayDataSet(...))`, or with a subclass of `DataSet`.
"""

from mdfa_core.data.arrays import ArrayDataSet
from mdfa_core.data.cache import TaskCache, TaskSummary
from mdfa_core.data.datasets import DATASETS, Description, check, describe, fetch
from mdfa_core.data.own_file import from_file
from mdfa_core.data.source import ArrayImages, Counts, DataSet, Images
from mdfa_core.data.tasks import MEMORY_LIMIT, ArraySplit, LazySplit, Split, StackedSplits, Task, load_task

__all__ = [
    "DATASETS",
    "MEMORY_LIMIT",
    "ArrayDataSet",
    "ArrayImages",
    "ArraySplit",
    "Counts",
    "DataSet",
    "Description",
    "Images",
    "LazySplit",
    "Split",
    "StackedSplits",
    "Task",
    "TaskCache",
    "TaskSummary",
    "check",
    "describe",
    "fetch",
    "from_file",
    "load_task",
]
