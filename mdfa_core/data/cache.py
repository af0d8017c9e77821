"""A cache of tasks: runs that train on the same task share one copy in memory."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch

from mdfa_core.data.tasks import MEMORY_LIMIT, ArraySplit, Task, load_task


@dataclass(frozen=True)
class TaskSummary:
    """Facts about a task that remain known after the task has left the cache.

    Attributes:
        train: number of training images.
        checksum: see `Task.checksum`.
    """

    train: int
    checksum: str


class TaskCache:
    """`load_task` with a least-recently-used cache.

    Args:
        data_dir: see `load_task`.
        device: see `load_task`.
        memory_limit: bytes of pixels that all cached tasks may take. If they take more, the least recently used task is
            dropped. The latest task always stays.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        device: str | torch.device = "cpu",
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        self.data_dir, self.device, self.memory_limit = data_dir, device, memory_limit
        self._tasks: OrderedDict[tuple[Any, ...], Task] = OrderedDict()
        self._summaries: dict[tuple[Any, ...], TaskSummary] = {}

    def load(self, name: str, **settings: Any) -> Task:
        """`load_task(name, **settings)` with this cache's data folder and device: the same object while cached."""
        key = (name, *sorted(settings.items()))
        if key not in self._tasks:
            task = load_task(name, **settings, data_dir=self.data_dir, device=self.device)
            self._tasks[key] = task
            self._summaries[key] = TaskSummary(len(task.train), task.checksum)
            while len(self._tasks) > 1 and sum(map(_pixels, self._tasks.values())) > self.memory_limit:
                self._tasks.popitem(last=False)
        self._tasks.move_to_end(key)
        return self._tasks[key]

    def summary(self, name: str, **settings: Any) -> TaskSummary:
        """The summary of the task. The task is loaded only if it never was before."""
        key = (name, *sorted(settings.items()))
        if key not in self._summaries:
            self.load(name, **settings)
        return self._summaries[key]


def _pixels(task: Task) -> int:
    """Bytes of a task's pixels in memory."""
    splits = (task.train, task.validation, task.test)
    return sum(split.pixels.nbytes for split in splits if isinstance(split, ArraySplit))
