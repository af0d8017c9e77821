"""The page and its controls without a browser: what a visitor does, and what the page then shows."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mdfa_app.comparison import export
from mdfa_app.comparison.comparison import PINS
from mdfa_app.page.settings_form import LAYERED, OWN
from mdfa_app.settings import link
from mdfa_app.settings.limits import LIMITS, Limits
from mdfa_app.settings.presets import FIRST, PRESETS
from mdfa_app.settings.rules import rules
from mdfa_app.tabs import TABS
from mdfa_app.tabs.layers import LayersTab
from mdfa_app.tabs.weights import WeightsTab
from mdfa_app.trainer.messages import Phase
from mdfa_app.trainer.trainer import Trainer
from mdfa_core import ACTIVATIONS, DATASETS, INITIALIZERS, METHODS, NETWORKS, OPTIMIZERS, Experiment, Run
from mdfa_core.learning.optimizers import SGD
from mdfa_core.nets.layers import Dense
from mdfa_core.nets.networks import Architecture
from tests.app.visits import Visit, at_once, browser_says, downloads

# ------------------------------------------------------------------------------------------------------- the beginning


def test_a_first_visit_begins_by_itself_and_rests_out_of_sight(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "")
    browser_says(visit.widgets.arrival, "moving")
    visit.until_phase(Phase.RUNNING)
    browser_says(visit.widgets.arrival, "hidden")
    visit.until_phase(Phase.PAUSED)
    browser_says(visit.widgets.arrival, "seen")
    visit.until_phase(Phase.RUNNING)
    visit.press("pause")
    visit.until_phase(Phase.PAUSED)
    visit.press("start")  # now it is the visitor's run, which goes on out of sight
    visit.until_phase(Phase.RUNNING)
    browser_says(visit.widgets.arrival, "hidden")
    step = visit.comparison.position.step
    visit.until(lambda: visit.comparison.position.step > step, "more mini-batches")
    visit.close()


def test_a_hidden_page_whose_connection_is_lost_too_trains_on_once_it_is_seen(
    wait_until: Callable[..., None],
) -> None:
    visit = Visit(wait_until, "")
    browser_says(visit.widgets.arrival, "moving")
    visit.until_phase(Phase.RUNNING)
    browser_says(visit.widgets.arrival, "hidden")
    visit.until_phase(Phase.PAUSED)
    visit.page.rest()
    browser_says(visit.widgets.arrival, "seen")
    visit.until_phase(Phase.RUNNING)
    visit.close()


@pytest.mark.parametrize("press", ["pause", "1"])
def test_who_takes_over_before_the_server_knows_of_the_return_is_obeyed(
    wait_until: Callable[..., None], press: str
) -> None:
    visit = Visit(wait_until)
    visit.train()
    visit.page.rest()
    visit.until_phase(Phase.PAUSED)
    visit.press(press)
    visit.page.resume()
    assert not visit.page.state.started
    visit.close()


@pytest.mark.parametrize(
    ("query", "motion", "begins"),
    [
        ("", "moving", True),
        ("", "still", False),
        ("outputs=2", "moving", False),
        ("embed=1", "moving", False),
        ("embed=1&start=1", "moving", True),
        ("outputs=2&start=1", "still", False),
    ],
)
def test_who_begins_by_itself(wait_until: Callable[..., None], query: str, motion: str, begins: bool) -> None:
    visit = Visit(wait_until, query)
    visit.until_phase(Phase.IDLE)
    browser_says(visit.widgets.arrival, motion)
    assert visit.page.state.started is begins
    assert "Not possible" not in visit.view.status
    visit.close()


def test_pause_before_training_begins_by_itself_keeps_it_from_beginning(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "")
    assert visit.view.can_pause
    visit.press("pause")
    assert not visit.view.can_pause
    visit.until_phase(Phase.IDLE)
    browser_says(visit.widgets.arrival, "moving")
    assert not visit.page.state.started
    assert "Training does not begin by itself: press Start." in visit.view.status
    visit.press("start")
    visit.until_phase(Phase.RUNNING)
    assert "does not begin" not in visit.view.status
    visit.close()


def test_pause_is_not_offered_where_nothing_begins(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "")
    visit.until_phase(Phase.IDLE)
    browser_says(visit.widgets.arrival, "still")
    assert not visit.view.can_pause
    visit.close()


def test_no_page_begins_by_itself_where_slots_are_wanted(
    wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "crowded", True)
    visit = Visit(wait_until, "")
    visit.until_phase(Phase.IDLE)
    browser_says(visit.widgets.arrival, "moving")
    assert not visit.page.state.started
    visit.close()


# ---------------------------------------------------------------------------------------------------- the whole path


def test_start_draws_accuracy_and_agreement(visit: Visit) -> None:
    visit.train()
    assert set(visit.line("agreement", "mdfa")) == {1.0}
    assert "100 % of the unit error signals have the true sign." in visit.stage.meaning
    assert "Theorem 2 holds" in visit.stage.meaning
    assert [row["name"] for row in visit.stage.scene["rows"]] == ["mdfa"]
    assert visit.comparison.films["mdfa"].last == visit.stage.frame
    step, _, diverged, signs, _, accuracy = struct.unpack_from("<6f", visit.stage.frame)
    assert (step > 0, diverged, signs) == (True, 0, 1)
    assert 0 <= accuracy <= 1
    visit.until(lambda: len(visit.line("accuracy", "mdfa")) > 0, "an epoch")


def test_several_rules_are_compared(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "rules=mdfa,dfa,fa,bp,mdfa-free")
    visit.train()
    assert set(visit.line("agreement", "mdfa")) == set(visit.line("agreement", "bp")) == {1.0}
    for rule in ("fa", "dfa", "mdfa-free"):
        assert visit.line("agreement", rule)[-1] < 0.75
    visit.page.pick("draw:fa")
    assert "unconstrained signs" in visit.stage.meaning
    routes = {row["name"]: row["route"] for row in visit.stage.scene["rows"]}
    assert routes == {"mdfa": "direct", "dfa": "direct", "fa": "chain", "bp": "chain", "mdfa-free": "direct"}
    assert len(visit.stage.frame) == sum(len(film.last) for film in visit.comparison.films.values())
    visit.close()


def test_a_rule_that_is_added_catches_up_and_the_last_one_stays(visit: Visit) -> None:
    visit.train()
    visit.page.pick("toggle:dfa")
    assert "is catching up" in visit.view.status
    visit.until(lambda: len(visit.line("agreement", "dfa")) >= 1, "DFA's curve")
    assert visit.comparison.compared == ("dfa", "mdfa")
    visit.page.pick("toggle:mdfa")
    assert visit.comparison.compared == ("dfa",)
    assert visit.comparison.drawn == "dfa"
    visit.page.pick("toggle:dfa")
    assert "at least one rule" in visit.view.status.lower()
    assert visit.comparison.compared == ("dfa",)
    for word in ("toggle:<b>", "draw:", "layer:99", "layer:x", "nonsense"):
        visit.page.pick(word)


def test_a_note_stays_as_long_as_it_is_true(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "rules=bp")
    visit.until_phase(Phase.IDLE)

    def says(text: str) -> bool:
        return text in visit.view.status

    for press in ("start", "pause"):
        visit.press("new_seed")
        visit.until(lambda: says("New networks"), "a note")
        visit.press(press)
        visit.until(lambda: not says("New networks"), f"its end with {press}")
    visit.press("new_seed")
    visit.until_phase(Phase.IDLE)
    assert says("New networks: press Start")
    visit.press("10")
    visit.until_phase(Phase.PAUSED)
    assert says("Press Continue to train on")
    visit.train()
    visit.page.pick("toggle:mdfa")
    assert says("The mDFA network is catching up with the others.")
    visit.page.pick("toggle:fa")
    assert says("The FA network is catching up") or says("The FA and mDFA networks are catching up with the others.")
    visit.until(lambda: not says(" up with the others"), "nets that are level")
    visit.close()


def test_a_net_goes_on_by_another_rule(visit: Visit) -> None:
    visit.train()
    number = visit.comparison.number
    visit.page.stage.switch.value = "fa"
    assert visit.comparison.number == number
    assert "→ FA" not in visit.stage.rules, "it is told when it is done"
    visit.until(lambda: "the mDFA network learns by FA. It keeps its weights." in visit.view.status, "the switch")
    assert visit.comparison.number == number
    assert "→ FA" in visit.stage.rules
    visit.until(lambda: visit.line("agreement", "mdfa")[-1] < 1.0, "a wrong sign")


def test_a_switch_that_is_refused_is_not_shown(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "feedback_init=uniform:0.001&rules=bp")
    visit.until_phase(Phase.IDLE)
    visit.press("10")
    visit.until(lambda: visit.comparison.position.step == 10 and visit.phase is Phase.PAUSED, "ten steps")
    visit.page.stage.switch.value = "mdfa"
    visit.until(lambda: "Not possible" in visit.view.status, "the refusal")
    assert "choose a larger scale" in visit.view.status
    assert visit.page.stage.switch.value == "bp"
    assert "→" not in visit.stage.rules + visit.stage.caption
    assert visit.run("bp").learner.method is METHODS["bp"]
    visit.page.stage.switch.value = "dfa"
    visit.until(lambda: "→ DFA" in visit.stage.rules, "a switch that is possible")
    assert "Not possible" not in visit.view.status
    visit.close()


def test_a_switch_is_taken_back(visit: Visit) -> None:
    visit.train()
    with at_once(visit.page.trainer):  # the net has not heard of the first when the second comes
        visit.page.stage.switch.value = "fa"
        visit.page.stage.switch.value = "mdfa"
    visit.until(lambda: "learns by mDFA" in visit.view.status, "the second switch")
    assert visit.run("mdfa").learner.method is METHODS["mdfa"]
    assert visit.page.stage.switch.value == "mdfa"
    assert "→" not in visit.stage.rules


def test_a_net_at_its_end_is_not_switched(visit: Visit) -> None:
    visit.controls.epochs.value = 2
    visit.widgets.speed.value = "max"
    visit.until_phase(Phase.IDLE)
    assert not visit.page.stage.switch.disabled
    visit.press("start")
    visit.until_phase(Phase.FINISHED)
    assert visit.page.stage.switch.disabled
    visit.page.stage.switch.value = "fa"  # a browser may say anything
    assert visit.page.stage.switch.value == "mdfa"
    visit.page.pick("toggle:bp")
    visit.until(lambda: visit.comparison.lanes["bp"].history.outcome is not None, "BP's end")
    assert "→" not in visit.stage.rules


def test_a_net_that_is_not_there_is_not_switched(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "data=mnist&rules=mdfa")
    visit.until_phase(Phase.IDLE)
    assert visit.page.stage.switch.disabled
    visit.page.stage.switch.value = "fa"
    assert visit.page.stage.switch.value == "mdfa"
    visit.close()


def test_a_switch_before_the_first_mini_batch_stays_when_a_rule_is_added(visit: Visit) -> None:
    visit.page.stage.switch.value = "fa"
    visit.until(lambda: "→ FA" in visit.stage.rules, "the switch")
    visit.page.pick("toggle:bp")
    visit.press("start")
    visit.until(lambda: visit.line("agreement", "bp") != [], "BP's curve")
    assert "→ FA" in visit.stage.rules
    assert visit.run("mdfa").learner.method is METHODS["fa"]


def test_a_net_that_was_switched_is_bounded_by_what_it_has_become(
    wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = Visit(wait_until, "rules=bp&optimizer=adam&outputs=10&learning_rate=0.01")
    visit.until_phase(Phase.IDLE)
    # Three small nets fit.
    small, large = (LIMITS.check(visit.comparison.experiment.replace(method=name)) for name in ("bp", "chl"))
    assert small < large
    monkeypatch.setattr(
        "mdfa_app.page.controller.LIMITS", Limits(run_bytes=large + 2 * small - 1)
    )  # three small ones fit
    visit.page.stage.switch.value = "chl"
    visit.until(lambda: visit.comparison.lanes["bp"].rule.name == "chl", "the switch")
    visit.page.pick("toggle:dfa")
    visit.page.pick("toggle:fa")
    assert "these 3 networks would need about" in visit.view.status.lower()
    assert visit.comparison.compared == ("bp", "dfa")
    visit.close()


def test_a_change_as_it_runs_starts_anew_and_leaves_a_grey_curve(visit: Visit) -> None:
    visit.train()
    visit.controls.outputs.value = 2
    visit.until(lambda: visit.comparison.worth_keeping, "three measurements with two outputs")
    assert visit.line("agreement", "mdfa")[-1] < 0.9
    assert set(visit.line("agreement", "mdfa", before=True)) == {1.0}
    assert "The grey curves show the previous run" in visit.view.status


def test_a_change_at_rest_waits_for_start(visit: Visit) -> None:
    visit.controls.activation.value = "relu"
    visit.until_phase(Phase.IDLE)
    assert visit.comparison.experiment.activation == "relu"
    assert visit.comparison.position.step == 0


def test_pause_step_reset(visit: Visit) -> None:
    visit.train()
    visit.press("pause")
    visit.until_phase(Phase.PAUSED)
    step = visit.comparison.position.step
    assert visit.widgets.start.label == "▶ Continue"
    per_epoch = 7
    for name, end in (
        ("1", step + 1),
        ("10", step + 11),
        ("epoch", (step + 11) // per_epoch * per_epoch + per_epoch),
    ):
        visit.press(name)
        visit.until(
            lambda end=end: visit.comparison.position.step == end and visit.phase is Phase.PAUSED,
            f"step {name}",
        )
    visit.press("reset")
    visit.until_phase(Phase.IDLE)
    assert visit.comparison.position.step == 0
    assert visit.comparison.before
    visit.press("reset")
    assert not visit.comparison.before
    visit.press("new_seed")
    assert visit.comparison.experiment.seed == 1


def test_pinned_runs_stay_in_charts_list_and_exports_until_they_are_removed(visit: Visit) -> None:
    def pinned() -> list[dict[str, Any]]:
        return list(visit.view.pins["runs"])

    def kept_lines() -> list[list[float]]:
        return [list(one) for one in visit.page.curves.charts["agreement"].kept_points()["y"]]

    visit.page.pin("too soon")
    assert "no curves yet" in visit.view.status
    visit.train()
    assert visit.view.pins["proposal"] == "One output"
    visit.page.pin("  the\nfirst <b>  ")
    assert [(run["name"], run["what"]) for run in pinned()] == [("the first <b>", "This is the current run.")]
    assert kept_lines() == [], "it is drawn as the current run"
    assert visit.view.pins["proposal"] == ""
    visit.page.pin("again")
    assert "pinned already, as “the first &lt;b&gt;”" in visit.view.status
    visit.controls.learning_rate.value = 0.1
    visit.controls.outputs.value = 2
    visit.until(lambda: visit.comparison.worth_keeping, "three measurements with two outputs")
    (run,) = pinned()
    assert run["what"] == "Unlike the current run: outputs 1."
    assert run["rows"][0][:2] == ["mDFA", "100 %"]
    assert visit.view.pins["proposal"] == "outputs 2, learning rate 0.1"
    (line,) = kept_lines()
    assert set(line) == {1.0}
    assert visit.line("agreement", "mdfa", before=True) == [], "it is not drawn twice"
    visit.press("pause")
    visit.until_phase(Phase.PAUSED)
    visit.page.pin("")
    visit.press("reset")
    visit.press("reset")
    assert [run["name"] for run in pinned()] == ["the first <b>", "outputs 2, learning rate 0.1"]
    assert len(kept_lines()) == 2
    assert not visit.comparison.before
    table = export.table(export.runs(visit.comparison))
    assert set(table.run) == {"the first <b>", "outputs 2, learning rate 0.1"}, "the new run has nothing yet"
    written = export.configuration(visit.comparison.experiment, [], 1, visit.comparison.pinned)
    settings = json.loads(written)["pinned"]
    assert settings["the first <b>"]["experiments"]["mdfa"]["learning_rate"] == 0.1, (
        "as it was changed while the run went on"
    )
    opened, complaints = link.read(pinned()[0]["query"], tabs=tuple(TABS))
    assert (opened.settings.learning_rate, complaints) == (0.1, [])
    visit.page.unpin("the first <b>")
    visit.page.unpin("no such run")
    assert [run["name"] for run in pinned()] == ["outputs 2, learning rate 0.1"]
    assert len(kept_lines()) == 1


def test_only_so_many_runs_are_pinned_and_their_names_differ(visit: Visit) -> None:
    for number in range(PINS + 1):
        visit.train()
        visit.press("pause")
        visit.until_phase(Phase.PAUSED)
        visit.page.pin("mine" if number else "before")
        if number < PINS:
            assert visit.page.complaint == ""
        visit.press("reset")
        visit.until_phase(Phase.IDLE)
    names = [run["name"] for run in visit.view.pins["runs"]]
    assert names == ["before (2)", "mine", *(f"mine ({number})" for number in range(2, PINS))]


def test_a_rule_that_leaves_a_pinned_run_stays_pinned(visit: Visit) -> None:
    visit.train()
    visit.page.pin("mine")
    visit.page.pick("toggle:bp")
    visit.page.pick("toggle:mdfa")
    (run,) = visit.view.pins["runs"]
    assert [row[0] for row in run["rows"]] == ["BP", "mDFA"]
    assert run["what"] == "This is the current run."
    assert len(visit.page.curves.charts["agreement"].kept_points()["y"]) == 1


@pytest.mark.parametrize("message", [None, {"pin": 3}, {"unpin": ["x"]}, ["pin"], {"other": "x"}, {"unpin": "x"}])
def test_what_the_list_of_pinned_runs_may_not_say_changes_nothing(resting: Visit, message: object) -> None:
    browser_says(resting.widgets.pins, message)
    assert resting.view.pins["runs"] == []
    assert resting.page.complaint == ""


def test_several_seeds_have_a_mean_a_band_and_the_first_seeds_picture(wait_until: Callable[..., None]) -> None:
    def trained(query: str) -> Visit:
        visit = Visit(wait_until, f"rules=dfa&network=fc:8&{query}")
        visit.until_phase(Phase.IDLE)
        visit.press("10")
        visit.until(lambda: visit.comparison.position.step == 10 and visit.phase is Phase.PAUSED, "ten steps")
        return visit

    visit, alone = trained("seeds=3"), trained("seeds=1")
    lane, chart = visit.comparison.lanes["dfa"], visit.page.curves.charts["agreement"]
    values = [history.probed.column("unit") for history in lane.histories]
    assert values[0] == alone.comparison.lanes["dfa"].history.probed.column("unit"), "the first seed trains as alone"
    assert values[0] != values[1]
    drawn = chart.points(visit.comparison.slot("dfa"))
    assert drawn["y"] == pytest.approx([sum(column) / 3 for column in zip(*values, strict=True)])
    assert drawn["low"] == [min(column) for column in zip(*values, strict=True)]
    assert drawn["high"] == [max(column) for column in zip(*values, strict=True)]
    assert visit.stage.scene["rows"][0]["meaning"] == "direct feedback alignment (seed\N{NO-BREAK SPACE}0)"
    assert alone.stage.scene["rows"][0]["meaning"] == "direct feedback alignment"
    assert "Seed 0, the first of 3." in visit.stage.caption
    assert "mean of 3 seeds" in visit.page.curves.bands
    assert alone.page.curves.bands == ""
    assert visit.page.link().seeds == 3
    table = export.table(export.runs(visit.comparison))
    (column,) = [part.value for seed, part in table[table.quantity == "probed: unit"].groupby("seed") if seed == 2]
    assert list(column) == values[2]
    visit.page.pin("")
    assert visit.view.pins["runs"][0]["name"].endswith("3 seeds")
    assert visit.run("dfa").replicas == 3
    visit.controls.seeds.value = 1
    visit.until_phase(Phase.IDLE)
    assert visit.run("dfa").replicas == 1
    assert "3 seeds" in visit.view.pins["runs"][0]["what"]
    visit.press("10")
    visit.until(lambda: visit.comparison.position.step == 10 and visit.phase is Phase.PAUSED, "ten steps of one seed")
    drawn = chart.points(visit.comparison.slot("dfa"))
    assert drawn["low"] == drawn["y"] == drawn["high"] == values[0], "no band is left"
    for one in (visit, alone):
        one.close()


def test_no_step_is_lost(visit: Visit) -> None:
    for name in ("1", "10", "1", "epoch", "epoch"):
        visit.press(name)
        visit.page.drain()
        assert not visit.widgets.steps["1"].disabled
    visit.until(
        lambda: visit.comparison.position.step == 21 and visit.phase is Phase.PAUSED,
        "12 steps and two epochs",
    )
    visit.press("start")
    visit.until(lambda: visit.widgets.steps["1"].disabled, "training")
    assert not visit.widgets.pause.disabled


def test_the_unit_that_is_looked_at_is_shown(visit: Visit) -> None:
    visit.until_phase(Phase.IDLE)
    assert visit.stage.signals == {}
    browser_says(visit.page.stage.nets, {"look": {"row": "mdfa", "layer": 0, "unit": 7}})
    visit.until(lambda: visit.stage.signals.get("unit") == 7, "its error signals")
    assert visit.page.stage.nets.signals == visit.stage.signals
    visit.press("1")
    visit.until(lambda: visit.stage.signals["step"] == 1, "those of the next mini-batch")
    browser_says(visit.page.stage.nets, {"look": None})
    assert visit.page.stage.nets.signals == {}
    for message in ({"look": "all"}, {"look": {"row": "mdfa", "layer": 0, "unit": 10**9}}, "look"):
        browser_says(visit.page.stage.nets, message)
    visit.press("1")
    visit.until(lambda: visit.comparison.position.step == 2, "another mini-batch")
    assert visit.stage.signals == {}


def test_the_learning_rate_changes_within_the_run(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(Run, "set_learning_rate", lambda run, rate: rates.append(rate))
    visit.train()
    number = visit.comparison.number
    visit.controls.learning_rate.value = 0.1
    assert visit.comparison.number == number
    assert "Learning rate 0.1 since epoch" in visit.view.status
    visit.until(lambda: rates == [0.1], "the new rate")


def test_a_learning_rate_after_the_end_is_that_of_new_nets(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "rules=mdfa&epochs=3&speed=max")
    visit.press("start")
    visit.until_phase(Phase.FINISHED)
    number = visit.comparison.number
    visit.controls.learning_rate.value = 3.0
    assert visit.comparison.number != number
    visit.page.pick("toggle:bp")
    visit.press("start")
    visit.until_phase(Phase.FINISHED)
    for name in ("mdfa", "bp"):
        run = visit.run(name)
        assert run.experiments[0].learning_rate == visit.comparison.experiment.learning_rate == 3.0
        assert run.learner.optimizer_state.rates == [3.0]
    visit.close()


def test_test_accuracy_is_told_at_the_end_only(visit: Visit) -> None:
    visit.controls.epochs.value = 2
    visit.widgets.speed.value = "max"
    visit.press("start")
    visit.until_phase(Phase.FINISHED)
    assert "evaluated once at the end: mDFA" in visit.view.status
    assert visit.widgets.start.label == "▶ Again"
    visit.press("start")
    visit.until_phase(Phase.FINISHED)


def test_divergence_is_told(visit: Visit) -> None:
    visit.page.pick("toggle:bp")
    visit.page.pick("toggle:mdfa")
    visit.controls.activation.value = "relu"
    visit.controls.learning_rate.value = 10.0
    visit.controls.forward.scale.value = 1e6
    visit.press("start")
    visit.until_phase(Phase.DIVERGED)
    assert "smaller learning rate" in visit.view.status
    assert visit.stage.scores["bp"] == "diverged"
    assert struct.unpack_from("<3f", visit.stage.frame)[2] == 1


@pytest.mark.parametrize("rule", ["bp", "mdfa"])
def test_nothing_is_said_of_a_net_that_is_no_number(wait_until: Callable[..., None], rule: str) -> None:
    query = "learning_rate=10&forward_init=normal:1e30&activation=relu&rules=bp,mdfa&tab=example&draw="
    visit = Visit(wait_until, query + rule)
    visit.scroll_to_tabs()
    visit.press("start")
    visit.until_phase(Phase.DIVERGED)
    tab = visit.example
    for _ in range(2):
        visit.example.search()
        visit.until(lambda: "No sign is defined in 239 training examples" in tab.answer.object, "the search")
        visit.example.pick(3)
        visit.until(lambda: tab.index == 3, "the example")
    assert "NaN or infinite, so there is no prediction" in tab.prediction.object
    assert "The network predicts" not in tab.prediction.object
    if rule == "bp":
        assert "zero or undefined" in visit.stage.meaning
    visit.close()


def test_every_level_has_its_curve_and_sentence(visit: Visit) -> None:
    visit.train()
    for level, words in (
        ("example", "single-example"),
        ("batch", "a mini-batch update is a sum"),
        ("unit", "unit error"),
    ):
        visit.widgets.level.value = level
        charts, slot = visit.page.curves.charts, visit.comparison.slot("mdfa")
        assert charts["agreement"].lines[slot].column == "unit"
        assert charts["updates"].lines[slot].column == ("example" if level == "example" else "batch")
        assert words in visit.stage.meaning


def test_every_tab_opens_and_shows_something(visit: Visit) -> None:
    layers, weights = visit.page.tabs["layers"], visit.page.tabs["weights"]
    assert isinstance(layers, LayersTab)
    assert isinstance(weights, WeightsTab)
    visit.train()
    for tab in ("curves", "weights", "example", "plane", "take", "layers"):
        visit.page.tabs.choice.value = tab
        visit.page.drain()
    visit.until(lambda: layers.grid.charts["angle"].points(0)["y"] != [], "a layer's angle")
    assert "Experiment(method=method" in visit.export.text.value
    visit.page.tabs.choice.value = "weights"
    visit.until(lambda: weights.layer is not None, "histograms")
    visit.page.tabs.choice.value = "example"
    visit.example.pick(3)
    visit.until(lambda: visit.example.index == 3, "the example")
    visit.example.search()
    visit.until(lambda: "No unit" in visit.example.answer.object, "the search")
    visit.page.pick("layer:1")
    assert visit.example.layer == 1


def checkpoint(visit: Visit) -> io.BytesIO | None:
    """What the page makes of a press of the button, as a browser may send it even where the button is disabled."""

    async def pressed() -> io.BytesIO | None:
        making = asyncio.create_task(visit.export.checkpoint())
        while not making.done():
            visit.page.drain()
            await asyncio.sleep(0.01)
        return await making

    return asyncio.run(pressed())


def test_a_checkpoint_that_cannot_be_made_is_a_sentence(
    wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    visit = Visit(wait_until, "rules=mdfa,mdfa-free")
    visit.page.open_tab("take")
    button = visit.export.downloads["checkpoint"]
    assert button.disabled
    visit.until_phase(Phase.IDLE)
    assert not button.disabled
    made = checkpoint(visit)
    assert made is not None
    (tmp_path / "run.pt").write_bytes(made.read())
    assert Run.load(tmp_path / "run.pt", device="cpu").step == 0

    visit.page.pick("draw:mdfa-free")
    assert button.disabled
    assert "mDFA, W free exists on this page only" in visit.export.no_checkpoint.object
    assert checkpoint(visit) is None
    assert "Not possible" in visit.view.status
    visit.page.pick("draw:mdfa")
    visit.page.stage.switch.value = "mdfa-free"
    visit.until(lambda: button.disabled, "the net to go on by a rule of this page alone")
    visit.page.stage.switch.value = "mdfa"
    visit.until(lambda: not button.disabled, "the net to go on by mDFA")

    visit.controls.data.value = "mnist"
    visit.until_phase(Phase.IDLE)
    assert button.disabled
    assert checkpoint(visit) is None
    assert "This network does not exist yet" in visit.view.status
    monkeypatch.setattr("mdfa_app.tabs.export.CHECKPOINT_SECONDS", 0.1)
    monkeypatch.setattr(visit.page.trainer, "ask", lambda *question: None)  # as if other nets were made just now
    assert checkpoint(visit) is None
    assert "No checkpoint was made within 0.1 seconds" in visit.view.status
    assert not downloads(button)
    visit.close()


def test_charts_that_nobody_sees_wait(visit: Visit) -> None:
    layers = visit.page.tabs["layers"]
    assert isinstance(layers, LayersTab)
    watcher = layers.grid.watcher

    def points() -> int:
        return len(layers.grid.charts["agreement"].points(0)["x"])

    visit.scroll_to_tabs()
    visit.train()
    seen = points()
    assert seen
    browser_says(watcher, False)
    visit.until(lambda: len(visit.line("agreement", "mdfa")) > seen + 2, "more measurements")
    assert points() == seen
    browser_says(watcher, "true")  # a browser may say anything
    assert points() == seen
    browser_says(watcher, True)
    assert points() == len(visit.line("agreement", "mdfa"))


def test_dark_and_light_recolour_every_line(resting: Visit) -> None:
    def colours() -> list[str]:
        return [colour for chart in resting.page.curves.charts.values() for colour in chart.colours]

    light = colours()
    resting.widgets.dark.value = True
    assert all(before != after for before, after in zip(light, colours(), strict=True))
    resting.widgets.dark.value = False
    assert colours() == light


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_is_shown_with_its_claim(resting: Visit, name: str) -> None:
    resting.page.pick("preset:plane" if name != "plane" else "preset:relu")
    resting.page.pick(f"preset:{name}")
    preset = PRESETS[name]
    assert preset.look[:30].replace("'", "&#x27;") in resting.view.claim
    assert f'data-pick="preset:{name}" aria-pressed="true"' in resting.view.presets
    assert resting.view.presets.count('aria-pressed="true"') == 1
    assert resting.comparison.compared == preset.rules
    assert resting.comparison.experiment == preset.experiment == resting.controls.experiment()
    resting.until_phase(Phase.IDLE)


def test_ones_own_keeps_settings_and_run(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "preset=two-outputs&epochs=200")
    visit.train()
    number, settings = visit.comparison.number, visit.comparison.experiment
    assert "You changed epochs to 200" in visit.view.claim
    browser_says(visit.widgets.claim, "preset:none")
    assert visit.page.preset == ""
    assert "Your own settings" in visit.view.claim
    assert visit.comparison.compared == ("mdfa", "dfa")
    assert visit.comparison.experiment == settings == visit.controls.experiment()
    assert visit.comparison.number == number
    visit.until_phase(Phase.RUNNING)
    assert "preset=none" in visit.widgets.address.query
    again = Visit(wait_until, visit.widgets.address.query)
    assert again.view.presets == visit.view.presets
    again.close()
    browser_says(visit.widgets.presets, "preset:relu")
    assert visit.page.preset == "relu"
    visit.close()


def test_a_configuration_without_a_claim_says_so(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "preset=none&data=moons")
    assert "Your own settings" in visit.view.claim
    visit.page.pick("preset:relu")
    assert "Your own settings" not in visit.view.claim
    visit.close()


def test_changed_data_have_their_title(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "preset=two-outputs&data=moons&epochs=200")
    assert "You changed data to two moons, epochs to 200: the claim" in visit.view.claim
    visit.close()


def test_a_link_opens_the_page_as_it_was(visit: Visit, wait_until: Callable[..., None]) -> None:
    visit.page.pick("preset:two-outputs")
    visit.page.pick("toggle:bp")
    visit.controls.learning_rate.value = 0.1
    visit.widgets.level.value = "batch"
    other = Visit(wait_until, visit.widgets.address.query)
    assert other.page.link() == visit.page.link()
    assert other.controls.experiment() == visit.controls.experiment()
    assert "You changed learning rate to 0.1: the claim of “Two outputs” no longer applies" in other.view.claim
    other.page.pick("restore")
    assert other.controls.experiment() == PRESETS["two-outputs"].experiment
    assert "no longer applies" not in other.view.claim
    other.close()
    bad = Visit(wait_until, "network=%3Cscript%3E")
    assert "&lt;script&gt;" in bad.page.view.status
    assert "<script>" not in bad.page.view.status
    bad.close()


@pytest.mark.parametrize("preset", ["one-output", "two-outputs", "relu"])
def test_a_link_opens_the_tab_that_was_open(wait_until: Callable[..., None], preset: str) -> None:
    visit = Visit(wait_until, f"preset={preset}")
    assert visit.page.tabs.name == (PRESETS[preset].tab or "layers")
    assert "tab" not in visit.widgets.address.query
    for tab in TABS:
        visit.page.tabs.choice.value = tab
        opened, complaints = link.read(visit.widgets.address.query, tabs=tuple(TABS))
        assert (opened.tab or PRESETS[preset].tab or "layers", complaints) == (tab, [])
    other = Visit(wait_until, visit.widgets.address.query)
    assert other.page.tabs.name == tab
    assert other.page.link() == visit.page.link()
    visit.close()
    other.close()


def test_a_number_of_outputs_that_only_a_link_can_ask_for_stays(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "outputs=7")
    visit.controls.batch_size.value = 64
    visit.controls.activation.value = "relu"
    assert visit.comparison.experiment.outputs == 7
    assert visit.controls.outputs.options["7"] == 7
    visit.controls.data.value = "moons"
    assert visit.comparison.experiment.outputs == 1
    assert list(visit.controls.outputs.options.values()) == [1, 2]
    visit.close()


# --------------------------------------------------------------------------------------------- what is not allowed


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("epochs", 0, "The number of epochs is 0: give an integer of at least 1"),
        ("epochs", None, "The number of epochs is None"),
        ("epochs", LIMITS.epochs + 1, "this server allows at most"),
        ("seed", -1, "The seed is -1"),
    ],
)
def test_a_value_that_is_not_allowed_is_a_sentence_and_nothing_is_lost(
    visit: Visit, field: str, value: int | None, sentence: str
) -> None:
    visit.train()
    number, before = visit.comparison.number, getattr(visit.controls, field).value
    getattr(visit.controls, field).value = value
    assert sentence in visit.view.status
    marked = [name for name, shown in visit.controls.form.shown.items() if shown["wrong"]]
    assert marked == [field], "the field is marked"
    assert visit.comparison.number == number
    assert visit.phase is Phase.RUNNING
    visit.page.pick("toggle:bp")
    assert visit.comparison.compared == ("bp", "mdfa")
    assert sentence in visit.view.status, "the field still shows it"
    getattr(visit.controls, field).value = before
    assert "Not possible" not in visit.view.status
    assert not any(shown["wrong"] for shown in visit.controls.form.shown.values())
    assert visit.comparison.number == number


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        ("fc:8,x", "has a size that is"),
        ("nonsense", "unknown network"),
        ("conv:8/20", "kernel of 20×20"),
        ("fc:100000,100000", "billion multiplications"),
        ("fc:" + ",".join(["4"] * 9), "at most 8"),
        ("", "unknown network"),
    ],
)
def test_a_network_of_ones_own_is_checked(resting: Visit, network: str, sentence: str) -> None:
    resting.controls.own_network.value = network
    resting.controls.network.value = OWN
    assert resting.controls.own_network.visible
    assert sentence.lower() in resting.view.status.lower()
    resting.controls.own_network.value = "fc:8,8,8"
    assert "Not possible" not in resting.view.status
    assert resting.comparison.experiment.network == "fc:8,8,8"


def test_what_a_visitor_types_is_no_markup(resting: Visit) -> None:
    resting.controls.own_network.value = "<script>alert(1)</script>"
    resting.controls.network.value = OWN
    assert "&lt;script&gt;" in resting.view.status
    assert "<script>" not in resting.view.status


def test_a_failed_run_says_why_and_another_one_goes(visit: Visit) -> None:
    visit.controls.batch_size.value = 512
    visit.press("start")
    visit.until_phase(Phase.FAILED)
    assert "The batch size is 512, but a task has only" in visit.view.status
    visit.controls.batch_size.value = 16
    visit.until_phase(Phase.IDLE)
    visit.train()


# -------------------------------------------------------------------------------------- choices come from the tables


def test_every_entry_of_the_tables_is_offered(visit: Visit) -> None:
    offered = {
        "activation": (ACTIVATIONS, visit.controls.activation),
        "optimizer": (OPTIMIZERS, visit.controls.optimizer),
        "data": (DATASETS, visit.controls.data),
    }
    for table, widget in offered.values():
        assert list((widget.options or {}).values()) == list(table)
    fitting = [name for name in NETWORKS if LIMITS.fits(FIRST.replace(network=name))]
    assert "digits-conv" in fitting
    assert list(visit.controls.network.options.values()) == [LAYERED, *fitting, OWN]
    assert set(METHODS) < set(rules())
    assert all(f'data-pick="toggle:{name}"' in visit.stage.rules for name in rules())
    assert list(visit.controls.forward.kind.options) == list(INITIALIZERS)
    assert list(visit.controls.feedback.kind.options) == [name for name in INITIALIZERS if name != "zeros"]


def test_what_is_added_to_a_table_appears_by_itself(wait_until: Callable[..., None]) -> None:
    added = (
        (METHODS, "mine", dataclasses.replace(METHODS["mdfa"], title="Mine")),
        (ACTIVATIONS, "sine", dataclasses.replace(ACTIVATIONS["relu"], title="sine", monotone=False)),
        (OPTIMIZERS, "plain", SGD()),
        (NETWORKS, "tiny", Architecture((Dense(4),))),
    )
    for table, name, entry in added:
        table.add(name, entry)  # type: ignore[attr-defined]
    try:
        visit = Visit(wait_until)
        assert {"mine", "mine-free"} <= set(visit.comparison.rules)
        assert visit.controls.activation.options["sine"] == "sine"
        assert "plain" in visit.controls.optimizer.options.values()
        assert "tiny" in visit.controls.network.options
        visit.controls.network.value = "tiny"
        visit.page.pick("draw:mine")
        visit.train()
        assert "Mine, one output: Theorem 2 holds" in visit.stage.meaning
        visit.close()
    finally:
        for table, name, _ in added:
            table.remove(name)  # type: ignore[attr-defined]


@pytest.mark.parametrize("outputs", [1, 10])
def test_every_rule_trains_with_every_number_of_outputs(wait_until: Callable[..., None], outputs: int) -> None:
    visit = Visit(wait_until, f"rules={','.join(rules())}&outputs={outputs}&network=fc:8,8")
    visit.until_phase(Phase.IDLE)
    visit.press("10")
    visit.until(lambda: visit.comparison.position.step == 10 and visit.phase is Phase.PAUSED, "ten steps")
    assert all(lane.history.probed.last is not None for lane in visit.comparison.lanes.values())
    assert visit.stage.scene["outputs"] == outputs
    assert set(visit.comparison.films) == set(rules())
    visit.close()


def test_depth_and_width_make_the_network(visit: Visit) -> None:
    visit.controls.depth.value, visit.controls.width.value = 3, 16
    assert visit.comparison.experiment.network == "fc:16,16,16"
    visit.controls.depth.value = 0
    assert visit.comparison.experiment.network == "fc:"


def test_layers_are_added_and_removed_on_the_drawing(visit: Visit) -> None:
    nets, controls = visit.page.stage.nets, visit.controls
    controls.width.value = 16
    for depth, network in ((3, "fc:16,16,16"), (0, "fc:"), (1, "fc:16")):
        browser_says(nets, {"depth": depth})
        assert (controls.depth.value, visit.comparison.experiment.network) == (depth, network)
        assert nets.depth == {"now": depth, "most": 8}
    controls.own_network.value, controls.network.value = "fc:64,24", OWN
    for depth, network in ((3, "fc:64,24,24"), (2, "fc:64,24"), (1, "fc:64")):
        browser_says(nets, {"depth": depth})
        assert visit.comparison.experiment.network == network
    for other in ("digits-conv", "no network"):
        controls.own_network.value, controls.network.value = other, OWN
        browser_says(nets, {"depth": 2})
        assert (nets.depth, controls.own_network.value) == ({}, other)


@pytest.mark.parametrize("network", ["digits-conv", "fc:", "fc:4,4,4,4,4,4,4,4"])
def test_every_shape_of_net_is_drawn(visit: Visit, network: str) -> None:
    visit.controls.own_network.value = network
    visit.controls.network.value = OWN
    visit.train()
    hidden = len(visit.stage.scene["layers"])
    assert hidden == {"digits-conv": 2, "fc:": 0}.get(network, 8)
    if network == "fc:":
        assert "No hidden layer" in visit.stage.meaning


def test_a_replay_has_the_name_of_a_preset_only_with_its_settings(visit: Visit) -> None:
    def heading() -> str:
        visit.until(lambda: visit.stage.frame, "the first frame")
        made = visit.export.replay()
        assert made is not None
        return re.findall("<h1>(.*?)</h1>", made.read().decode())[0]

    visit.controls.seed.value = 3
    visit.until_phase(Phase.IDLE)
    assert heading() == "One output"
    visit.controls.outputs.value = 2
    visit.until_phase(Phase.IDLE)
    assert heading() == "Learning without backpropagation"


def test_choices_follow_the_data_set(visit: Visit) -> None:
    assert max(visit.controls.outputs.options.values()) == 10
    assert "cifar-conv" not in visit.controls.network.options
    visit.controls.outputs.value = 10
    visit.controls.data.value = "cifar100"
    assert max(visit.controls.outputs.options.values()) == 100
    assert "cifar-conv" in visit.controls.network.options
    visit.until_phase(Phase.IDLE)
    assert "not on this server yet" in visit.view.status
    assert "CIFAR-100 is not on this server yet: Start downloads it" in visit.stage.why_empty
    assert visit.stage.scene == {}
    visit.controls.outputs.value = 100
    visit.controls.data.value = "digits"
    visit.until(lambda: bool(visit.stage.scene), "new networks")
    assert visit.stage.why_empty == ""
    assert visit.controls.outputs.value == 1
    assert visit.comparison.experiment == FIRST


def test_what_would_have_to_be_fetched_waits_for_start(visit: Visit) -> None:
    visit.train()
    visit.controls.data.value = "mnist"
    visit.until_phase(Phase.IDLE)
    assert "not on this server yet" in visit.view.status
    visit.press("start")
    visit.until_phase(Phase.FAILED)
    assert "Cannot download http://127.0.0.1:9/" in visit.view.status
    assert "Cannot download http://127.0.0.1:9/" in visit.stage.why_empty


def test_help_comes_from_the_experiment(resting: Visit) -> None:
    for field in dataclasses.fields(Experiment):
        for shown in resting.controls.fields.get(field.name, ())[:1]:
            assert field.metadata["help"][1:] in shown.help


def test_the_global_generator_is_left_alone(visit: Visit) -> None:
    before = torch.get_rng_state()
    visit.train()
    assert torch.equal(torch.get_rng_state(), before)
