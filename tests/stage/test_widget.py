"""The stage in a notebook: what it trains, what it sends to a browser, and what a saved notebook keeps."""

from __future__ import annotations

import html
import json
import re
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ipywidgets.embed import embed_data
from ipywidgets.widgets.widget import _remove_buffers

from mdfa_core import Experiment, Run
from mdfa_core.base.errors import InvalidValue, UnknownName
from mdfa_core.stage import Replay, frame_of, recording_in, scene_of
from mdfa_core.stage.widget import Stage
from tests.support.patience import PATIENCE

SMALL = Experiment(network="fc:6,5", epochs=20)


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage(SMALL, rules=("mdfa", "dfa"))
    yield made
    made.close()


def steps(stage: Stage) -> list[int]:
    """The mini-batches of the frames that a browser has."""
    size = len(stage.frame) // 2
    return [int(struct.unpack_from("<f", stage.frame, row * size)[0]) for row in range(2)]


def test_it_trains_as_runs_do_and_ends_with_their_frames(stage: Stage) -> None:
    assert steps(stage) == [0, 0]
    stage.train(epochs=1)
    first = stage.runs["mdfa"].steps_per_epoch
    assert steps(stage) == [first, first]
    stage.train()
    assert all(run.finished for run in stage.runs.values())
    alone = Run(SMALL.replace(method="dfa"), device="cpu")
    for _ in alone.events():
        pass
    expected = frame_of(alone, scene_of(alone), accuracy=alone.result.best_train_accuracy[0])  # type: ignore[union-attr]
    assert stage.newest["dfa"].signs == expected.signs
    assert [row["name"] for row in stage.scene["rows"]] == ["mdfa", "dfa"]


def test_frames_arrive_while_a_cell_trains(stage: Stage) -> None:
    seen: list[tuple[bool, int]] = []
    stage.observe(lambda _: seen.append((stage.moving, steps(stage)[0])), "frame")
    stage.train(steps_per_second=50)
    assert not stage.moving
    moving = [step for moving, step in seen if moving]
    assert moving == sorted(set(moving))
    assert len(moving) >= 2


def test_every_host_of_widgets_can_load_it(stage: Stage) -> None:
    """By anywidget's convention, a host gets one module, which imports no other file, and a state of JSON and bytes."""
    state, _, buffers = _remove_buffers(stage.get_state())
    assert (state["_model_module"], state["_view_module"]) == ("anywidget", "anywidget")
    assert set(json.loads(json.dumps(state, allow_nan=False))) >= {"scene", "moving", "signals", "asks"}
    assert [bytes(buffer) for buffer in buffers] == [stage.frame]
    module = state["_esm"]
    assert re.search(r"^export default \{ render \};$", module, flags=re.MULTILINE)
    assert not re.search(r"^export .*\brender\(", module, flags=re.MULTILINE), "anywidget warns of it"
    assert not re.search(r"^\s*import\b|\bimport\(|\bfrom\s+[\"']|\brequire\(", module, flags=re.MULTILINE)


def test_a_page_without_python_gets_all_of_it_and_waits_for_no_answer(stage: Stage) -> None:
    state = embed_data([stage])["manager_state"]["state"][stage.model_id]
    embedded, live = state["state"], stage.get_state()
    assert {"_esm", "scene", "signals"} <= embedded.keys()
    assert embedded["_esm"] == live["_esm"]
    assert (embedded["asks"], live["asks"]) == (False, True)
    assert [buffer["path"] for buffer in state["buffers"]] == [["frame"]]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def test_it_trains_in_the_background_until_it_is_paused(stage: Stage) -> None:
    stage.start(steps_per_second=20)
    wait_until(lambda: steps(stage)[0] > 0, "a frame")
    with pytest.raises(InvalidValue, match=r"call pause\(\) first"):
        stage.train()
    stage.pause()
    reached = stage.runs["mdfa"].step
    assert not stage.moving
    assert steps(stage) == [reached, reached] != [60, 60]
    time.sleep(0.1)
    assert stage.runs["mdfa"].step == reached
    stage.start()
    wait_until(lambda: all(run.finished for run in stage.runs.values()), "the end")


def look(stage: Stage, unit: int | None, row: str = "dfa") -> None:
    """The browser says which unit of layer 1 is looked at."""
    at = None if unit is None else {"row": row, "layer": 1, "unit": unit}
    stage._handle_custom_msg({"look": at}, [])


def test_a_unit_is_answered_for_while_it_is_looked_at(stage: Stage) -> None:
    assert stage.signals == {}
    look(stage, 3)
    assert (stage.signals["row"], stage.signals["unit"], stage.signals["step"]) == ("dfa", 3, 0)
    answers: list[int] = []
    stage.observe(lambda _: answers.append(stage.signals["step"]), "signals")
    stage.start(steps_per_second=50)
    wait_until(lambda: len(answers) >= 2, "two answers")
    stage.pause()
    assert answers == sorted(set(answers))
    assert stage.signals["step"] == stage.runs["dfa"].step
    stage.unobserve_all("signals")
    look(stage, None)
    assert stage.signals == {}
    stage.train(epochs=1)
    assert stage.signals == {}


@pytest.mark.parametrize(("row", "unit"), [("dfa", 5), ("bp", 0), ("mdfa", -1)])
def test_a_unit_that_is_not_there_is_not_answered_for(stage: Stage, row: str, unit: int) -> None:
    look(stage, unit, row)
    stage.train(epochs=1)
    assert stage.signals == {}


def test_a_saved_notebook_keeps_a_replay(stage: Stage, tmp_path: Path) -> None:
    stage.train()
    bundle, _ = stage._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    replay = stage.replay("A title")
    assert isinstance(replay, Replay)
    shown = re.search('srcdoc="(.*?)"', replay._repr_html_(), re.DOTALL)
    assert shown
    assert html.unescape(shown[1]) == replay.page
    assert recording_in(replay.page)["scene"] == stage.scene
    assert 'srcdoc="' in bundle["text/html"]
    replay.save(tmp_path / "replay.html")
    assert "<title>A title</title>" in (tmp_path / "replay.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"rules": ()}, InvalidValue, "there is no learning rule"),
        ({"rules": "backprop"}, UnknownName, "unknown method 'backprop'"),
    ],
)
def test_a_wrong_rule_is_a_sentence(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Stage(SMALL, **settings)


@pytest.mark.parametrize("settings", [{"epochs": 0}, {"epochs": 1.5}, {"steps_per_second": 0}])
def test_a_wrong_number_is_a_sentence(stage: Stage, settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match="give a"):
        stage.train(**settings)
