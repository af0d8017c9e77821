"""The task cache: shared objects, eviction, and summaries."""

from __future__ import annotations

from typing import Any

import pytest

from mdfa_core.data import ArraySplit, Task, TaskCache, cache, load_task


def test_a_kept_task_is_the_very_same_and_its_facts_need_no_reading() -> None:
    kept = TaskCache()
    task = kept.load("digits", classes=2, seed=0)

    assert kept.load("digits", classes=2, seed=0) is task
    assert kept.load("digits", classes=2, seed=1) is not task
    counts = kept.summary("digits", classes=2, seed=0)
    fresh = load_task("digits", classes=2, seed=0)
    assert (counts.train, counts.checksum) == (len(fresh.train), fresh.checksum)


def test_what_was_not_used_for_longest_goes_first_and_one_task_stays() -> None:
    kept = TaskCache(memory_limit=1)
    first = kept.load("digits", classes=2, seed=0)
    second = kept.load("digits", classes=2, seed=1)

    assert kept.load("digits", classes=2, seed=1) is second
    assert kept.load("digits", classes=2, seed=0) is not first
    assert kept.summary("digits", classes=2, seed=1).checksum == second.checksum


def test_the_oldest_goes_not_the_one_that_was_just_used(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [load_task("digits", classes=2, seed=seed) for seed in range(3)]
    reads: list[tuple[int, Any, Any]] = []

    def read(name: str, *, seed: int, data_dir: Any, device: Any, **settings: Any) -> Task:
        reads.append((seed, data_dir, device))
        return tasks[seed]

    def size(task: Task) -> int:
        return sum(s.pixels.nbytes for s in (task.train, task.validation, task.test) if isinstance(s, ArraySplit))

    monkeypatch.setattr(cache, "load_task", read)
    kept = TaskCache("a/folder", "cpu", memory_limit=sum(map(size, tasks)) - 1)
    for seed in (0, 1, 0, 2, 0, 2, 1):  # 1 has to make room for 2, though 0 came first
        kept.load("digits", classes=2, seed=seed)

    assert reads == [(seed, "a/folder", "cpu") for seed in (0, 1, 2, 1)]
