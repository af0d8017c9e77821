"""Calls on streams of their own: every one between a fork and a join. The streams are pretended; no GPU is needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from mdfa_core.compute import streams
from mdfa_core.compute.streams import side_by_side

CUDA = torch.device("cuda", 0)


class Pretended:
    """A stream that notes what it waits for and what is called on it."""

    log: list[tuple[str, str, object]]  # stream, verb, object
    current: list[Pretended]

    def __init__(self, device: torch.device) -> None:
        self.name = f"stream {len([entry for entry in self.log if entry[1] == 'made'])}"
        self.log.append((self.name, "made", device))

    def wait_stream(self, other: Pretended) -> None:
        self.log.append((self.name, "waits for", other.name))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str, object]]]:
    Pretended.log = []
    Pretended.current = [Pretended(CUDA)]
    Pretended.log.clear()

    @contextmanager
    def stream(chosen: Pretended) -> Iterator[None]:
        Pretended.current.append(chosen)
        try:
            yield
        finally:
            Pretended.current.pop()

    monkeypatch.setattr(torch.cuda, "Stream", Pretended)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Pretended.current[-1])
    monkeypatch.setattr(streams, "_owners", {})
    streams._made.cache_clear()
    yield Pretended.log
    streams._made.cache_clear()


def call(number: int) -> Tensor:
    Pretended.log.append((Pretended.current[-1].name, "calls", number))
    return torch.tensor(number)


def made(count: int) -> list[int]:
    return [int(result) for result in side_by_side([lambda n=n: call(n) for n in range(count)], CUDA)]


@pytest.mark.parametrize("count", [1, streams.STREAMS, 2 * streams.STREAMS + 1])
def test_every_call_lies_between_a_fork_and_a_join(count: int, log: list[tuple[str, str, object]]) -> None:
    Pretended.current[0].name = "own"
    assert made(count) == list(range(count))

    used = min(count, streams.STREAMS)
    events = [entry for entry in log if entry[1] != "made"]
    side = {name for name, verb, _ in events if verb == "calls"}
    assert len(side) == used
    assert "own" not in side
    assert {entry for entry in events[:used]} == {(name, "waits for", "own") for name in side}
    assert [entry[1:] for entry in events[used:-used]] == [("calls", number) for number in range(count)]
    assert set(events[-used:]) == {("own", "waits for", name) for name in side}


def test_a_call_that_fails_is_joined_too(log: list[tuple[str, str, object]]) -> None:
    Pretended.current[0].name = "own"

    def fails() -> Tensor:
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        side_by_side([lambda: call(0), fails], CUDA)
    assert [(name, verb) for name, verb, _ in log[-2:]] == [("own", "waits for")] * 2


def test_a_second_thread_stays_on_its_own_stream(log: list[tuple[str, str, object]]) -> None:
    made(2)
    log.clear()
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.extend(made(2)))
    thread.start()
    thread.join(60)
    assert results == [0, 1]
    assert {entry[1] for entry in log} == {"calls"}


def test_the_streams_of_a_thread_that_has_ended_are_free(log: list[tuple[str, str, object]]) -> None:
    thread = threading.Thread(target=made, args=(2,))
    thread.start()
    thread.join(60)
    log.clear()
    made(2)
    assert {entry[1] for entry in log} == {"waits for", "calls"}


def test_on_a_cpu_the_calls_are_plain(log: list[tuple[str, str, object]]) -> None:
    assert side_by_side([lambda: torch.tensor(1)], torch.device("cpu")) == [torch.tensor(1)]
    assert log == []
