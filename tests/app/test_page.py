"""The page and its controls without a browser: what a visitor does, and what the page then shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest
import torch

from app.controls import FIRST, OWN
from app.limits import LIMITS
from app.page import Page
from app.session import State
from mdfa_core import ACTIVATIONS, DATASETS, INITIALIZERS, METHODS, NETWORKS, OPTIMIZERS, Experiment, Run
from mdfa_core.networks import Architecture, Dense
from mdfa_core.optimizers import SGD


class Visit:
    """A page whose updates are drawn when the test looks."""

    def __init__(self, wait_until: Callable[..., None]) -> None:
        self._wait_until = wait_until
        self.page = Page(None)
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
        self.until(lambda: self.page._live.worth_keeping, "three measurements")


@pytest.fixture
def visit(wait_until: Callable[..., None]) -> Iterator[Visit]:
    made = Visit(wait_until)
    made.until_state(State.IDLE)
    yield made
    made.page.close(None)
    assert made.page.trainer.join(30)


def last(source_row: dict[str, list[float]], column: str) -> float:
    return float(source_row[column][-1])


# ---------------------------------------------------------------------------------------------------- the whole path


def test_start_draws_accuracy_and_agreement(visit: Visit) -> None:
    visit.train()
    progress, _, probed = (source.data for source in visit.page.charts._live)
    assert len(progress["x"]) > 3
    assert set(probed["unit0"]) == {1.0}
    assert set(probed["unit1"]) == {1.0}
    assert "100 % of the unit error signals have the true sign." in visit.page.meaning.object
    assert "Theorem 2 holds" in visit.page.meaning.object
    assert "100 %" in visit.page.keys["agreement"].object


def test_switching_to_fa_as_it_runs_starts_anew_and_leaves_a_grey_curve(visit: Visit) -> None:
    visit.train()
    visit.controls.method.value = "fa"
    assert visit.page.experiment.method == "fa"
    visit.until(lambda: visit.page._live.worth_keeping, "three measurements with FA")
    _, _, live = (source.data for source in visit.page.charts._live)
    _, _, ghost = (source.data for source in visit.page.charts._ghost)
    assert last(live, "unit0") < 0.8 < last(ghost, "unit0") == 1.0
    assert "before: mDFA" in visit.page.keys["agreement"].object
    assert "The grey lines are the run before (mDFA)" in visit.page.status.object
    assert "unconstrained signs" in visit.page.meaning.object


def test_a_change_at_rest_waits_for_start(visit: Visit) -> None:
    visit.controls.activation.value = "relu"
    visit.until_state(State.IDLE)
    assert visit.page.experiment.activation == "relu"
    assert visit.page._where == (0, 0)


def test_pause_step_reset(visit: Visit) -> None:
    visit.train()
    visit.press("pause")
    visit.until_state(State.PAUSED)
    _, step = visit.page._where
    assert visit.page.start.label == "▶ Continue"
    visit.press("step")
    visit.until(lambda: visit.page._where[1] == step + 1 and visit.page.state is State.PAUSED, "one step")
    visit.press("reset")
    visit.until_state(State.IDLE)
    assert visit.page._where == (0, 0)
    assert visit.page._ghost is not None
    visit.press("reset")
    assert visit.page._ghost is None


def test_the_learning_rate_changes_within_the_run(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    monkeypatch.setattr(Run, "set_learning_rate", lambda run, rate: rates.append(rate))
    visit.train()
    number = visit.page._number
    visit.controls.learning_rate.value = 0.1
    assert visit.page._number == number
    assert "Learning rate 0.1 since epoch" in visit.page.status.object
    visit.until(lambda: rates == [0.1], "the new rate")


def test_test_accuracy_is_told_at_the_end_only(visit: Visit) -> None:
    visit.controls.epochs.value = 2
    visit.page.speed.value = "max"
    visit.press("start")
    visit.until(lambda: visit.page._where[1] > 0, "a step")
    visit.until_state(State.FINISHED)
    assert "Test accuracy" in visit.page.status.object
    assert visit.page.start.label == "▶ Again"
    visit.press("start")
    visit.until_state(State.RUNNING)
    assert "Test accuracy" not in visit.page.status.object


def test_divergence_is_told(visit: Visit) -> None:
    visit.controls.activation.value = "relu"
    visit.controls.method.value = "bp"
    visit.controls.learning_rate.value = 10.0
    visit.controls.forward.scale.value = 1e6
    visit.press("start")
    visit.until_state(State.DIVERGED)
    assert "smaller learning rate" in visit.page.status.object


def test_every_level_has_its_curve_and_sentence(visit: Visit) -> None:
    visit.train()
    for level, words in (("example", "single-example"), ("batch", "a mini-batch is a sum"), ("unit", "unit error")):
        visit.page.level.value = level
        assert visit.page.charts._layer_lines[0][0].glyph.y == f"{level}0"
        assert words in visit.page.meaning.object


def test_dark_and_light_recolour_every_line(visit: Visit) -> None:
    def colours() -> list[str]:
        return [renderer.glyph.line_color for renderer, _ in visit.page.charts._colours]

    light = colours()
    visit.page.dark.value = True
    assert all(before != after for before, after in zip(light, colours(), strict=True))
    visit.page.dark.value = False
    assert colours() == light


# --------------------------------------------------------------------------------------------- what is not allowed


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("epochs", 0, "The epochs is 0: give an integer of at least 1"),
        ("epochs", None, "The epochs is None"),
        ("epochs", LIMITS.epochs + 1, "this server allows at most"),
        ("seed", -1, "The seed is -1"),
    ],
)
def test_a_value_that_is_not_allowed_is_a_sentence_and_nothing_is_lost(
    visit: Visit, field: str, value: int | None, sentence: str
) -> None:
    visit.train()
    number = visit.page._number
    getattr(visit.controls, field).value = value
    assert sentence in visit.page.status.object
    assert visit.page._number == number
    assert visit.page.state is State.RUNNING
    getattr(visit.controls, field).value = getattr(FIRST, field)
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
        "method": (METHODS, visit.controls.method),
        "activation": (ACTIVATIONS, visit.controls.activation),
        "optimizer": (OPTIMIZERS, visit.controls.optimizer),
        "data": (DATASETS, visit.controls.data),
    }
    for table, widget in offered.values():
        assert list(widget.options.values()) == list(table)
    fitting = [name for name in NETWORKS if LIMITS.fits(FIRST.replace(network=name))]
    assert "digits-conv" in fitting
    assert list(visit.controls.network.options.values()) == [*fitting, OWN]
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
        assert visit.controls.method.options["Mine"] == "mine"
        assert visit.controls.activation.options["sine"] == "sine"
        assert "plain" in visit.controls.optimizer.options.values()
        assert "tiny" in visit.controls.network.options
        visit.controls.method.value, visit.controls.network.value = "mine", "tiny"
        visit.train()
        assert "Mine, one output: Theorem 2 holds" in visit.page.meaning.object
        visit.page.close(None)
        assert visit.page.trainer.join(30)
    finally:
        for table, name, _ in added:
            table.remove(name)  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("outputs", [1, 2, 10])
def test_every_method_trains_with_every_number_of_outputs(visit: Visit, method: str, outputs: int) -> None:
    visit.controls.method.value, visit.controls.outputs.value = method, outputs
    visit.page.speed.value = "max"
    visit.train()
    assert f"{outputs} output" in visit.page.net.object


@pytest.mark.parametrize("network", ["digits-conv", "fc:", "fc:4,4,4,4,4,4,4,4"])
def test_every_shape_of_net_is_drawn(visit: Visit, network: str) -> None:
    visit.controls.own_network.value = network
    visit.controls.network.value = OWN
    visit.train()
    hidden = visit.page.net.object.count("--layer")
    assert hidden == {"digits-conv": 4, "fc:": 0}.get(network, 16)
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
    assert visit.page.experiment == FIRST.replace(outputs=1)


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
            if field.name != "method":  # described below its buttons
                assert field.metadata["help"][1:] in widget.description  # type: ignore[attr-defined]


def test_the_global_generator_is_left_alone(visit: Visit) -> None:
    before = torch.get_rng_state()
    visit.train()
    assert torch.equal(torch.get_rng_state(), before)
