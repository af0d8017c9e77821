"""The page and its controls without a browser: what a visitor does, and what the page then shows."""

from __future__ import annotations

import asyncio
import dataclasses
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from app.controls import LAYERED, OWN
from app.details import TABS
from app.limits import LIMITS, Limits
from app.messages import State
from app.page import Page
from app.presets import FIRST, PRESETS
from app.rules import rules
from mdfa_core import ACTIVATIONS, DATASETS, INITIALIZERS, METHODS, NETWORKS, OPTIMIZERS, Experiment, Run
from mdfa_core.networks import Architecture, Dense
from mdfa_core.optimizers import SGD


class Visit:
    """A page whose updates are drawn when the test looks."""

    def __init__(self, wait_until: Callable[..., None], query: str = "rules=mdfa") -> None:
        self._wait_until = wait_until
        self.page = Page(None, query)
        self.controls = self.page.controls

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def drained() -> bool:
            self.page.drain()
            return condition()

        self._wait_until(drained, what)

    def until_state(self, state: State) -> None:
        self.until(lambda: self.page.state is state, f"state {state}")

    def press(self, name: str) -> None:
        getattr(self.page, name).clicks += 1

    def train(self) -> None:
        """Train until there is something to compare with."""
        self.press("start")
        self.until(lambda: self.page._worth_keeping, "three measurements")

    def close(self) -> None:
        self.page.close(None)
        assert self.page.trainer.join(30)

    def line(self, chart: str, rule: str, *, before: bool = False) -> list[float]:
        """What a chart draws of a rule."""
        sources = self.page.charts[chart]._ghost if before else self.page.charts[chart]._live
        return list(sources[self.page._slot(rule)].data["y"])


@pytest.fixture
def visit(wait_until: Callable[..., None]) -> Iterator[Visit]:
    made = Visit(wait_until)
    made.until_state(State.IDLE)
    yield made
    made.close()


# ---------------------------------------------------------------------------------------------------- the whole path


def test_start_draws_accuracy_and_agreement(visit: Visit) -> None:
    visit.train()
    assert set(visit.line("agreement", "mdfa")) == {1.0}
    assert "100 % of the unit error signals have the true sign." in visit.page.meaning.object
    assert "Theorem 2 holds" in visit.page.meaning.object
    assert visit.page.list.values["mdfa signs"] == "100 %"
    assert visit.page.net.values["share0"] == "100 %"
    visit.until(lambda: len(visit.line("accuracy", "mdfa")) > 0, "an epoch")


def test_several_rules_are_compared(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "rules=mdfa,dfa,fa,bp,mdfa-free")
    visit.train()
    assert set(visit.line("agreement", "mdfa")) == set(visit.line("agreement", "bp")) == {1.0}
    for rule in ("fa", "dfa", "mdfa-free"):
        assert visit.line("agreement", rule)[-1] < 0.75
    visit.page.list.pick("draw:fa")
    assert "unconstrained signs" in visit.page.meaning.object
    assert "back through fixed random weights" in visit.page.net.html
    visit.close()


def test_a_rule_that_is_added_catches_up_and_the_last_one_stays(visit: Visit) -> None:
    visit.train()
    visit.page.list.pick("toggle:dfa")
    assert "catches up" in visit.page.status.object
    visit.until(lambda: len(visit.line("agreement", "dfa")) >= 1, "DFA's curve")
    assert visit.page.compared == ("dfa", "mdfa")
    visit.page.list.pick("toggle:mdfa")
    assert visit.page.compared == ("dfa",)
    assert visit.page.drawn == "dfa"
    visit.page.list.pick("toggle:dfa")
    assert "at least one rule" in visit.page.status.object.lower()
    assert visit.page.compared == ("dfa",)
    for word in ("toggle:<b>", "draw:", "layer:99", "layer:x", "nonsense"):
        visit.page.list.pick(word)


def test_a_note_stays_as_long_as_it_is_true(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "rules=bp")
    visit.until_state(State.IDLE)

    def says(text: str) -> bool:
        return text in visit.page.status.object

    for press in ("start", "pause"):
        visit.press("new_seed")
        visit.until(lambda: says("New nets "), "a note")
        visit.press(press)
        visit.until(lambda: not says("New nets "), f"its end with {press}")
    visit.press("new_seed")
    visit.until_state(State.IDLE)
    assert says("New nets are ready")
    visit.page.steps["10"].clicks += 1
    visit.until_state(State.PAUSED)
    assert says("Continue goes on from here")
    visit.train()
    visit.page.list.pick("toggle:mdfa")
    assert says("The net of mDFA catches up with the others.")
    visit.page.list.pick("toggle:fa")
    assert says("of FA catches up") or says("The nets of FA and mDFA catch up with the others.")
    visit.until(lambda: not says(" up with the others"), "nets that are level")
    visit.close()


def test_a_net_goes_on_by_another_rule(visit: Visit) -> None:
    visit.train()
    number = visit.page._number
    visit.page.goes_on.value = "fa"
    assert visit.page._number == number
    assert "→ FA" not in visit.page.list.html, "it is told when it is done"
    visit.until(lambda: "The net of mDFA goes on by FA from epoch" in visit.page.status.object, "the switch")
    assert visit.page._number == number
    assert "→ FA" in visit.page.list.html
    visit.until(lambda: visit.line("agreement", "mdfa")[-1] < 1.0, "a wrong sign")


def test_a_switch_that_is_refused_is_not_shown(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "feedback_init=uniform:0.001&rules=bp")
    visit.until_state(State.IDLE)
    visit.page.steps["10"].clicks += 1
    visit.until(lambda: visit.page.position.step == 10 and visit.page.state is State.PAUSED, "ten steps")
    visit.page.goes_on.value = "mdfa"
    visit.until(lambda: "Not possible" in visit.page.status.object, "the refusal")
    assert "choose a larger scale" in visit.page.status.object
    assert visit.page.goes_on.value == "bp"
    assert "→" not in visit.page.list.html + visit.page.drawn_title.object
    assert visit.page.trainer._nets["bp"].run.learner.method is METHODS["bp"]
    visit.page.goes_on.value = "dfa"
    visit.until(lambda: "→ DFA" in visit.page.list.html, "a switch that is possible")
    assert "Not possible" not in visit.page.status.object
    visit.close()


def test_a_switch_is_taken_back(visit: Visit) -> None:
    visit.train()
    with visit.page.trainer._changed:  # the net has not heard of the first when the second comes
        visit.page.goes_on.value = "fa"
        visit.page.goes_on.value = "mdfa"
    visit.until(lambda: "goes on by mDFA" in visit.page.status.object, "the second switch")
    assert visit.page.trainer._nets["mdfa"].run.learner.method is METHODS["mdfa"]
    assert visit.page.goes_on.value == "mdfa"
    assert "→" not in visit.page.list.html


def test_a_net_at_its_end_is_not_switched(visit: Visit) -> None:
    visit.controls.epochs.value = 2
    visit.page.speed.value = "max"
    visit.until_state(State.IDLE)
    assert not visit.page.goes_on.disabled
    visit.press("start")
    visit.until_state(State.FINISHED)
    assert visit.page.goes_on.disabled
    visit.page.goes_on.value = "fa"  # a browser may say anything
    assert visit.page.goes_on.value == "mdfa"
    visit.page.list.pick("toggle:bp")
    visit.until(lambda: visit.page.lanes["bp"].history.outcome is not None, "BP's end")
    assert "→" not in visit.page.list.html


def test_a_net_that_is_not_there_is_not_switched(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "data=mnist&rules=mdfa")
    visit.until_state(State.IDLE)
    assert visit.page.goes_on.disabled
    visit.page.goes_on.value = "fa"
    assert visit.page.goes_on.value == "mdfa"
    visit.close()


def test_a_switch_before_the_first_mini_batch_stays_when_a_rule_is_added(visit: Visit) -> None:
    visit.page.goes_on.value = "fa"
    visit.until(lambda: "→ FA" in visit.page.list.html, "the switch")
    visit.page.list.pick("toggle:bp")
    visit.press("start")
    visit.until(lambda: visit.line("agreement", "bp") != [], "BP's curve")
    assert "→ FA" in visit.page.list.html
    assert visit.page.trainer._nets["mdfa"].run.learner.method is METHODS["fa"]


def test_a_net_that_was_switched_is_bounded_by_what_it_has_become(
    wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = Visit(wait_until, "rules=bp&optimizer=adam&outputs=10&learning_rate=0.01")
    visit.until_state(State.IDLE)
    small, large = (LIMITS.check(visit.page.experiment.replace(method=name)) for name in ("bp", "chl"))
    assert small < large
    monkeypatch.setattr("app.page.LIMITS", Limits(run_bytes=large + 2 * small - 1))  # three small ones fit
    visit.page.goes_on.value = "chl"
    visit.until(lambda: visit.page.lanes["bp"].rule.name == "chl", "the switch")
    visit.page.list.pick("toggle:dfa")
    visit.page.list.pick("toggle:fa")
    assert "these 3 nets would need about" in visit.page.status.object.lower()
    assert visit.page.compared == ("bp", "dfa")
    visit.close()


def test_a_change_as_it_runs_starts_anew_and_leaves_a_grey_curve(visit: Visit) -> None:
    visit.train()
    visit.controls.outputs.value = 2
    visit.until(lambda: visit.page._worth_keeping, "three measurements with two outputs")
    assert visit.line("agreement", "mdfa")[-1] < 0.9
    assert set(visit.line("agreement", "mdfa", before=True)) == {1.0}
    assert "The grey lines are those before" in visit.page.status.object


def test_a_change_at_rest_waits_for_start(visit: Visit) -> None:
    visit.controls.activation.value = "relu"
    visit.until_state(State.IDLE)
    assert visit.page.experiment.activation == "relu"
    assert visit.page.position.step == 0


def test_pause_step_reset(visit: Visit) -> None:
    visit.train()
    visit.press("pause")
    visit.until_state(State.PAUSED)
    step = visit.page.position.step
    assert visit.page.start.label == "▶ Continue"
    per_epoch = 7
    for name, end in (
        ("1", step + 1),
        ("10", step + 11),
        ("epoch", (step + 11) // per_epoch * per_epoch + per_epoch),
    ):
        visit.page.steps[name].clicks += 1
        visit.until(
            lambda end=end: visit.page.position.step == end and visit.page.state is State.PAUSED, f"step {name}"
        )
    visit.press("reset")
    visit.until_state(State.IDLE)
    assert visit.page.position.step == 0
    assert visit.page.before
    visit.press("reset")
    assert not visit.page.before
    visit.press("new_seed")
    assert visit.page.experiment.seed == 1


def test_no_step_is_lost(visit: Visit) -> None:
    for name in ("1", "10", "1", "epoch", "epoch"):
        visit.page.steps[name].clicks += 1
        visit.page.drain()
        assert not visit.page.steps["1"].disabled
    visit.until(lambda: visit.page.position.step == 21 and visit.page.state is State.PAUSED, "12 steps and two epochs")
    visit.press("start")
    visit.until(lambda: visit.page.steps["1"].disabled, "training")
    assert not visit.page.pause.disabled


def test_the_learning_rate_changes_within_the_run(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(Run, "set_learning_rate", lambda run, rate: rates.append(rate))
    visit.train()
    number = visit.page._number
    visit.controls.learning_rate.value = 0.1
    assert visit.page._number == number
    assert "Learning rate 0.1 since epoch" in visit.page.status.object
    visit.until(lambda: rates == [0.1], "the new rate")


def test_a_learning_rate_after_the_end_is_that_of_new_nets(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "rules=mdfa&epochs=3&speed=max")
    visit.press("start")
    visit.until_state(State.FINISHED)
    number = visit.page._number
    visit.controls.learning_rate.value = 3.0
    assert visit.page._number != number
    visit.page.list.pick("toggle:bp")
    visit.press("start")
    visit.until_state(State.FINISHED)
    for name in ("mdfa", "bp"):
        run = visit.page.trainer._nets[name].run
        assert run.experiments[0].learning_rate == visit.page.experiment.learning_rate == 3.0
        assert run.learner.descent.rates == [3.0]
    visit.close()


def test_test_accuracy_is_told_at_the_end_only(visit: Visit) -> None:
    visit.controls.epochs.value = 2
    visit.page.speed.value = "max"
    visit.press("start")
    visit.until_state(State.FINISHED)
    assert "looked at only now: mDFA" in visit.page.status.object
    assert visit.page.start.label == "▶ Again"
    visit.press("start")
    visit.until_state(State.FINISHED)


def test_divergence_is_told(visit: Visit) -> None:
    visit.page.list.pick("toggle:bp")
    visit.page.list.pick("toggle:mdfa")
    visit.controls.activation.value = "relu"
    visit.controls.learning_rate.value = 10.0
    visit.controls.forward.scale.value = 1e6
    visit.press("start")
    visit.until_state(State.DIVERGED)
    assert "smaller learning rate" in visit.page.status.object
    assert visit.page.list.values["bp train"] == "diverged"


@pytest.mark.parametrize("rule", ["bp", "mdfa"])
def test_nothing_is_said_of_a_net_that_is_no_number(wait_until: Callable[..., None], rule: str) -> None:
    query = "learning_rate=10&forward_init=normal:1e30&activation=relu&rules=bp,mdfa&tab=example&draw="
    visit = Visit(wait_until, query + rule)
    visit.press("start")
    visit.until_state(State.DIVERGED)
    pane = visit.page.details.example_pane
    assert pane is not None
    for _ in range(2):
        visit.page._find()
        visit.until(lambda: "No sign is defined in 239 training images" in pane._answer.object, "the search")
        visit.page._pick_example(3)
        visit.until(lambda: pane.index == 3, "the example")
    assert "no number" in pane._said.object
    assert "The net says" not in pane._said.object
    if rule == "bp":
        assert "exactly 0 or no number" in visit.page.meaning.object
    visit.close()


def test_every_level_has_its_curve_and_sentence(visit: Visit) -> None:
    visit.train()
    for level, words in (("example", "single-example"), ("batch", "a mini-batch is a sum"), ("unit", "unit error")):
        visit.page.level.value = level
        assert visit.page.charts["agreement"]._drawn[visit.page._slot("mdfa")].column == level
        assert words in visit.page.meaning.object


def test_every_tab_opens_and_shows_something(visit: Visit) -> None:
    visit.train()
    for tab in ("curves", "weights", "example", "plane", "take", "layers"):
        visit.page.details.choice.value = tab
        visit.page.drain()
    visit.until(lambda: visit.page.details._charts["layers"]["angle"]._live[0].data["y"] != [], "a layer's angle")
    assert "Experiment(method=method" in visit.page.take.text.value
    visit.page.details.choice.value = "weights"
    visit.until(lambda: visit.page.details._panes["weights"]._snapshot is not None, "histograms")  # type: ignore[union-attr]
    visit.page.details.choice.value = "example"
    visit.page._pick_example(3)
    visit.until(lambda: visit.page.details.example_pane.index == 3, "the example")  # type: ignore[union-attr]
    visit.page._find()
    visit.until(lambda: "No unit" in visit.page.details.example_pane._answer.object, "the search")  # type: ignore[union-attr]
    visit.page.net.pick("layer:1")
    assert visit.page.details.example_pane.layer == 1  # type: ignore[union-attr]


def checkpoint(visit: Visit) -> io.BytesIO | None:
    """What the page makes of a press of the button, as a browser may send it even where the button is disabled."""

    async def pressed() -> io.BytesIO | None:
        making = asyncio.create_task(visit.page.take._checkpoint())
        while not making.done():
            visit.page.drain()
            await asyncio.sleep(0.01)
        return await making

    return asyncio.run(pressed())


def test_a_checkpoint_that_cannot_be_made_is_a_sentence(
    wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    visit = Visit(wait_until, "rules=mdfa,mdfa-free")
    button = visit.page.take.downloads["checkpoint"]
    assert button.disabled
    visit.until_state(State.IDLE)
    assert not button.disabled
    made = checkpoint(visit)
    assert made is not None
    (tmp_path / "run.pt").write_bytes(made.read())
    assert Run.load(tmp_path / "run.pt", device="cpu").step == 0

    visit.page.list.pick("draw:mdfa-free")
    assert button.disabled
    assert "mDFA, W free is a rule of this page alone" in visit.page.take._no_checkpoint.object
    assert checkpoint(visit) is None
    assert "Not possible" in visit.page.status.object
    visit.page.list.pick("draw:mdfa")
    visit.page.goes_on.value = "mdfa-free"
    visit.until(lambda: button.disabled, "the net to go on by a rule of this page alone")
    visit.page.goes_on.value = "mdfa"
    visit.until(lambda: not button.disabled, "the net to go on by mDFA")

    visit.controls.data.value = "mnist"
    visit.until_state(State.IDLE)
    assert button.disabled
    assert checkpoint(visit) is None
    assert "There is no such net yet" in visit.page.status.object
    monkeypatch.setattr("app.takeaway_pane._PATIENCE", 0.1)
    monkeypatch.setattr(visit.page.trainer, "ask", lambda *question: None)  # as if other nets were made just now
    assert checkpoint(visit) is None
    assert "No checkpoint was made within 0.1 seconds" in visit.page.status.object
    asyncio.run(button._async_sync_data())  # what a press does: nothing is raised, and nothing downloaded
    assert button._transfers == 0
    visit.close()


def test_charts_that_nobody_sees_wait(visit: Visit) -> None:
    details = visit.page.details
    line = details._charts["layers"]["agreement"]._live[0]
    above = visit.page.charts["agreement"]._live[visit.page._slot("mdfa")]
    visit.train()
    seen = len(line.data["x"])
    assert seen
    details._sights["layers"]._handle_msg(False)
    visit.until(lambda: len(above.data["x"]) > seen + 2, "more measurements")
    assert len(line.data["x"]) == seen
    details._sights["layers"]._handle_msg("true")  # a browser may say anything
    assert len(line.data["x"]) == seen
    details._sights["layers"]._handle_msg(True)
    assert len(line.data["x"]) == len(above.data["x"])


def test_dark_and_light_recolour_every_line(visit: Visit) -> None:
    def colours() -> list[str]:
        return [line.glyph.line_color for chart in visit.page.charts.values() for line in chart._live_lines]

    light = colours()
    visit.page.dark.value = True
    assert all(before != after for before, after in zip(light, colours(), strict=True))
    visit.page.dark.value = False
    assert colours() == light


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_is_shown_with_its_claim(visit: Visit, name: str) -> None:
    visit.page.presets.value = "plane" if name != "plane" else "relu"
    visit.page.presets.value = name
    preset = PRESETS[name]
    assert preset.look[:30].replace("'", "&#x27;") in visit.page.claim.object
    assert visit.page.compared == preset.rules
    assert visit.page.experiment == preset.experiment == visit.controls.experiment()
    visit.until_state(State.IDLE)


def test_ones_own_keeps_settings_and_run(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "preset=two-outputs&epochs=200")
    visit.train()
    number, settings = visit.page._number, visit.page.experiment
    presets = visit.page.presets
    presets._process_events({"value": presets.options["Your own"]})  # as it comes from a browser
    assert visit.page.preset == ""
    assert "Nothing is claimed of this configuration" in visit.page.claim.object
    assert visit.page.compared == ("mdfa", "dfa")
    assert visit.page.experiment == settings == visit.controls.experiment()
    assert visit.page._number == number
    visit.until_state(State.RUNNING)
    assert "preset=none" in visit.page.address.query
    again = Visit(wait_until, visit.page.address.query)
    assert again.page.presets.value == presets.value
    again.close()
    presets._process_events({"value": "relu"})
    assert visit.page.preset == "relu"
    visit.close()


def test_a_configuration_without_a_claim_says_so(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "preset=none&data=moons")
    assert "Nothing is claimed of this configuration" in visit.page.claim.object
    visit.page.presets.value = "relu"
    assert "Nothing is claimed" not in visit.page.claim.object
    visit.close()


def test_a_link_opens_the_page_as_it_was(visit: Visit, wait_until: Callable[..., None]) -> None:
    visit.page.presets.value = "two-outputs"
    visit.page.list.pick("toggle:bp")
    visit.controls.learning_rate.value = 0.1
    visit.page.level.value = "batch"
    other = Visit(wait_until, visit.page.address.query)
    assert other.page.link_state() == visit.page.link_state()
    assert other.controls.experiment() == visit.controls.experiment()
    assert "changed since" in other.page.claim.object
    other.close()
    bad = Visit(wait_until, "network=%3Cscript%3E")
    assert "&lt;script&gt;" in bad.page.status.object
    assert "<script>" not in bad.page.status.object
    bad.close()


@pytest.mark.parametrize("tab", list(TABS))
@pytest.mark.parametrize("preset", ["one-output", "two-outputs", "relu"])
def test_a_link_opens_the_tab_that_was_open(wait_until: Callable[..., None], preset: str, tab: str) -> None:
    visit = Visit(wait_until, f"preset={preset}")
    assert visit.page.details.tab == (PRESETS[preset].tab or "layers")
    assert "tab" not in visit.page.address.query
    visit.page.details.choice.value = tab
    other = Visit(wait_until, visit.page.address.query)
    assert other.page.details.tab == tab
    assert other.page.link_state() == visit.page.link_state()
    visit.close()
    other.close()


def test_a_number_of_outputs_that_only_a_link_can_ask_for_stays(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "outputs=7")
    visit.controls.batch_size.value = 64
    visit.controls.activation.value = "relu"
    assert visit.page.experiment.outputs == 7
    assert visit.controls.outputs.options["7 (7 classes)"] == 7
    visit.controls.data.value = "moons"
    assert visit.page.experiment.outputs == 1
    assert list(visit.controls.outputs.options.values()) == [1, 2]
    visit.close()


# --------------------------------------------------------------------------------------------- what is not allowed


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("epochs", 0, "The epochs is 0: give an integer of at least 1"),
        ("epochs", None, "The epochs is None"),
        ("epochs", LIMITS.epochs + 1, "this server allows at most"),
        ("seed", -1, "The seed is -1"),
        ("depth", None, "The number of hidden layers is None: give an integer of at least 0"),
    ],
)
def test_a_value_that_is_not_allowed_is_a_sentence_and_nothing_is_lost(
    visit: Visit, field: str, value: int | None, sentence: str
) -> None:
    visit.train()
    number, before = visit.page._number, getattr(visit.controls, field).value
    getattr(visit.controls, field).value = value
    assert sentence in visit.page.status.object
    assert visit.page._number == number
    assert visit.page.state is State.RUNNING
    visit.page.list.pick("toggle:bp")
    assert visit.page.compared == ("bp", "mdfa")
    assert sentence in visit.page.status.object, "the field still shows it"
    getattr(visit.controls, field).value = before
    assert "Not possible" not in visit.page.status.object
    assert visit.page._number == number


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
def test_a_network_of_ones_own_is_checked(visit: Visit, network: str, sentence: str) -> None:
    visit.controls.own_network.value = network
    visit.controls.network.value = OWN
    assert visit.controls.own_network.visible
    assert sentence.lower() in visit.page.status.object.lower()
    visit.controls.own_network.value = "fc:8,8,8"
    assert "Not possible" not in visit.page.status.object
    assert visit.page.experiment.network == "fc:8,8,8"


def test_what_a_visitor_types_is_no_markup(visit: Visit) -> None:
    visit.controls.own_network.value = "<script>alert(1)</script>"
    visit.controls.network.value = OWN
    assert "&lt;script&gt;" in visit.page.status.object
    assert "<script>" not in visit.page.status.object


def test_a_failed_run_says_why_and_another_one_goes(visit: Visit) -> None:
    visit.controls.batch_size.value = 512
    visit.press("start")
    visit.until_state(State.FAILED)
    assert "The batch size is 512, but a task has only" in visit.page.status.object
    visit.controls.batch_size.value = 16
    visit.until_state(State.IDLE)
    visit.train()


# -------------------------------------------------------------------------------------- choices come from the tables


def test_every_entry_of_the_tables_is_offered(visit: Visit) -> None:
    offered = {
        "activation": (ACTIVATIONS, visit.controls.activation),
        "optimizer": (OPTIMIZERS, visit.controls.optimizer),
        "data": (DATASETS, visit.controls.data),
    }
    for table, widget in offered.values():
        assert list(widget.options.values()) == list(table)
    fitting = [name for name in NETWORKS if LIMITS.fits(FIRST.replace(network=name))]
    assert "digits-conv" in fitting
    assert list(visit.controls.network.options.values()) == [LAYERED, *fitting, OWN]
    assert set(METHODS) < set(rules())
    assert all(f'data-pick="toggle:{name}"' in visit.page.list.html for name in rules())
    assert visit.controls.forward.kind.options == list(INITIALIZERS)
    assert visit.controls.feedback.kind.options == [name for name in INITIALIZERS if name != "zeros"]


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
        assert {"mine", "mine-free"} <= set(visit.page.rules)
        assert visit.controls.activation.options["sine"] == "sine"
        assert "plain" in visit.controls.optimizer.options.values()
        assert "tiny" in visit.controls.network.options
        visit.controls.network.value = "tiny"
        visit.page.list.pick("draw:mine")
        visit.train()
        assert "Mine, one output: Theorem 2 holds" in visit.page.meaning.object
        visit.close()
    finally:
        for table, name, _ in added:
            table.remove(name)  # type: ignore[attr-defined]


@pytest.mark.parametrize("outputs", [1, 2, 10])
def test_every_rule_trains_with_every_number_of_outputs(wait_until: Callable[..., None], outputs: int) -> None:
    visit = Visit(wait_until, f"rules={','.join(rules())}&outputs={outputs}&speed=max")
    visit.train()
    assert f"{outputs} output" in visit.page.net.html
    visit.close()


def test_depth_and_width_make_the_network(visit: Visit) -> None:
    visit.controls.depth.value, visit.controls.width.value = 3, 16
    assert visit.page.experiment.network == "fc:16,16,16"
    visit.controls.depth.value = 0
    assert visit.page.experiment.network == "fc:"


@pytest.mark.parametrize("network", ["digits-conv", "fc:", "fc:4,4,4,4,4,4,4,4"])
def test_every_shape_of_net_is_drawn(visit: Visit, network: str) -> None:
    visit.controls.own_network.value = network
    visit.controls.network.value = OWN
    visit.train()
    hidden = visit.page.net.html.count('data-pick="layer:')
    assert hidden == {"digits-conv": 2, "fc:": 0}.get(network, 8)
    if network == "fc:":
        assert "No hidden layer" in visit.page.meaning.object


def test_choices_follow_the_data_set(visit: Visit) -> None:
    assert max(visit.controls.outputs.options.values()) == 10
    assert "cifar-conv" not in visit.controls.network.options
    visit.controls.outputs.value = 10
    visit.controls.data.value = "cifar100"
    assert max(visit.controls.outputs.options.values()) == 100
    assert "cifar-conv" in visit.controls.network.options
    visit.until_state(State.IDLE)
    assert "not on this server yet" in visit.page.status.object
    visit.controls.outputs.value = 100
    visit.controls.data.value = "digits"
    assert visit.controls.outputs.value == 1
    assert visit.page.experiment == FIRST


def test_what_would_have_to_be_fetched_waits_for_start(visit: Visit) -> None:
    visit.train()
    visit.controls.data.value = "mnist"
    visit.until_state(State.IDLE)
    assert "not on this server yet" in visit.page.status.object
    visit.press("start")
    visit.until_state(State.FAILED)
    assert "Cannot download http://127.0.0.1:9/" in visit.page.status.object


def test_help_comes_from_the_experiment(visit: Visit) -> None:
    for field in dataclasses.fields(Experiment):
        for widget in visit.controls.widgets.get(field.name, ())[:1]:
            assert field.metadata["help"][1:] in widget.description  # type: ignore[attr-defined]


def test_the_global_generator_is_left_alone(visit: Visit) -> None:
    before = torch.get_rng_state()
    visit.train()
    assert torch.equal(torch.get_rng_state(), before)
