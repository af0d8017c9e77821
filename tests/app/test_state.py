"""The state of a page: messages in, a view out, without a page."""

from __future__ import annotations

import base64
import dataclasses
import enum
import gzip
import math
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mdfa_app.page.state import PageState, StepRate
from mdfa_app.page.view import View, view_of
from mdfa_app.settings.link import Link
from mdfa_app.settings.rules import rules
from mdfa_app.stage.replay import replay
from mdfa_app.trainer.messages import Facts, Phase, Position, Refused, StageFrame, Status, Switched
from mdfa_core import Experiment, Run
from mdfa_core.base.errors import InvalidValue
from mdfa_core.stage import Film, recording_in, scene_of
from mdfa_core.training.events import Diverged

FACTS = Facts(
    class_names=("2", "8"), scene=scene_of(Run(Experiment(network="fc:4,3"), device="cpu")), steps_per_epoch=7,
)  # fmt: skip


@pytest.fixture
def state() -> PageState:
    made = PageState.of(Link(rules=("mdfa", "fa"), draw="fa"), [])
    made.comparison.begin(made.comparison.experiment)
    return made


def after(state: PageState, *messages: Any, lane: str = "fa") -> View:
    for message in messages:
        state.apply(message, lane)
    return view_of(state)


def test_a_hostile_link_is_answered_in_two_lines() -> None:
    complaints = ["x" * 900, "second", "third"]
    told = PageState.of(Link(), complaints).complaint
    assert len(told) < 260
    assert told.endswith("… 2 more parts of the link were left out.")
    assert PageState.of(Link(), ["one part is unknown"]).complaint == "One part is unknown."


@pytest.mark.parametrize(
    ("phase", "start", "can"),
    [
        (Phase.IDLE, "▶ Start", "start step"),
        (Phase.PREPARING, "▶ Start", ""),
        (Phase.QUEUED, "▶ Start", "pause step"),
        (Phase.RUNNING, "▶ Start", "pause step"),
        (Phase.PAUSED, "▶ Continue", "start step"),
        (Phase.FINISHED, "▶ Again", "start"),
        (Phase.DIVERGED, "▶ Start", "start"),
        (Phase.FAILED, "▶ Start", "start"),
    ],
)
def test_every_phase_has_its_buttons(state: PageState, phase: Phase, start: str, can: str) -> None:
    view = after(state, Status(phase))
    assert view.start == start
    assert [name for name in ("start", "pause", "step") if getattr(view, f"can_{name}")] == can.split()
    assert f'<span class="chip {phase.name.lower()}">{phase.value.capitalize()}</span>' in view.status


def test_steps_are_not_for_a_run_that_was_started(state: PageState) -> None:
    state.started = True
    view = after(state, Status(Phase.RUNNING))
    assert not view.can_step
    assert view.can_pause
    after(state, Status(Phase.FINISHED))
    assert not state.started


def test_a_message_takes_the_place_of_the_phases_own(state: PageState) -> None:
    assert "You are next." in after(state, Status(Phase.QUEUED, "You are next.")).status
    assert "You are next." not in after(state, Status(Phase.RUNNING)).status


def test_facts_make_the_switch_possible_and_place_epochs(state: PageState) -> None:
    assert not after(state).stage.can_switch
    view = after(state, FACTS, Status(Phase.IDLE))
    assert view.stage.can_switch
    assert state.prepared
    assert all(lane.history.steps_per_epoch == 7 for lane in state.comparison.lanes.values())
    assert not after(state, Status(Phase.FAILED)).stage.can_switch


def test_a_switch_is_shown_while_it_is_asked_for_and_noted_when_it_is_done(state: PageState) -> None:
    after(state, FACTS, Status(Phase.RUNNING))
    state.pending_rule = "bp"
    view = after(state)
    assert view.stage.learns_by == "bp"
    assert "→" not in view.stage.rules
    view = after(state, Switched(rules()["bp"]))
    assert view.stage.learns_by == "bp"
    assert "→ BP" in view.stage.rules
    assert "From epoch 0, the FA network learns by BP. It keeps its weights." in view.status
    state.pending_rule = "dfa"
    view = after(state, Refused("choose <another> rule"))
    assert view.stage.learns_by == "bp"
    assert "Choose &lt;another&gt; rule." in view.status


def test_nets_that_are_behind_are_named(state: PageState) -> None:
    view = after(state, FACTS, Status(Phase.RUNNING), Position(9, 1, caught_up=("mdfa",)))
    assert "The FA network is catching up with the others." in view.status
    assert "<b>1 / 100</b>" in view.numbers
    assert "<b>9</b>" in view.numbers
    view = after(state, Position(10, 1, caught_up=("mdfa", "fa")))
    assert "catch" not in view.status


def test_an_event_is_its_lanes(state: PageState) -> None:
    view = after(state, Diverged(step=3, epoch=1, replica=0, seed=0, loss=math.inf), lane="mdfa")
    assert view.stage.scores["mdfa"] == "diverged"
    assert view.stage.scores["fa"] != "diverged"
    assert after(state, Diverged(step=3, epoch=1, replica=0, seed=0, loss=math.inf), lane="gone").stage == view.stage


def test_an_unknown_message_is_a_defect(state: PageState) -> None:
    class Other(enum.Enum):
        KIND = 1

    with pytest.raises(TypeError, match="cannot receive a Other"):
        state.apply(Other.KIND, "")


def test_a_view_depends_on_nothing_but_the_state(state: PageState) -> None:
    again = PageState.of(Link(rules=("mdfa", "fa"), draw="fa"), [])
    again.comparison.begin(again.comparison.experiment)
    assert dataclasses.asdict(after(state, Status(Phase.PAUSED))) == dataclasses.asdict(
        after(again, Status(Phase.PAUSED))
    )


def test_the_rate_needs_three_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 2.0, 3.0])  # for this module alone: the loops of servers in other threads have the real one
    monkeypatch.setattr("mdfa_app.page.state.time", SimpleNamespace(monotonic=lambda: next(clock)))
    rate = StepRate()
    rates = []
    for step in (10, 20, 50):
        rate.add(step)
        rates.append(rate.per_second)
    assert rates == [0.0, 0.0, 20.0]
    rate.clear()
    assert rate.per_second == 0.0


def frame_at(step: int, size: int = 12) -> bytes:
    return struct.pack("<f", step) + bytes(size - 4)


def test_a_frame_is_its_lanes_and_the_stage_joins_them(state: PageState) -> None:
    view = after(state, FACTS, StageFrame(frame_at(3)), lane="fa")
    assert [row["name"] for row in view.stage.scene["rows"]] == ["mdfa", "fa"]
    assert math.isnan(struct.unpack_from("<f", view.stage.frame)[0]), "no frame of mDFA yet"
    assert view.stage.frame[12:] == frame_at(3)
    again = after(state, StageFrame(frame_at(4)), lane="mdfa").stage
    assert again.frame == frame_at(4) + frame_at(3)
    assert again.scene is view.stage.scene, "what stays the same is not sent again"
    assert after(state, StageFrame(frame_at(9)), lane="gone").stage.frame == again.frame


def test_a_film_keeps_a_bounded_number_of_evenly_spaced_frames() -> None:
    film = Film(limit=8)
    for step in range(1000):
        film.add(frame_at(step))
        film.add(frame_at(step))
    assert film.last == frame_at(999)
    assert 4 <= len(film.steps) <= 8
    assert film.steps[0] == 0
    gaps = np.diff(film.steps)
    assert gaps.max() <= 2 * gaps.min()
    assert film.frames == [frame_at(step) for step in film.steps]
    assert film.at(film.steps[3] + 1) == frame_at(film.steps[3])
    assert film.at(5000) == frame_at(999)
    assert film.at(-1) is None


def test_a_run_can_be_replayed_at_any_time(state: PageState) -> None:
    with pytest.raises(InvalidValue, match="nothing to replay yet"):
        replay(state.comparison, "title")
    after(state, FACTS, *(StageFrame(frame_at(step)) for step in (0, 5, 9)), lane="fa")
    after(state, StageFrame(frame_at(9)), lane="mdfa")
    found = recording_in(replay(state.comparison, "title").decode())
    assert found["count"] == 4
    steps = []
    for text in found["frames"]:
        data = np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8).reshape(4, -1)
        frames = np.cumsum(data, axis=0, dtype=np.uint8)
        steps.append([struct.unpack_from("<f", frame.tobytes())[0] for frame in frames])
    assert steps[1] == [0, 5, 9, 9]
    assert all(map(math.isnan, steps[0][:2])), "mDFA came later"
    assert steps[0][2:] == [9, 9]


def test_the_error_moves_only_while_networks_train(state: PageState) -> None:
    assert [after(state, Status(phase)).stage.moving for phase in (Phase.PAUSED, Phase.RUNNING)] == [False, True]
