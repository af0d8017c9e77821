"""The trainer beside the event loop, without a page."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from mdfa_app.settings.availability import DOWNLOADS, missing
from mdfa_app.settings.limits import Limits, server_memory
from mdfa_app.settings.rules import rules
from mdfa_app.settings.speeds import SPEEDS
from mdfa_app.trainer import nets
from mdfa_app.trainer.messages import (
    Answer,
    Facts,
    Phase,
    Position,
    Refused,
    StageFrame,
    StageSignals,
    Status,
    Switched,
    Update,
)
from mdfa_app.trainer.pace import SHARE, Share
from mdfa_app.trainer.sharing import Memory, Slots
from mdfa_app.trainer.trainer import Trainer
from mdfa_core import Experiment, Run, train
from mdfa_core.base import machine
from mdfa_core.base.errors import DataError, InvalidValue
from mdfa_core.data import DATASETS
from mdfa_core.data.digits import Digits
from mdfa_core.stage import Look
from mdfa_core.training.events import Evaluated, Event, Finished, Probed, Progress, Started
from mdfa_core.training.inspection import Snapshot, SnapshotRequest
from tests.app.visits import at_once
from tests.support.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
SMALL = Experiment(network="fc:8,8", batch_size=64, epochs=2000, learning_rate=0.01)


class Watched:
    """A trainer with a page that takes everything and remembers it."""

    def __init__(self, wait_until: Callable[..., None], **shared: object) -> None:
        self.wait_until = wait_until
        self.lock = threading.Lock()
        self.updates: list[Update] = []
        self.trainer = Trainer(self.take, **shared)  # type: ignore[arg-type]
        self.trainer.set_speed(SPEEDS["max"])

    def prepare(self, experiment: Experiment, *names: str, start: bool = False) -> int:
        chosen = [rules()[name] for name in names or (experiment.method,)]
        return self.trainer.prepare(experiment, chosen, start=start)

    def take(self) -> None:
        with self.lock:
            self.updates.extend(self.trainer.take())

    def run(self, lane: str) -> Run:
        return self.trainer.nets[lane].run

    @property
    def states(self) -> list[Phase]:
        return [update.content.phase for update in list(self.updates) if isinstance(update.content, Status)]

    @property
    def message(self) -> str:
        return [update.content.message for update in self.updates if isinstance(update.content, Status)][-1]

    def events(self, kind: type[Any], run: int | None = None, lane: str | None = None) -> list[Any]:
        return [
            u.content
            for u in list(self.updates)
            if isinstance(u.content, kind) and run in (None, u.comparison) and lane in (None, u.lane)
        ]

    def until(self, state: Phase) -> None:
        self.wait_until(lambda: bool(self.states) and self.states[-1] is state, f"state {state}")

    def trains(self) -> None:
        """Wait for the first mini-batches: before them, Pause leads to the state IDLE."""
        self.wait_until(lambda: bool(self.events(Progress)), "the first mini-batches")

    def at_rest(self) -> None:
        self.wait_until(lambda: self.trainer.join(0), "the end of the thread")


@pytest.fixture
def watched(wait_until: Callable[..., None]) -> Iterator[Watched]:
    made = Watched(wait_until, slots=Slots(1), memory=Memory(lambda: 2**30))
    yield made
    made.trainer.close()
    assert made.trainer.join(PATIENCE)


def test_prepares_without_training(watched: Watched) -> None:
    number = watched.prepare(SMALL)
    watched.until(Phase.IDLE)
    (facts,) = (update.content for update in watched.updates if isinstance(update.content, Facts))
    assert facts.class_names == ("2", "8")
    assert sorted(facts.scene.labels) == [0, 0, 0, 1, 1, 1]
    frames = {update.lane for update in watched.updates if isinstance(update.content, StageFrame)}
    assert frames == {"mdfa"}
    assert facts.steps_per_epoch == 3
    assert watched.states == [Phase.PREPARING, Phase.IDLE]
    assert {update.comparison for update in watched.updates} == {number}
    assert not watched.events(Event)
    watched.at_rest()


def test_pause_is_answered_before_the_last_pictures_are_made(watched: Watched) -> None:
    watched.prepare(SMALL, "mdfa", "bp", start=True)
    watched.trains()
    watched.trainer.pause()
    watched.until(Phase.PAUSED)
    watched.at_rest()
    contents = [update.content for update in watched.updates]
    paused = max(at for at, content in enumerate(contents) if content == Status(Phase.PAUSED))
    after = [update.lane for update in watched.updates[paused:] if isinstance(update.content, StageFrame)]
    assert sorted(after) == ["bp", "mdfa"]


def test_training_that_goes_on_does_not_wait_for_the_last_pictures(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.prepare(SMALL, "mdfa", "bp", "dfa", start=True)
    watched.trains()
    taken: list[str] = []
    frame = nets.Net.frame

    def slow(net: nets.Net, *, whole: bool = True) -> bytes:
        if whole and not watched.trainer.closed:
            taken.append(net.rule.name)
            watched.trainer.start()  # the visitor presses Continue while the picture is made
        return frame(net, whole=whole)

    monkeypatch.setattr(nets.Net, "frame", slow)
    watched.trainer.pause()
    watched.wait_until(lambda: watched.states[-2:] == [Phase.PAUSED, Phase.RUNNING], "training goes on")
    assert len(taken) == 1  # not of all three networks


def test_starts_pauses_goes_on_and_finishes(watched: Watched) -> None:
    watched.prepare(SMALL.replace(epochs=300), start=True)
    watched.trains()
    watched.trainer.pause()
    watched.until(Phase.PAUSED)
    watched.at_rest()
    stopped_at = max(event.step for event in watched.events(Event))
    watched.trainer.start()
    watched.until(Phase.FINISHED)
    assert len(watched.events(Started)) == 1
    (finished,) = watched.events(Finished)
    assert finished.step == 900 > stopped_at
    assert [e.epoch for e in watched.events(Evaluated)] == list(range(1, 301)), "no event is lost or told twice"
    assert watched.events(Progress)
    assert watched.events(Probed)
    watched.at_rest()


def test_steps_one_mini_batch(watched: Watched) -> None:
    watched.prepare(SMALL)
    for step in (1, 2, 3):
        watched.trainer.step()
        watched.at_rest()
        assert [event.step for event in watched.events(Progress)][-1] == step
        assert [event.step for event in watched.events(Probed)][-1] == step
        assert watched.states[-1] is Phase.PAUSED


def test_stepping_to_the_end_finishes(watched: Watched) -> None:
    watched.prepare(SMALL.replace(epochs=1))
    watched.trainer.step(3)
    watched.until(Phase.FINISHED)
    assert len(watched.events(Finished)) == 1


def test_a_finished_run_was_measured_at_its_end(watched: Watched) -> None:
    watched.prepare(SMALL.replace(epochs=100), "bp", "mdfa", start=True)
    watched.until(Phase.FINISHED)
    for lane in ("bp", "mdfa"):
        steps = [event.step for event in watched.events(Probed, lane=lane)]
        assert steps[-1] == 300
        assert len(steps) == len(set(steps)) < 300, "at full speed not every mini-batch is measured"


def test_a_new_run_reslots_the_old_one_and_repeats_it(watched: Watched) -> None:
    runs = []
    for _ in range(2):
        runs.append(watched.prepare(SMALL))
        watched.trainer.step(5)
        watched.at_rest()
    first, second = ([dataclasses.astuple(e) for e in watched.events(Progress, run)] for run in runs)
    assert first == second
    assert len(first) == 5


def test_nothing_of_an_old_run_is_told_after_the_new_one_was_asked_for(watched: Watched) -> None:
    watched.prepare(SMALL, start=True)
    watched.until(Phase.RUNNING)
    number = watched.prepare(SMALL.replace(method="fa"), start=True)
    watched.wait_until(lambda: bool(watched.events(Progress, number)), "progress of the new run")
    runs = [update.comparison for update in watched.updates]
    assert set(runs[runs.index(number) :]) == {number}


def test_pausing_what_has_not_begun_leaves_it_ready(watched: Watched) -> None:
    watched.prepare(SMALL, start=True)
    watched.trainer.pause()
    watched.at_rest()
    assert watched.states[-1] in (Phase.IDLE, Phase.PAUSED)


def test_learning_rate_changes_as_it_runs(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(nets.Run, "set_learning_rate", lambda run, rate: rates.append(rate))
    watched.prepare(SMALL)
    watched.trainer.step(2)
    watched.at_rest()
    run = watched.run("mdfa")
    watched.trainer.set_learning_rate(0.5)
    watched.trainer.step()
    watched.at_rest()
    assert watched.run("mdfa") is run
    assert rates == [0.5]
    assert run.step == 3
    with pytest.raises(InvalidValue, match="learning rate"):
        watched.trainer.set_learning_rate(-1)


def test_speed_bounds_the_steps_and_changes_as_it_runs(watched: Watched) -> None:
    watched.trainer.set_speed(SPEEDS["slow"])
    watched.prepare(SMALL.replace(epochs=100), start=True)
    watched.wait_until(lambda: len(watched.events(Progress)) >= 3, "three mini-batches")
    slow = watched.events(Progress)
    assert [event.step for event in slow][:3] == [1, 2, 3], "slow shows every mini-batch"
    watched.trainer.set_speed(SPEEDS["max"])  # 300 mini-batches would take over a minute
    watched.until(Phase.FINISHED)
    assert len(watched.events(Started)) == 1


def test_divergence_is_a_state_of_its_own(watched: Watched) -> None:
    huge = SMALL.replace(activation="relu", forward_init="normal:1e30", method="bp")
    watched.prepare(huge, start=True)
    watched.until(Phase.DIVERGED)
    run = next(iter(watched.trainer.nets.values())).run
    largest = huge.replace(batch_size=len(run.tasks[0].train), epochs=1)  # the last mini-batch is the first one
    watched.prepare(largest)
    watched.until(Phase.IDLE)
    watched.trainer.start()
    watched.until(Phase.DIVERGED)
    watched.at_rest()


def test_an_error_becomes_a_failed_state_with_its_sentence(watched: Watched) -> None:
    watched.prepare(SMALL.replace(batch_size=500), start=True)
    watched.until(Phase.FAILED)
    assert "the batch size is 500, but a task has only" in watched.message
    watched.at_rest()
    watched.prepare(SMALL)  # and the session lives on
    watched.until(Phase.IDLE)


def test_an_unexpected_error_becomes_a_failed_state(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_kwargs: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(nets, "Run", broken)
    watched.prepare(SMALL, start=True)
    watched.until(Phase.FAILED)
    assert "ZeroDivisionError" in watched.message
    assert watched.trainer.memory.taken == 0
    watched.at_rest()


def test_closing_ends_the_thread_and_gives_everything_back(watched: Watched, trainers: Callable[[], int]) -> None:
    before = trainers()
    watched.prepare(SMALL, start=True)
    watched.until(Phase.RUNNING)
    assert trainers() == before + 1
    assert watched.trainer.memory.taken > 0
    watched.trainer.close()
    assert watched.trainer.join(PATIENCE)
    assert trainers() == before
    assert watched.trainer.memory.taken == 0
    watched.trainer.start()  # of no effect any more
    assert trainers() == before


def test_an_interpreter_that_ends_while_training_ends_cleanly() -> None:
    program = (
        "import time; from mdfa_app.settings.speeds import SPEEDS; from mdfa_app.settings.rules import rules\n"
        "from mdfa_app.trainer.trainer import Trainer\n"
        "from mdfa_core import Experiment\n"
        "trainer = Trainer(lambda: trainer.take()); trainer.set_speed(SPEEDS['max'])\n"
        "trainer.prepare(Experiment(epochs=2000), [rules()['mdfa']], start=True)\n"
        "while not trainer.nets or trainer.nets['mdfa'].run.step < 5: time.sleep(0.01)\n"
    )
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (outcome.returncode, outcome.stderr) == (0, "")


def test_closing_wakes_a_slow_thread_and_one_whose_page_takes_nothing(trainers: Callable[[], int]) -> None:
    before = trainers()
    trainer = Trainer(lambda: None, slots=Slots(1), memory=Memory(lambda: 2**30))
    trainer.set_speed(SPEEDS["max"])
    trainer.prepare(SMALL, [rules()["mdfa"]], start=True)
    trainer.close()
    assert trainer.join(PATIENCE)
    assert trainers() == before


def test_who_finds_no_place_is_queued_and_served_in_order(wait_until: Callable[..., None]) -> None:
    slots = Slots(1)
    first, second, third = (Watched(wait_until, slots=slots, memory=Memory(lambda: 2**30)) for _ in range(3))
    try:
        first.prepare(SMALL, start=True)
        first.until(Phase.RUNNING)
        second.prepare(SMALL, start=True)
        second.until(Phase.QUEUED)
        assert "You are next" in second.message
        third.prepare(SMALL, start=True)
        third.until(Phase.QUEUED)
        assert "1 before you" in third.message
        second.trainer.pause()
        second.until(Phase.PAUSED)
        wait_until(lambda: "next" in third.message, "the queue's advance")
        first.trainer.close()
        third.until(Phase.RUNNING)
    finally:
        for one in (first, second, third):
            one.trainer.close()
            assert one.trainer.join(PATIENCE)
    assert slots.taken == 0
    assert slots.waiting == 0


def test_a_long_turn_ends_when_others_wait(wait_until: Callable[..., None]) -> None:
    slots, limits = Slots(1), Limits(turn_seconds=0.2)
    both = [Watched(wait_until, slots=slots, memory=Memory(lambda: 2**30), limits=limits) for _ in range(2)]
    try:
        for one in both:
            one.prepare(SMALL, start=True)
        for one in both:
            wait_until(lambda one=one: one.states.count(Phase.RUNNING) >= 2, "a second turn")
    finally:
        for one in both:
            one.trainer.close()
            assert one.trainer.join(PATIENCE)


def test_memory_that_others_hold_is_refused(wait_until: Callable[..., None]) -> None:
    memory = Memory(lambda: 2**30)
    memory.reserve(2**30)
    watched = Watched(wait_until, slots=Slots(1), memory=memory)
    watched.prepare(SMALL)
    watched.until(Phase.FAILED)
    assert watched.message.startswith("the other visitors' runs fill this server's memory: ")
    assert memory.taken == 2**30


def test_a_run_that_never_fits_is_refused_and_ends_nobodys_page(wait_until: Callable[..., None]) -> None:
    memory = Memory(lambda: 10)
    memory.make_room = lambda: pytest.fail("a page was ended for nothing")
    watched = Watched(wait_until, slots=Slots(1), memory=memory)
    watched.prepare(SMALL)
    watched.until(Phase.FAILED)
    assert re.fullmatch(r"this run needs about \d+ MiB, and this server has 0 MiB for all runs: .*", watched.message)
    assert memory.taken == 0


def test_pages_are_ended_one_by_one_until_a_run_fits() -> None:
    memory = Memory(lambda: 100)
    abandoned = [10, 40, 30]  # bytes of pages whose visitors have gone
    memory.reserve(sum(abandoned) + 15)  # and of one whose visitor is there

    def end_one() -> bool:
        if abandoned:  # a thread of its own gives the memory back, a little later
            threading.Timer(0.05, memory.release, [abandoned.pop(0)]).start()
            return True
        return False

    memory.make_room = end_one
    memory.reserve(50)
    assert abandoned == [30]
    memory.reserve(20)
    with pytest.raises(InvalidValue, match=r"fill this server's memory"):
        memory.reserve(80)
    memory.free = lambda: 9  # another program has taken the rest
    with pytest.raises(InvalidValue, match=r"fill this server's memory"):
        memory.reserve(10)
    assert (abandoned, memory.taken) == ([], 15 + 50 + 20)


def test_the_memory_of_runs_is_half_of_what_the_server_could_have(monkeypatch: pytest.MonkeyPatch) -> None:
    own = psutil.Process().memory_info().rss
    monkeypatch.setattr(machine, "free_memory", lambda: 10 * own)
    assert server_memory() == pytest.approx(5.5 * own, rel=0.1)
    assert Limits().run_bytes == 2**30  # on a machine of any size
    monkeypatch.setattr(machine, "free_memory", lambda: own)
    assert Limits().run_bytes == pytest.approx(min(2**30, own / 2), rel=0.1)
    monkeypatch.setattr(machine, "free_memory", lambda: 0)  # another program has taken the rest
    assert server_memory() == pytest.approx(own / 2, rel=0.1)


def test_nothing_is_fetched_before_start(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def fetch(*_args: object, **_kwargs: object) -> None:
        fetched.append(1)
        raise DataError("there is no way to fetch it here: try later")

    remote = dataclasses.replace(Digits(), title="Remote digits", bundled=False)
    monkeypatch.setattr(Digits, "fetch", fetch)
    DATASETS.add("remote", remote)
    try:
        assert "Remote digits is not on this server yet" in str(missing("remote"))
        watched.prepare(SMALL.replace(data="remote"))
        watched.until(Phase.IDLE)
        assert "Remote digits is not on this server yet" in watched.message
        watched.at_rest()
        assert not fetched
        watched.trainer.start()
        watched.until(Phase.FAILED)
        assert fetched
        assert any(
            "Downloading Remote digits" in u.content.message for u in watched.updates if isinstance(u.content, Status)
        )
        assert "there is no way to fetch it here" in watched.message
        fetched.clear()
        monkeypatch.setenv(DOWNLOADS, "0")
        watched.prepare(SMALL.replace(data="remote"))
        watched.until(Phase.IDLE)
        watched.trainer.start()
        watched.until(Phase.FAILED)
        assert watched.message == (
            "Remote digits is not on this server: choose other data, or ask whoever serves this page for it."
        )
        assert not fetched
    finally:
        DATASETS.remove("remote")


# ------------------------------------------------------------------------------------------------ several rules at once


def test_rules_are_compared_on_the_same_mini_batches_in_lockstep(watched: Watched) -> None:
    names = ("bp", "fa", "dfa", "mdfa", "mdfa-free")
    watched.prepare(SMALL.replace(epochs=3), *names, start=True)
    watched.until(Phase.FINISHED)
    for name in names:
        alone = [e for e in train(rules()[name].experiment(SMALL.replace(epochs=3)), device="cpu")]
        told = watched.events(Evaluated, lane=name)
        assert [e.epoch for e in told] == [1, 2, 3]
        if name != "mdfa-free":
            assert told == [e for e in alone if isinstance(e, Evaluated)], (
                "a net in a comparison learns as it does alone"
            )
    order = [u.lane for u in watched.updates if isinstance(u.content, Evaluated)]
    assert order == list(names) * 3, "no net is ahead of another by an epoch"
    probes = [[e.step for e in watched.events(Probed, lane=name)] for name in names]
    assert probes == [probes[0]] * len(names), "all are measured on the same mini-batches"


def test_a_step_is_a_step_of_every_net(watched: Watched) -> None:
    watched.prepare(SMALL, "bp", "mdfa")
    for count, end in ((1, 1), (10, 11), (3, 14)):
        watched.trainer.step(count)
        watched.at_rest()
        assert [watched.run(name).step for name in ("bp", "mdfa")] == [end, end]
        assert watched.events(Position)[-1].step == end


def test_steps_that_are_asked_for_as_others_are_made_come_to_them(watched: Watched) -> None:
    watched.prepare(SMALL, "bp", "mdfa")
    watched.trainer.step(20)
    watched.wait_until(lambda: bool(watched.events(Position)), "the first of them")
    for _ in range(4):
        watched.trainer.step(20)
    watched.trainer.set_rules([rules()["bp"], rules()["fa"]])
    watched.at_rest()
    assert [watched.run(name).step for name in ("bp", "fa")] == [100, 100]
    watched.trainer.step(1000)
    watched.trainer.pause()
    watched.trainer.step(1)
    watched.at_rest()
    assert watched.run("bp").step < 1100, "a pause takes back what is left"


def test_a_rule_that_comes_later_catches_up_and_one_that_goes_gives_its_memory_back(watched: Watched) -> None:
    watched.prepare(SMALL, "bp", "mdfa")
    watched.trainer.step(20)
    watched.at_rest()
    taken = watched.trainer.memory.taken
    bp = watched.run("bp")
    watched.trainer.set_rules([rules()["bp"], rules()["fa"]])
    watched.at_rest()
    assert watched.run("bp") is bp
    assert bp.step == watched.run("fa").step == 20
    assert watched.events(Position)[-1].caught_up == ("bp", "fa")
    assert set(watched.trainer.nets) == {"bp", "fa"}
    assert 0 < watched.trainer.memory.taken <= 1.5 * taken
    assert watched.states[-1] is Phase.PAUSED
    alone = Run(SMALL.replace(method="fa"), device="cpu")
    list(alone.events(steps=20))
    assert all(map(torch.equal, alone.learner.parameters.tensors(), watched.run("fa").learner.parameters.tensors()))


def test_a_rule_that_goes_and_comes_back_within_a_round_begins_anew(watched: Watched) -> None:
    both, one = [rules()["bp"], rules()["mdfa"]], [rules()["bp"]]
    watched.prepare(SMALL, "bp", "mdfa")
    watched.trainer.step(20)
    watched.at_rest()
    taken = watched.trainer.memory.taken
    watched.trainer.switch("mdfa", rules()["bp"])
    watched.at_rest()
    before = watched.run("mdfa")
    with at_once(watched.trainer):
        watched.trainer.set_rules(one)
        watched.trainer.set_rules(both)
    watched.at_rest()
    run = watched.run("mdfa")
    assert run is not before
    assert run.learner.method is rules()["mdfa"].method
    assert run.step == watched.run("bp").step == 20
    assert watched.trainer.memory.taken == taken
    alone = Run(SMALL, device="cpu")
    list(alone.events(steps=20))
    assert all(map(torch.equal, alone.learner.parameters.tensors(), run.learner.parameters.tensors()))


def test_nothing_of_an_old_net_is_told_after_its_rule_came_back(watched: Watched) -> None:
    watched.prepare(SMALL, "bp", "mdfa", start=True)
    watched.wait_until(lambda: len(watched.events(Progress, lane="mdfa")) > 5, "progress")
    with watched.lock, at_once(watched.trainer):
        watched.updates.clear()
        watched.trainer.set_rules([rules()["bp"]])
        watched.trainer.set_rules([rules()["bp"], rules()["mdfa"]])
    watched.wait_until(lambda: bool(watched.events(Progress, lane="mdfa")), "progress of the new net")
    assert isinstance(watched.events(Event, lane="mdfa")[0], Started)


def test_the_free_rule_starts_from_the_weights_of_an_unconstrained_one(watched: Watched) -> None:
    watched.prepare(SMALL, "dfa", "mdfa-free", "mdfa")
    watched.at_rest()
    free, dfa, mono = (watched.run(name).learner for name in ("mdfa-free", "dfa", "mdfa"))
    assert all(map(torch.equal, free.parameters.weights, dfa.parameters.weights))
    assert all(map(torch.equal, free.feedback, mono.feedback))


def test_a_net_goes_on_by_another_rule_with_its_weights(watched: Watched) -> None:
    watched.prepare(SMALL, "mdfa", "fa")
    watched.trainer.step(5)
    watched.at_rest()
    before = watched.run("mdfa").learner.parameters.clone()
    watched.trainer.switch("mdfa", rules()["fa"])
    watched.at_rest()
    run = watched.run("mdfa")
    assert run.learner.method is rules()["fa"].method
    assert all(map(torch.equal, run.learner.parameters.tensors(), before.tensors()))
    assert run.step == 5
    watched.trainer.step(5)
    watched.at_rest()
    assert run.step == 10


def test_a_switch_that_its_rule_cannot_make_is_refused(watched: Watched) -> None:
    watched.prepare(SMALL.replace(feedback_init="uniform:0.001"), "bp")
    watched.trainer.step(5)
    watched.at_rest()
    taken = watched.trainer.memory.taken
    watched.trainer.switch("bp", rules()["mdfa"])
    watched.at_rest()
    (refused,) = watched.events(Refused)
    assert "choose a larger scale" in refused.reason
    assert not watched.events(Switched)
    assert watched.run("bp").learner.method is rules()["bp"].method
    assert watched.trainer.memory.taken == taken


def test_a_switch_keeps_to_the_bounds_and_is_counted(wait_until: Callable[..., None]) -> None:
    settings, memory = SMALL.replace(optimizer="adam", outputs=10), Memory(lambda: 2**30)
    small, large = (Limits().check(settings.replace(method=name)) for name in ("bp", "kp"))
    assert small < large
    limits = Limits(run_bytes=small + large)
    watched = Watched(wait_until, slots=Slots(1), memory=memory, limits=limits)
    watched.prepare(settings, "bp", "usf")
    for lane in ("bp", "usf"):
        watched.trainer.switch(lane, rules()["kp"])
    watched.at_rest()
    (refused,) = watched.events(Refused)
    assert "these 2 networks would need about" in refused.reason
    assert watched.events(Switched, lane="bp") == [Switched(rules()["kp"])]
    assert not watched.events(Switched, lane="usf")
    assert memory.taken == small + large
    watched.trainer.switch("bp", rules()["bp"])
    watched.at_rest()
    assert memory.taken == 2 * small
    memory.limit = lambda: 2 * small
    watched.trainer.switch("bp", rules()["kp"])
    watched.at_rest()
    assert "fill this server's memory" in watched.events(Refused)[-1].reason
    watched.trainer.close()
    assert watched.trainer.join(PATIENCE)
    assert memory.taken == 0


def test_a_net_at_its_end_or_not_made_is_not_switched(watched: Watched) -> None:
    watched.prepare(SMALL.replace(epochs=1), start=True)
    watched.until(Phase.FINISHED)
    watched.trainer.switch("mdfa", rules()["fa"])
    watched.trainer.switch("bp", rules()["fa"])
    watched.at_rest()
    assert not watched.events(Switched)
    assert [refused.reason.partition(":")[0] for refused in watched.events(Refused)] == [
        "the mDFA network has finished",
        "this network does not exist yet",
    ]


def test_a_switch_waits_for_its_net_and_goes_with_it(watched: Watched) -> None:
    both, one = [rules()["bp"], rules()["fa"]], [rules()["bp"]]
    watched.prepare(SMALL, "bp", start=True)
    watched.until(Phase.RUNNING)
    with at_once(watched.trainer):
        watched.trainer.set_rules(both)
        watched.trainer.switch("fa", rules()["dfa"])
    watched.wait_until(lambda: bool(watched.events(Switched, lane="fa")), "the switch of the new net")
    assert watched.run("fa").learner.method is rules()["dfa"].method
    with watched.lock, at_once(watched.trainer):
        watched.updates.clear()
        watched.trainer.switch("fa", rules()["mdfa"])
        watched.trainer.set_rules(one)
        watched.trainer.set_rules(both)
    watched.wait_until(lambda: bool(watched.events(Progress, lane="fa")), "progress of another new net")
    assert watched.run("fa").learner.method is rules()["fa"].method
    assert not watched.events(Switched)


def test_who_waits_for_a_place_is_served_otherwise(wait_until: Callable[..., None]) -> None:
    slots = Slots(1)
    first, second = (Watched(wait_until, slots=slots, memory=Memory(lambda: 2**30)) for _ in range(2))
    try:
        first.prepare(SMALL, start=True)
        first.until(Phase.RUNNING)
        second.prepare(SMALL, start=True)
        second.until(Phase.QUEUED)
        second.trainer.switch("mdfa", rules()["fa"])
        wait_until(lambda: bool(second.events(Switched)), "the switch")
        assert second.states[-1] is Phase.QUEUED
        with at_once(second.trainer):  # the second of these is about what is made for the first
            second.trainer.set_rules([rules()["mdfa"], rules()["bp"]])
            second.trainer.switch("bp", rules()["dfa"])
        wait_until(lambda: bool(second.events(Switched, lane="bp")), "the switch of a net that is made first")
        assert not second.events(Refused)
    finally:
        for one in (first, second):
            one.trainer.close()
            assert one.trainer.join(PATIENCE)


def test_a_question_is_answered_between_two_mini_batches(watched: Watched) -> None:
    answers: list[int] = []

    def refuse(run: Run) -> None:
        raise InvalidValue("there is no such thing: ask for another")

    watched.prepare(SMALL, start=True)
    watched.until(Phase.RUNNING)
    watched.trainer.ask("mdfa", lambda run: run.step, answers.append)
    watched.trainer.ask("nobody", lambda run: run.step, answers.append)
    watched.trainer.ask("mdfa", refuse, answers.append)
    watched.wait_until(lambda: bool(watched.events(Refused)), "the refusal")
    (answer,) = watched.events(Answer)
    assert answer.deliver == answers.append
    assert answer.value >= 0
    assert watched.events(Refused) == [Refused("there is no such thing: ask for another")]
    assert watched.states[-1] is Phase.RUNNING
    sentences: list[str] = []
    watched.trainer.ask("nobody", lambda run: run.step, answers.append, sentences.append)
    watched.trainer.ask("mdfa", refuse, answers.append, sentences.append)
    watched.wait_until(lambda: len(watched.events(Answer)) == 3, "both refusals")
    for told in watched.events(Answer)[1:]:
        told.deliver(told.value)
    assert sentences[0].startswith("this network does not exist yet")
    assert sentences[1] == "there is no such thing: ask for another"
    assert len(watched.events(Refused)) == 1


def test_snapshots_are_handed_over_at_once_as_it_runs_and_no_more(watched: Watched) -> None:
    watched.prepare(SMALL)
    watched.trainer.watch("mdfa", SnapshotRequest(weights=True))
    watched.at_rest()
    (first,) = watched.events(Snapshot)
    assert first.step == 0
    assert first.histograms is not None
    watched.trainer.step(5)
    watched.at_rest()
    assert watched.events(Snapshot)[-1].step == 5
    watched.trainer.watch("mdfa", SnapshotRequest(example=10**9))
    watched.at_rest()
    (refused,) = watched.events(Refused)
    assert "training image" in refused.reason
    watched.trainer.watch("mdfa", None)
    count = len(watched.events(Snapshot))
    watched.trainer.step(5)
    watched.at_rest()
    assert len(watched.events(Snapshot)) == count


def test_a_unit_is_answered_for_at_once_with_the_frames_and_no_more(watched: Watched) -> None:
    watched.prepare(SMALL, "mdfa", "dfa", start=True)
    watched.trains()
    watched.trainer.pause()
    watched.at_rest()
    assert watched.events(StageSignals) == []
    watched.trainer.look(Look("dfa", 1, 5))
    watched.at_rest()
    (first,) = watched.events(StageSignals, lane="dfa")
    assert (first.data["row"], first.data["layer"], first.data["unit"]) == ("dfa", 1, 5)
    assert first.data["step"] == watched.run("dfa").step
    watched.trainer.step(5)
    watched.at_rest()
    last = watched.events(StageSignals)[-1]
    assert last.data["step"] == watched.run("dfa").step == first.data["step"] + 5
    watched.trainer.look(None)
    count = len(watched.events(StageSignals))
    watched.trainer.step(5)
    watched.at_rest()
    assert len(watched.events(StageSignals)) == count


@pytest.mark.parametrize("look", [Look("dfa", 9, 0), Look("dfa", 0, 8), Look("fa", 0, 0), Look("nothing", 0, 0)])
def test_a_unit_that_is_not_there_is_not_answered_for(watched: Watched, look: Look) -> None:
    watched.prepare(SMALL, "mdfa", "dfa")
    watched.trainer.look(look)
    watched.trainer.step(5)
    watched.at_rest()
    assert watched.events(StageSignals) == []
    assert watched.events(Refused) == []


def test_many_looks_are_one_job(watched: Watched) -> None:
    watched.prepare(SMALL, "mdfa")
    watched.at_rest()
    with at_once(watched.trainer):
        for unit in (3, 4, 5, 6):
            watched.trainer.look(Look("mdfa", 0, unit))
    watched.at_rest()
    (answer,) = watched.events(StageSignals)
    assert answer.data["unit"] == 6


def test_new_nets_are_not_looked_at(watched: Watched) -> None:
    watched.prepare(SMALL, "mdfa")
    watched.trainer.look(Look("mdfa", 0, 3))
    watched.at_rest()
    number = watched.prepare(SMALL.replace(network="fc:3"), "mdfa")
    watched.trainer.step(1)
    watched.at_rest()
    assert watched.events(StageSignals, run=number) == []


def test_one_net_that_diverges_leaves_the_others_alone(watched: Watched) -> None:
    wild = SMALL.replace(activation="relu", forward_init="normal:10", learning_rate=1e30, epochs=2)
    calm = SMALL.replace(activation="relu", forward_init="zeros", learning_rate=1e-3, epochs=2)
    watched.prepare(wild, "bp", "mdfa", start=True)
    watched.until(Phase.DIVERGED)
    watched.prepare(calm, "bp", start=True)
    watched.until(Phase.FINISHED)


def test_a_comparison_of_nothing_or_too_much_is_refused(wait_until: Callable[..., None]) -> None:
    watched = Watched(wait_until, slots=Slots(1), memory=Memory(lambda: 2**30), limits=Limits(run_bytes=2**21))
    with pytest.raises(InvalidValue, match="no learning rule is chosen"):
        watched.trainer.prepare(SMALL, [])
    wide = SMALL.replace(network="fc:100")
    watched.prepare(wide, "bp")
    watched.at_rest()
    with pytest.raises(InvalidValue, match=f"these {len(rules())} networks would need about"):
        watched.trainer.set_rules(list(rules().values()))
    watched.trainer.close()
    assert watched.trainer.join(PATIENCE)


def test_costly_work_waits_for_the_time_of_its_own_thread() -> None:
    share = Share(0.0)
    share.took(0.002, time.thread_time)
    time.sleep(0.1)  # this thread does nothing
    assert not share.due()
    end = time.thread_time() + 2 * SHARE * 0.002
    while time.thread_time() < end:
        pass
    assert share.due()
