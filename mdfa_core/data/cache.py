"""Tasks that many runs share: each is read once and kept while there is room."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch

from mdfa_core.data.tasks import MEMORY_LIMIT, ArraySplit, Task, load_task


@dataclass(frozen=True)
class TaskFacts:
    """What is worth knowing about a task that need not be in memory.

    Attributes:
        train: its training images.
        checksum: as `Task.checksum`.
    """

    train: int
    checksum: str


class TaskCache:
    """`load_task` with a memory; what is asked for again and still kept is the very same task.

    Args:
        data_dir: as `load_task` takes it.
        device: likewise.
        memory_limit: bytes of pixels of all kept tasks together; those not used for longest go first, and one stays in
            any case.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        device: str | torch.device = "cpu",
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        self.data_dir, self.device, self.memory_limit = data_dir, device, memory_limit
        self._tasks: OrderedDict[tuple[Any, ...], Task] = OrderedDict()
        self._facts: dict[tuple[Any, ...], TaskFacts] = {}

    def load(self, name: str, **settings: Any) -> Task:
        """The task `load_task(name, **settings)` gives with this cache's folder and device."""
        key = (name, *sorted(settings.items()))
        if key not in self._tasks:
            task = load_task(name, **settings, data_dir=self.data_dir, device=self.device)
            self._tasks[key] = task
            self._facts[key] = TaskFacts(len(task.train), task.checksum)
            while len(self._tasks) > 1 and sum(map(_pixels, self._tasks.values())) > self.memory_limit:
                self._tasks.popitem(last=False)
        self._tasks.move_to_end(key)
        return self._tasks[key]

    def facts(self, name: str, **settings: Any) -> TaskFacts:
        """The facts of that task; it is read only if it never was."""
        key = (name, *sorted(settings.items()))
        if key not in self._facts:
            self.load(name, **settings)
        return self._facts[key]


def _pixels(task: Task) -> int:
    """Bytes of a task's pixels in memory."""
    splits = (task.train, task.validation, task.test)
    return sum(split.pixels.nbytes for split in splits if isinstance(split, ArraySplit))
