"""The trainer beside the event loop, without a page."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from app import session
from app.limits import Limits
from app.messages import Answer, Facts, Position, Refused, State, Status, Switched, Update
from app.pace import SPEEDS, Threads
from app.rules import rules
from app.session import Trainer
from app.sharing import Memory, Places
from mdfa_core import Experiment, Run, train
from mdfa_core.data import DATASETS
from mdfa_core.data.digits import Digits
from mdfa_core.errors import DataError, InvalidValue
from mdfa_core.events import Evaluated, Event, Finished, Probed, Progress, Started
from mdfa_core.inspection import Snapshot, Wanted

ROOT = Path(__file__).resolve().parents[2]
SMALL = Experiment(network="fc:8,8", batch_size=64, epochs=2000, learning_rate=0.01)


class Watched:
    """A trainer with a page that takes everything and remembers it."""

    def __init__(self, wait_until: Callable[..., None], **shared: object) -> None:
        self._wait_until = wait_until
        self._lock = threading.Lock()
        self.updates: list[Update] = []
        self.trainer = Trainer(self._take, **shared)  # type: ignore[arg-type]
        self.trainer.set_speed(SPEEDS["max"])

    def prepare(self, experiment: Experiment, *names: str, start: bool = False) -> int:
        chosen = [rules()[name] for name in names or (experiment.method,)]
        return self.trainer.prepare(experiment, chosen, start=start)

    def _take(self) -> None:
        with self._lock:
            self.updates.extend(self.trainer.take())

    def run(self, lane: str) -> Run:
        return self.trainer._nets[lane].run

    @property
    def states(self) -> list[State]:
        return [update.what.state for update in list(self.updates) if isinstance(update.what, Status)]

    @property
    def message(self) -> str:
        return [update.what.message for update in self.updates if isinstance(update.what, Status)][-1]

    def events(self, kind: type[Any], run: int | None = None, lane: str | None = None) -> list[Any]:
        return [
            u.what
            for u in list(self.updates)
            if isinstance(u.what, kind) and run in (None, u.run) and lane in (None, u.lane)
        ]

    def until(self, state: State) -> None:
        self._wait_until(lambda: bool(self.states) and self.states[-1] is state, f"state {state}")

    def at_rest(self) -> None:
        self._wait_until(lambda: self.trainer._thread is None, "the end of the thread")


@pytest.fixture
def watched(wait_until: Callable[..., None]) -> Iterator[Watched]:
    made = Watched(wait_until, places=Places(1), memory=Memory(2**30))
    yield made
    made.trainer.close()
    assert made.trainer.join(30)


def test_prepares_without_training(watched: Watched) -> None:
    number = watched.prepare(SMALL)
    watched.until(State.IDLE)
    (facts,) = (update.what for update in watched.updates if isinstance(update.what, Facts))
    assert facts.class_names == ("2", "8")
    assert [len(pictures) for pictures in facts.pictures] == [4, 4]
    assert facts.steps_per_epoch == 3
    assert watched.states == [State.PREPARING, State.IDLE]
    assert {update.run for update in watched.updates} == {number}
    assert not watched.events(Event)
    watched.at_rest()


def test_starts_pauses_goes_on_and_finishes(watched: Watched) -> None:
    watched.prepare(SMALL.replace(epochs=300), start=True)
    watched.until(State.RUNNING)
    watched.trainer.pause()
    watched.until(State.PAUSED)
    watched.at_rest()
    stopped_at = max(event.step for event in watched.events(Event))
    watched.trainer.start()
    watched.until(State.FINISHED)
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
        assert watched.states[-1] is State.PAUSED


def test_stepping_to_the_end_finishes(watched: Watched) -> None:
    watched.prepare(SMALL.replace(epochs=1))
    watched.trainer.step(3)
    watched.until(State.FINISHED)
    assert len(watched.events(Finished)) == 1


def test_a_finished_run_was_measured_at_its_end(watched: Watched) -> None:
    watched.prepare(SMALL.replace(epochs=100), "bp", "mdfa", start=True)
    watched.until(State.FINISHED)
    for lane in ("bp", "mdfa"):
        steps = [event.step for event in watched.events(Probed, lane=lane)]
        assert steps[-1] == 300
        assert len(steps) == len(set(steps)) < 300, "at full speed not every mini-batch is measured"


def test_a_new_run_replaces_the_old_one_and_repeats_it(watched: Watched) -> None:
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
    watched.until(State.RUNNING)
    number = watched.prepare(SMALL.replace(method="fa"), start=True)
    watched._wait_until(lambda: bool(watched.events(Progress, number)), "progress of the new run")
    runs = [update.run for update in watched.updates]
    assert set(runs[runs.index(number) :]) == {number}


def test_pausing_what_has_not_begun_leaves_it_ready(watched: Watched) -> None:
    watched.prepare(SMALL, start=True)
    watched.trainer.pause()
    watched.at_rest()
    assert watched.states[-1] in (State.IDLE, State.PAUSED)


def test_learning_rate_changes_as_it_runs(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(session.Run, "set_learning_rate", lambda run, rate: rates.append(rate))
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
    watched._wait_until(lambda: len(watched.events(Progress)) >= 3, "three mini-batches")
    slow = watched.events(Progress)
    assert [event.step for event in slow][:3] == [1, 2, 3], "slow shows every mini-batch"
    watched.trainer.set_speed(SPEEDS["max"])  # 300 mini-batches would take over a minute
    watched.until(State.FINISHED)
    assert len(watched.events(Started)) == 1


def test_divergence_is_a_state_of_its_own(watched: Watched) -> None:
    huge = SMALL.replace(activation="relu", forward_init="normal:10", learning_rate=1e30, method="bp")
    watched.prepare(huge, start=True)
    watched.until(State.DIVERGED)
    watched.at_rest()


def test_an_error_becomes_a_failed_state_with_its_sentence(watched: Watched) -> None:
    watched.prepare(SMALL.replace(batch_size=500), start=True)
    watched.until(State.FAILED)
    assert "the batch size is 500, but a task has only" in watched.message
    watched.at_rest()
    watched.prepare(SMALL)  # and the session lives on
    watched.until(State.IDLE)


def test_an_unexpected_error_becomes_a_failed_state(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_kwargs: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(session, "Run", broken)
    watched.prepare(SMALL, start=True)
    watched.until(State.FAILED)
    assert "ZeroDivisionError" in watched.message
    assert watched.trainer._memory.taken == 0
    watched.at_rest()


def test_closing_ends_the_thread_and_gives_everything_back(watched: Watched, trainers: Callable[[], int]) -> None:
    before = trainers()
    watched.prepare(SMALL, start=True)
    watched.until(State.RUNNING)
    assert trainers() == before + 1
    assert watched.trainer._memory.taken > 0
    watched.trainer.close()
    assert watched.trainer.join(30)
    assert trainers() == before
    assert watched.trainer._memory.taken == 0
    watched.trainer.start()  # of no effect any more
    assert trainers() == before


def test_an_interpreter_that_ends_while_training_ends_cleanly() -> None:
    program = (
        "import time; from app.pace import SPEEDS; from app.rules import rules; from app.session import Trainer\n"
        "from mdfa_core import Experiment\n"
        "trainer = Trainer(lambda: trainer.take()); trainer.set_speed(SPEEDS['max'])\n"
        "trainer.prepare(Experiment(epochs=2000), [rules()['mdfa']], start=True)\n"
        "while not trainer._nets or trainer._nets['mdfa'].run.step < 5: time.sleep(0.01)\n"
    )
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (outcome.returncode, outcome.stderr) == (0, "")


def test_closing_wakes_a_slow_thread_and_one_whose_page_takes_nothing(trainers: Callable[[], int]) -> None:
    before = trainers()
    trainer = Trainer(lambda: None, places=Places(1), memory=Memory(2**30))
    trainer.set_speed(SPEEDS["max"])
    trainer.prepare(SMALL, [rules()["mdfa"]], start=True)
    trainer.close()
    assert trainer.join(30)
    assert trainers() == before


def test_who_finds_no_place_is_queued_and_served_in_order(wait_until: Callable[..., None]) -> None:
    places = Places(1)
    first, second, third = (Watched(wait_until, places=places, memory=Memory(2**30)) for _ in range(3))
    try:
        first.prepare(SMALL, start=True)
        first.until(State.RUNNING)
        second.prepare(SMALL, start=True)
        second.until(State.QUEUED)
        assert "You are next" in second.message
        third.prepare(SMALL, start=True)
        third.until(State.QUEUED)
        assert "1 before you" in third.message
        second.trainer.pause()
        second.until(State.PAUSED)
        wait_until(lambda: "next" in third.message, "the queue's advance")
        first.trainer.close()
        third.until(State.RUNNING)
    finally:
        for one in (first, second, third):
            one.trainer.close()
            assert one.trainer.join(30)
    assert places._free == 1
    assert places.waiting == 0


def test_a_long_turn_ends_when_others_wait(wait_until: Callable[..., None]) -> None:
    places, limits = Places(1), Limits(turn_seconds=0.2)
    both = [Watched(wait_until, places=places, memory=Memory(2**30), limits=limits) for _ in range(2)]
    try:
        for one in both:
            one.prepare(SMALL, start=True)
        for one in both:
            wait_until(lambda one=one: one.states.count(State.RUNNING) >= 2, "a second turn")
    finally:
        for one in both:
            one.trainer.close()
            assert one.trainer.join(30)


def test_memory_that_others_hold_is_refused(wait_until: Callable[..., None]) -> None:
    memory = Memory(10)
    watched = Watched(wait_until, places=Places(1), memory=memory)
    watched.prepare(SMALL)
    watched.until(State.FAILED)
    assert "memory" in watched.message
    assert memory.taken == 0


def test_nothing_is_fetched_before_start(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def fetch(*_args: object, **_kwargs: object) -> None:
        fetched.append(1)
        raise DataError("there is no way to fetch it here: try later")

    remote = dataclasses.replace(Digits(), title="Remote digits", bundled=False)
    monkeypatch.setattr(Digits, "fetch", fetch)
    DATASETS.add("remote", remote)
    try:
        assert "Remote digits is not on this server yet" in str(session.absent("remote"))
        watched.prepare(SMALL.replace(data="remote"))
        watched.until(State.IDLE)
        assert "Remote digits is not on this server yet" in watched.message
        watched.at_rest()
        assert not fetched
        watched.trainer.start()
        watched.until(State.FAILED)
        assert fetched
        assert any("Fetching Remote digits" in u.what.message for u in watched.updates if isinstance(u.what, Status))
        assert "there is no way to fetch it here" in watched.message
    finally:
        DATASETS.remove("remote")


# ------------------------------------------------------------------------------------------------ several rules at once


def test_rules_are_compared_on_the_same_mini_batches_in_lockstep(watched: Watched) -> None:
    names = ("bp", "fa", "dfa", "mdfa", "mdfa-free")
    watched.prepare(SMALL.replace(epochs=3), *names, start=True)
    watched.until(State.FINISHED)
    for name in names:
        alone = [e for e in train(rules()[name].experiment(SMALL.replace(epochs=3)), device="cpu")]
        told = watched.events(Evaluated, lane=name)
        assert [e.epoch for e in told] == [1, 2, 3]
        if name != "mdfa-free":
            assert told == [e for e in alone if isinstance(e, Evaluated)], (
                "a net in a comparison learns as it does alone"
            )
    order = [u.lane for u in watched.updates if isinstance(u.what, Evaluated)]
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
    watched._wait_until(lambda: bool(watched.events(Position)), "the first of them")
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
    taken = watched.trainer._memory.taken
    bp = watched.run("bp")
    watched.trainer.set_rules([rules()["bp"], rules()["fa"]])
    watched.at_rest()
    assert watched.run("bp") is bp
    assert bp.step == watched.run("fa").step == 20
    assert watched.events(Position)[-1].level == ("bp", "fa")
    assert set(watched.trainer._nets) == {"bp", "fa"}
    assert 0 < watched.trainer._memory.taken <= 1.5 * taken
    assert watched.states[-1] is State.PAUSED
    alone = Run(SMALL.replace(method="fa"), device="cpu")
    list(alone.events(steps=20))
    assert all(map(torch.equal, alone.learner.parameters.tensors(), watched.run("fa").learner.parameters.tensors()))


def test_a_rule_that_goes_and_comes_back_within_a_round_begins_anew(watched: Watched) -> None:
    both, one = [rules()["bp"], rules()["mdfa"]], [rules()["bp"]]
    watched.prepare(SMALL, "bp", "mdfa")
    watched.trainer.step(20)
    watched.at_rest()
    taken = watched.trainer._memory.taken
    watched.trainer.switch("mdfa", rules()["bp"])
    watched.at_rest()
    before = watched.run("mdfa")
    with watched.trainer._changed:
        watched.trainer.set_rules(one)
        watched.trainer.set_rules(both)
    watched.at_rest()
    run = watched.run("mdfa")
    assert run is not before
    assert run.learner.method is rules()["mdfa"].method
    assert run.step == watched.run("bp").step == 20
    assert watched.trainer._memory.taken == taken
    alone = Run(SMALL, device="cpu")
    list(alone.events(steps=20))
    assert all(map(torch.equal, alone.learner.parameters.tensors(), run.learner.parameters.tensors()))


def test_nothing_of_an_old_net_is_told_after_its_rule_came_back(watched: Watched) -> None:
    watched.prepare(SMALL, "bp", "mdfa", start=True)
    watched._wait_until(lambda: len(watched.events(Progress, lane="mdfa")) > 5, "progress")
    with watched._lock, watched.trainer._changed:
        watched.updates.clear()
        watched.trainer.set_rules([rules()["bp"]])
        watched.trainer.set_rules([rules()["bp"], rules()["mdfa"]])
    watched._wait_until(lambda: bool(watched.events(Progress, lane="mdfa")), "progress of the new net")
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
    taken = watched.trainer._memory.taken
    watched.trainer.switch("bp", rules()["mdfa"])
    watched.at_rest()
    (refused,) = watched.events(Refused)
    assert "choose a larger scale" in refused.sentence
    assert not watched.events(Switched)
    assert watched.run("bp").learner.method is rules()["bp"].method
    assert watched.trainer._memory.taken == taken


def test_a_switch_keeps_to_the_bounds_and_is_counted(wait_until: Callable[..., None]) -> None:
    settings, memory = SMALL.replace(optimizer="adam", outputs=10), Memory(2**30)
    small, large = (Limits().check(settings.replace(method=name)) for name in ("bp", "chl"))
    assert small < large
    limits = Limits(run_bytes=small + large)
    watched = Watched(wait_until, places=Places(1), memory=memory, limits=limits)
    watched.prepare(settings, "bp", "fa")
    for lane in ("bp", "fa"):
        watched.trainer.switch(lane, rules()["chl"])
    watched.at_rest()
    (refused,) = watched.events(Refused)
    assert "these 2 nets would need about" in refused.sentence
    assert watched.events(Switched, lane="bp") == [Switched(rules()["chl"])]
    assert not watched.events(Switched, lane="fa")
    assert memory.taken == small + large
    watched.trainer.switch("bp", rules()["bp"])
    watched.at_rest()
    assert memory.taken == 2 * small
    memory.limit = memory.taken
    watched.trainer.switch("bp", rules()["chl"])
    watched.at_rest()
    assert "fill this server's memory" in watched.events(Refused)[-1].sentence
    watched.trainer.close()
    assert watched.trainer.join(30)
    assert memory.taken == 0


def test_a_net_at_its_end_or_not_made_is_not_switched(watched: Watched) -> None:
    watched.prepare(SMALL.replace(epochs=1), start=True)
    watched.until(State.FINISHED)
    watched.trainer.switch("mdfa", rules()["fa"])
    watched.trainer.switch("bp", rules()["fa"])
    watched.at_rest()
    assert not watched.events(Switched)
    assert [refused.sentence.partition(":")[0] for refused in watched.events(Refused)] == [
        "the net of mDFA is at its end",
        "this net is not made yet",
    ]


def test_a_switch_waits_for_its_net_and_goes_with_it(watched: Watched) -> None:
    both, one = [rules()["bp"], rules()["fa"]], [rules()["bp"]]
    watched.prepare(SMALL, "bp", start=True)
    watched.until(State.RUNNING)
    with watched.trainer._changed:
        watched.trainer.set_rules(both)
        watched.trainer.switch("fa", rules()["dfa"])
    watched._wait_until(lambda: bool(watched.events(Switched, lane="fa")), "the switch of the new net")
    assert watched.run("fa").learner.method is rules()["dfa"].method
    with watched._lock, watched.trainer._changed:
        watched.updates.clear()
        watched.trainer.switch("fa", rules()["mdfa"])
        watched.trainer.set_rules(one)
        watched.trainer.set_rules(both)
    watched._wait_until(lambda: bool(watched.events(Progress, lane="fa")), "progress of another new net")
    assert watched.run("fa").learner.method is rules()["fa"].method
    assert not watched.events(Switched)


def test_who_waits_for_a_place_is_served_otherwise(wait_until: Callable[..., None]) -> None:
    places = Places(1)
    first, second = (Watched(wait_until, places=places, memory=Memory(2**30)) for _ in range(2))
    try:
        first.prepare(SMALL, start=True)
        first.until(State.RUNNING)
        second.prepare(SMALL, start=True)
        second.until(State.QUEUED)
        second.trainer.switch("mdfa", rules()["fa"])
        wait_until(lambda: bool(second.events(Switched)), "the switch")
        assert second.states[-1] is State.QUEUED
        with second.trainer._changed:  # the second of these is about what is made for the first
            second.trainer.set_rules([rules()["mdfa"], rules()["bp"]])
            second.trainer.switch("bp", rules()["dfa"])
        wait_until(lambda: bool(second.events(Switched, lane="bp")), "the switch of a net that is made first")
        assert not second.events(Refused)
    finally:
        for one in (first, second):
            one.trainer.close()
            assert one.trainer.join(30)


def test_a_question_is_answered_between_two_mini_batches(watched: Watched) -> None:
    answers: list[int] = []

    def refuse(run: Run) -> None:
        raise InvalidValue("there is no such thing: ask for another")

    watched.prepare(SMALL, start=True)
    watched.until(State.RUNNING)
    watched.trainer.ask("mdfa", lambda run: run.step, answers.append)
    watched.trainer.ask("nobody", lambda run: run.step, answers.append)
    watched.trainer.ask("mdfa", refuse, answers.append)
    watched._wait_until(lambda: bool(watched.events(Refused)), "the refusal")
    (answer,) = watched.events(Answer)
    assert answer.tell == answers.append
    assert answer.value >= 0
    assert watched.events(Refused) == [Refused("there is no such thing: ask for another")]
    assert watched.states[-1] is State.RUNNING
    sentences: list[str] = []
    watched.trainer.ask("nobody", lambda run: run.step, answers.append, sentences.append)
    watched.trainer.ask("mdfa", refuse, answers.append, sentences.append)
    watched._wait_until(lambda: len(watched.events(Answer)) == 3, "both refusals")
    for told in watched.events(Answer)[1:]:
        told.tell(told.value)
    assert sentences[0].startswith("there is no such net yet")
    assert sentences[1] == "there is no such thing: ask for another"
    assert len(watched.events(Refused)) == 1


def test_snapshots_are_handed_over_at_once_as_it_runs_and_no_more(watched: Watched) -> None:
    watched.prepare(SMALL)
    watched.trainer.look("mdfa", Wanted(weights=True))
    watched.at_rest()
    (first,) = watched.events(Snapshot)
    assert first.step == 0
    assert first.histograms is not None
    watched.trainer.step(5)
    watched.at_rest()
    assert watched.events(Snapshot)[-1].step == 5
    watched.trainer.look("mdfa", Wanted(example=10**9))
    watched.at_rest()
    (refused,) = watched.events(Refused)
    assert "training image" in refused.sentence
    watched.trainer.look("mdfa", None)
    count = len(watched.events(Snapshot))
    watched.trainer.step(5)
    watched.at_rest()
    assert len(watched.events(Snapshot)) == count


def test_one_net_that_diverges_leaves_the_others_alone(watched: Watched) -> None:
    wild = SMALL.replace(activation="relu", forward_init="normal:10", learning_rate=1e30, epochs=2)
    calm = SMALL.replace(activation="relu", forward_init="zeros", learning_rate=1e-3, epochs=2)
    watched.prepare(wild, "bp", "mdfa", start=True)
    watched.until(State.DIVERGED)
    watched.prepare(calm, "bp", start=True)
    watched.until(State.FINISHED)


def test_a_comparison_of_nothing_or_too_much_is_refused(wait_until: Callable[..., None]) -> None:
    watched = Watched(wait_until, places=Places(1), memory=Memory(2**30), limits=Limits(run_bytes=2**21))
    with pytest.raises(InvalidValue, match="no learning rule is chosen"):
        watched.trainer.prepare(SMALL, [])
    wide = SMALL.replace(network="fc:100")
    watched.prepare(wide, "bp")
    watched.at_rest()
    with pytest.raises(InvalidValue, match=f"these {len(rules())} nets would need about"):
        watched.trainer.set_rules(list(rules().values()))
    watched.trainer.close()
    assert watched.trainer.join(30)


@pytest.mark.parametrize(("two", "best"), [(1.7, 2), (0.1, 1)])
def test_as_many_threads_as_train_fastest(two: float, best: int) -> None:
    threads = Threads()
    assert threads.choose(1) == 1
    chosen = []
    for _ in range(200):
        chosen.append(threads.choose(2))
        threads.took(chosen[-1], 1, 0.05 / (two if chosen[-1] == 2 else 1.0))
    assert set(chosen[:12]) == {1, 2}
    assert chosen[-1] == best
    assert chosen.count(best) > 150
    assert threads.choose(1) == 1
    assert threads.choose(2) in (1, 2)
