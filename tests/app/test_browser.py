"""The page in a real Chromium: what a visitor sees, presses and leaves."""

from __future__ import annotations

import io
import itertools
import json
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import panel as pn
import pytest
from PIL import Image

from mdfa_app import build
from mdfa_app.serving.pacing import Pacing
from mdfa_app.settings.presets import PRESETS
from mdfa_app.tabs import TABS, chart_grid
from mdfa_core import Experiment, Run
from mdfa_core.stage import recording_in
from tests.support.patience import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect, Locator, Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(trainers: Callable[[], int], wait_until: Callable[..., None]) -> Iterator[str]:
    """A server in this process, whose threads can be counted; a session ends some seconds after its page."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server: Any = pn.serve(
        {"app": build},
        port=port,
        address="127.0.0.1",
        threaded=True,
        show=False,
        unused_session_lifetime_milliseconds=4000,
        check_unused_sessions_milliseconds=250,
        websocket_origin=f"127.0.0.1:{port}",
    )
    yield f"http://127.0.0.1:{port}/app"
    wait_until(lambda: trainers() == 0, "the end of all pages' trainers")
    server.stop()
    server.join(PATIENCE)


class Visitor:
    """A visitor's eyes and hands."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self.errors.append(line.text) if line.type in ("error", "warning") else None)
        # A page with an address of its own neither begins by itself nor opens the tour.
        page.goto(address if "?" in address else f"{address}?speed=normal")
        self.state("Ready")

    def check(self) -> None:
        """Nothing went wrong, and nobody but the server was asked."""
        local = ("data:", "blob:", "http://127.0.0.1:", "ws://127.0.0.1:")
        assert [url for url in self.requests if not url.startswith(local)] == []
        assert self.errors == []

    def state(self, name: str) -> None:
        self.page.locator(".chip", has_text=re.compile(f"^{name}$")).wait_for()

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def shows(self, text: str | re.Pattern[str]) -> Locator:
        found = self.page.get_by_text(text).locator("visible=true").first  # helps are there, too, and hidden
        found.wait_for()
        return found

    def epoch(self) -> int:
        return int(self.page.locator(".numbers b").first.inner_text().split("/")[0])

    def signs(self, rule: str) -> str:
        """What the stage says of a rule's error signals."""
        row = self.page.locator(".row", has=self.page.get_by_role("heading", name=re.compile(rf"^{rule}\b")))
        return row.locator("dd").first.inner_text()

    def settled(self, number: Locator) -> int:
        """A number once it stands still: parts of a page are told one after the other."""
        before, now = "", number.inner_text()
        while before != now:
            self.page.wait_for_timeout(500)
            before, now = now, number.inner_text()
        return int(now)

    def choose(self, label: str, choice: str) -> None:
        self.page.get_by_label(label, exact=True).select_option(choice)

    def mark(self, label: str, choice: str) -> None:
        """Choose one of the buttons of a setting."""
        group = self.page.get_by_role("radiogroup", name=label, exact=True)
        group.get_by_role("radio", name=choice, exact=True).check()

    def slide(self, label: str, choice: str) -> None:
        """Move a slider with the keyboard until it shows a choice."""
        slider = self.page.get_by_label(label, exact=True)
        slider.press("Home")
        for _ in range(12):
            if slider.get_attribute("aria-valuetext") == choice:
                return
            slider.press("ArrowRight")
        pytest.fail(f"{label} has no {choice}")

    def card(self, title: str) -> Locator:
        """The card of a preset."""
        return self.page.get_by_role("group", name="Experiments").get_by_role(
            "button", name=re.compile(rf"^{re.escape(title)}\b")
        )

    def unfold(self, title: str) -> None:
        self.page.get_by_text(title, exact=True).click()


@pytest.fixture
def visitor(page: Page, address: str) -> Iterator[Visitor]:
    """Whatever a test does, the page logs no error and asks nobody but its server."""
    visitor = Visitor(page, address)
    yield visitor
    visitor.check()


def test_start_compares_rules_and_a_change_leaves_grey_curves(
    visitor: Visitor, wait_until: Callable[..., None]
) -> None:
    visitor.press("▶ Start")
    visitor.shows("100 % of the unit error signals have the true sign.")
    wait_until(lambda: visitor.signs("mDFA") == "100 %", "mDFA at 100 %")
    wait_until(lambda: re.fullmatch(r"[456]\d\.\d %", visitor.signs("FA")) is not None, "FA near chance")
    visitor.page.get_by_role("checkbox", name="BP", exact=True).click()
    wait_until(lambda: visitor.signs("BP") == "100 %", "BP to catch up")
    visitor.press("Draw FA")
    visitor.shows(re.compile(r"^[456]\d\.\d % of the unit error signals have the true sign\."))
    wait_until(lambda: visitor.epoch() > 20, "curves that are worth keeping")
    visitor.mark("Outputs", "2")
    visitor.shows(re.compile("The grey curves show the previous run"))
    visitor.page.wait_for_function("location.search.includes('outputs=2')")
    visitor.page.wait_for_function("location.search.includes('rules=')")


def test_a_net_goes_on_by_another_rule(visitor: Visitor, wait_until: Callable[..., None]) -> None:
    choice = visitor.page.get_by_label("Switch this network to", exact=True)
    visitor.press("▶ Start")
    wait_until(lambda: visitor.signs("mDFA") == "100 %", "mDFA at 100 %")
    choice.select_option("FA")
    visitor.shows(re.compile("the mDFA network learns by FA\\."))
    assert choice.locator("option:checked").inner_text() == "FA"
    wait_until(lambda: visitor.signs("mDFA") != "100 %", "a wrong sign")
    choice.select_option("mDFA")
    visitor.shows(re.compile("the mDFA network learns by mDFA\\."))
    visitor.press("Draw FA")
    wait_until(lambda: choice.locator("option:checked").inner_text() == "FA", "FA's own rule")


def test_a_layer_on_the_stage_opens_its_details(visitor: Visitor) -> None:
    visitor.press("Plane")
    visitor.page.wait_for_function("location.search.includes('tab=plane')")
    visitor.page.get_by_role("button", name=re.compile("^FA, layer 2, 128 units")).click()
    visitor.shows("Saturated activations")
    visitor.page.wait_for_function("location.search.includes('draw=fa') && !location.search.includes('tab=')")


def test_layers_are_added_and_removed_on_the_drawing(visitor: Visitor) -> None:
    page = visitor.page
    fewer, more = (
        page.get_by_role("button", name=name) for name in ("Remove the last hidden layer", "Add a hidden layer")
    )
    for button, depth in ((more, 3), (more, 4), (fewer, 3)):
        button.focus()
        button.press("Enter")
        page.get_by_role("button", name=re.compile(f"^DFA, layer {depth}, 128 units")).wait_for()
        page.locator(".depth output", has_text=f"{depth} hidden layers").wait_for()
        page.wait_for_function("location.search.includes('network=')")
    assert page.get_by_role("button", name=re.compile("^DFA, layer 4")).count() == 0
    assert fewer.evaluate("(button) => button.matches(':focus')"), "the focus stays for the next layer"


def test_a_unit_under_the_pointer_shows_its_error_signals(visitor: Visitor, wait_until: Callable[..., None]) -> None:
    page = visitor.page
    row = page.locator(".row", has=page.get_by_role("heading", name=re.compile("^DFA")))
    tip, layer = row.locator(".tip"), row.get_by_role("button", name=re.compile("^DFA, layer 1"))
    box = layer.bounding_box()
    assert box is not None
    layer.hover(position={"x": box["width"] / 2, "y": box["height"] / 2})
    tip.get_by_text(re.compile(r"^Right in \d+ of 32 examples$")).wait_for()
    tip.get_by_text("its weights", exact=True).wait_for()
    at_rest = tip.locator(".scatter").evaluate("(canvas) => canvas.toDataURL()")
    visitor.press("Step")  # the pointer leaves the unit
    tip.wait_for(state="hidden")
    layer.focus()
    layer.press("ArrowRight")
    row.locator(".heard", has_text=re.compile(r"^Layer 1, unit [01]: right in \d+ of 32 examples\.$")).wait_for()
    tip.get_by_text(re.compile("^Layer 1, unit [01]$")).wait_for()
    assert tip.locator(".scatter").evaluate("(canvas) => canvas.toDataURL()") != at_rest
    layer.press("Escape")
    tip.wait_for(state="hidden")


def test_tabs_open_and_what_is_taken_away_can_be_read(visitor: Visitor) -> None:
    visitor.press("▶ Start")
    visitor.shows("100 % of the unit error signals have the true sign.")
    for tab, text in (
        ("Loss and angle", "Training loss"),
        ("Weights", "Filters"),
        ("Plane", re.compile("have no plane")),
        ("Layers", "Saturated activations"),
        ("Export", "Curves as CSV"),
    ):
        visitor.press(tab)
        visitor.shows(text)
    with visitor.page.expect_download() as download:
        visitor.page.get_by_text("Curves as CSV").click()
    content = download.value.path().read_text()
    assert content.startswith("rule,epoch,quantity,value")
    assert "mdfa" in content
    with visitor.page.expect_download() as download:
        visitor.page.get_by_text("Curves as Parquet").click()
    assert set(pd.read_parquet(download.value.path()).rule) == {"mdfa", "dfa", "fa"}
    with visitor.page.expect_download() as download:
        visitor.page.get_by_text("Settings as JSON").click()
    experiments = json.loads(download.value.path().read_text())["experiments"]
    assert Experiment.from_dict(experiments["mdfa"]).method == "mdfa"
    with visitor.page.expect_download() as download:
        visitor.page.get_by_text("Replay as HTML").click()
    replayed = recording_in(download.value.path().read_text())
    assert [row["name"] for row in replayed["scene"]["rows"]] == ["mdfa", "dfa", "fa"]
    assert replayed["count"] > 1
    for kind, first in (("PNG", b"\x89PNG"), ("SVG", b"<svg")):
        name = f"Training accuracy.{kind.lower()}"
        with visitor.page.expect_download(lambda file, name=name: file.suggested_filename == name) as download:
            visitor.press(f"Charts as {kind}")
        assert download.value.path().read_bytes().lstrip().startswith(first)
    with visitor.page.expect_download() as download:
        visitor.page.get_by_text("Checkpoint of the drawn network").click()
    assert Run.load(download.value.path(), device="cpu").step > 0


def test_charts_out_of_sight_rest_and_catch_up_when_they_are_seen(
    visitor: Visitor, wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chart_grid, "REST_SECONDS", 1e9)

    def points(chart: str) -> int:
        return int(
            visitor.page.evaluate(
                """(name) => Math.max(0, ...(Bokeh.documents[0].get_model_by_name(name)?.renderers ?? [])
                  .filter((line) => line.glyph.type === "Line" && line.glyph.line_color.value !== null)
                  .map((line) => line.data_source.data.x.length))""",
                chart,
            )
        )

    above, below = "Error signals with the right sign", "Sign agreement by layer"
    visitor.page.set_viewport_size({"width": 1280, "height": 720})
    visitor.page.wait_for_timeout(500)  # until the server has heard of it
    visitor.choose("Speed", "4 steps / s")  # the run lasts longer than the test
    visitor.press("▶ Start")
    wait_until(lambda: points(above) > 10, "a curve")
    assert points(below) == 0
    visitor.page.get_by_role("region", name="Details").scroll_into_view_if_needed()
    visitor.shows("Saturated activations").scroll_into_view_if_needed()
    so_far = points(above)
    wait_until(lambda: points(below) >= so_far, "what has come before")
    visitor.page.mouse.wheel(0, -3000)

    def rests() -> bool:
        before, so_far = points(below), points(above)
        wait_until(lambda: points(above) > so_far + 5, "the curve above to go on")
        return points(below) == before

    wait_until(rests, "the charts below to rest")


def test_a_dark_page_prints_light_and_its_charts_have_lines(
    page: Page, address: str, wait_until: Callable[..., None]
) -> None:
    page.emulate_media(color_scheme="dark")
    visitor = Visitor(page, f"{address}?tab=layers")
    visitor.press("▶ Start")
    page.get_by_role("region", name="Details").scroll_into_view_if_needed()
    visitor.shows("Saturated activations")
    page.mouse.wheel(0, -5000)
    page.wait_for_function("scrollY === 0")  # the tab is out of sight
    wait_until(lambda: visitor.epoch() > 2, "lines")
    visitor.press("Pause")
    visitor.state("Paused")
    wait_until(lambda: len(_printed(page, ".details")) > 3, "the charts of the tab")
    page.emulate_media(media="print", color_scheme="dark")
    printed = _printed(page, ".curves") + _printed(page, ".details")
    assert len(printed) > 6
    for light, coloured in printed:
        assert light > 0.8
        assert coloured > 100
    page.emulate_media(media="screen", color_scheme="dark")
    assert all(light < 0.1 for light, _ in _printed(page, ".curves"))
    visitor.check()


OVER = """() => {
  const found = [], todo = [document], wide = document.documentElement.clientWidth;
  while (todo.length) for (const part of todo.pop().querySelectorAll("*")) {
    if (part.shadowRoot) todo.push(part.shadowRoot);
    const style = getComputedStyle(part), box = part.getBoundingClientRect();
    const cut = part.scrollWidth > part.clientWidth + 1 && ["auto", "scroll"].includes(style.overflowX);
    if (box.width > 1 && (cut || box.right > wide + 1)) found.push(`${part.tagName}.${part.className}`);
  }
  return found;
}"""
"""Parts that would be cut off on paper: wider than the page, or than a box that scrolls."""

BLANK = """() => {
  const found = [], todo = [document];
  while (todo.length) for (const part of todo.pop().querySelectorAll("*")) {
    if (part.shadowRoot) todo.push(part.shadowRoot);
    if (!part.matches(".mdfa-stage .net > canvas")) continue;
    const pixels = part.getContext("2d").getImageData(0, 0, part.width, part.height).data;
    found.push(!pixels.some((value) => value));
  }
  return found;
}"""
"""Whether the picture of each network is blank."""


def test_a_page_of_paper_has_all_networks_and_charts_and_cuts_nothing_off(
    page: Page, address: str, wait_until: Callable[..., None]
) -> None:
    visitor = Visitor(page, f"{address}?tab=paper")
    visitor.press("10 steps")
    visitor.state("Paused")
    visitor.shows("This tab is drawn when you scroll to it.").scroll_into_view_if_needed()
    visitor.shows("Pick a row to load its run.")
    page.get_by_role("region", name="What is this?").scroll_into_view_if_needed()  # the networks are out of sight
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 794, "height": 1123})  # A4
    wait_until(lambda: page.evaluate(BLANK) == [False] * 3, "pictures of three networks")
    wait_until(lambda: page.evaluate(OVER) == [], "a layout that fits")
    assert not page.get_by_role("button", name="Reset", exact=True).is_visible()
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) >= 3
    visitor.check()


def _printed(page: Page, place: str) -> list[tuple[float, int]]:
    """The share of light pixels of each chart, and the number of coloured ones; no chart comes into sight for it."""
    content = page.screenshot(full_page=True)
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    found = []
    for chart in page.locator(f"{place} .bk-Figure").all():
        box = chart.bounding_box()
        assert box is not None
        top, left = (round(box[side] + page.evaluate(f"scroll{side.upper()}")) for side in ("y", "x"))
        part = pixels[top : top + round(box["height"]), left : left + round(box["width"])]
        light = (part.min(axis=2) > 200).mean()
        found.append((float(light), int((np.ptp(part, axis=2) > 60).sum())))
    return found


def test_one_tooltip_has_all_rules_and_a_double_click_zooms_all_charts(
    visitor: Visitor, wait_until: Callable[..., None]
) -> None:
    def models(kind: str, value: str) -> Any:
        code = "([kind, value]) => [...Bokeh.documents[0].all_models].filter((m) => m.type === kind).map((m) => %s)"
        return visitor.page.evaluate(code % value, [kind, value])

    def ends() -> list[float]:
        return list(models("Figure", "m.x_range.end"))

    visitor.press("Epoch")
    visitor.state("Paused")
    chart = visitor.page.locator(".agreement .bk-events")
    chart.hover(position={"x": 80, "y": 60})
    text = visitor.page.locator(".bk-Tooltip table").inner_text()  # of the one tooltip
    for rule in ("mDFA", "DFA", "FA"):
        assert re.search(rf"\b{rule}\s+\d+\.\d %", text), text
    assert True in models("Span", "m.dimension === 'height' && m.visible")
    before = ends()
    chart.dblclick(position={"x": 80, "y": 60})
    wait_until(lambda: all(map(float.__lt__, ends(), map(float, before))), "the zoom")
    chart.dblclick(position={"x": 80, "y": 60})
    wait_until(lambda: ends() == before, "the way back")


def test_a_pinned_run_is_listed_and_read_in_the_charts_until_it_is_removed(visitor: Visitor) -> None:
    page = visitor.page
    runs = page.get_by_role("region", name="Pinned runs")
    runs.get_by_text("Train a run, then pin it here").wait_for()
    visitor.press("10 steps")
    name = page.get_by_label("Name of this run", exact=True)
    name.fill("first")
    name.press("Enter")
    runs.get_by_text("This is the current run.").wait_for()
    assert str(page.evaluate(FOCUSED)).startswith("first|")
    visitor.mark("Outputs", "2")
    runs.get_by_text("Unlike the current run: outputs 1.").wait_for()
    assert runs.get_by_role("row", name=re.compile("^mDFA 100 %")).count() == 1
    visitor.press("10 steps")
    runs.get_by_role("button", name="Pin this run", exact=True).wait_for()
    assert name.input_value() == "outputs 2"
    # The tooltip moves with the pointer: over the chart until it has a column of the pinned run.
    page.locator(".agreement .bk-events").hover(position={"x": 80, "y": 60})
    cell = page.locator(".bk-Tooltip table tr", has_text="mDFA").locator("td").last
    cell.get_by_text("100.0 %", exact=True).wait_for()
    assert page.locator(".bk-Tooltip th").all_inner_texts()[-1] == "first"
    with page.context.expect_page() as opened:
        runs.get_by_role("link", name="first", exact=True).click()
    assert "outputs" not in opened.value.url
    opened.value.close()
    page.get_by_role("button", name="Remove first", exact=True).press("Enter")
    runs.get_by_text("Unlike the current run").wait_for(state="detached")
    assert str(page.evaluate(FOCUSED)).startswith("Name of this run|")


def test_the_browser_acknowledges_what_it_has_drawn(
    visitor: Visitor, wait_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    answered = Pacing.answered

    def note(pacing: Pacing, number: int) -> float:
        told.append(number)
        return answered(pacing, number)

    monkeypatch.setattr(Pacing, "answered", note)
    visitor.press("▶ Start")
    visitor.state("Running")
    wait_until(lambda: len(told) >= 3, "acknowledgements")
    assert told == list(range(told[0], told[0] + len(told)))
    visitor.press("Pause")
    visitor.state("Paused")


def test_pause_step_and_reset(visitor: Visitor, wait_until: Callable[..., None]) -> None:
    visitor.press("▶ Start")
    visitor.shows("100 % of the unit error signals have the true sign.")
    visitor.press("Pause")
    visitor.state("Paused")
    steps = visitor.page.locator(".numbers b").nth(1)
    before = visitor.settled(steps)
    visitor.press("Step")
    visitor.page.locator(".numbers b").nth(1).get_by_text(str(before + 1), exact=True).wait_for()
    visitor.state("Paused")
    visitor.press("Reset")
    visitor.state("Ready")
    wait_until(lambda: visitor.epoch() == 0, "a run at its beginning")


def test_every_control_is_understood(visitor: Visitor) -> None:
    visitor.unfold("More settings")
    for label, choice in (("Network", "digits-conv"), ("Optimizer", "RMSprop")):
        visitor.choose(label, choice)
    for label, choice in (
        ("Outputs", "10"),
        ("Activation", "ReLU"),
        ("Initial weights W", "uniform"),
        ("Feedback weights B", "uniform"),
        ("Loss", "sum"),
    ):
        visitor.mark(label, choice)
    for label, choice in (("Learning rate", "0.001"), ("Batch size", "64")):
        visitor.slide(label, choice)
    for label, value in (("Epochs", "2"), ("Seed", "3")):
        field = visitor.page.get_by_label(label, exact=True)
        field.fill(value)
        field.press("Enter")
    visitor.page.get_by_role("button", name=re.compile("^mDFA, layer 1, 16 filters")).wait_for()
    visitor.choose("Convention of uniform", "as in the released code")
    for label in ("Scale of W", "Scale of B"):
        field = visitor.page.get_by_label(label, exact=True)
        field.fill("0.5")
        field.press("Enter")
    visitor.page.wait_for_function(
        "['convention=released', 'uniform:0.5', 'epochs=2', 'seed=3', 'optimizer=rmsprop', 'loss_scale=sum']"
        ".every((part) => location.search.includes(part))"
    )
    visitor.page.locator(".speed select").select_option("full speed")
    for method in ("BP", "DFA"):
        visitor.page.get_by_role("checkbox", name=method, exact=True).click()
    for level in ("One example", "Mini-batch", "Unit errors"):
        visitor.press(level)
    visitor.press("Dark")
    visitor.page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    visitor.press("New seed")
    visitor.press("▶ Start")
    visitor.state("Finished")
    visitor.shows(re.compile("Test accuracy, evaluated once"))


def test_several_seeds_have_a_band_and_say_what_is_shown(visitor: Visitor, wait_until: Callable[..., None]) -> None:
    page = visitor.page

    def bands() -> list[int]:
        code = (
            "[...Bokeh.documents[0].all_models].filter((m) => m.type === 'GlyphRenderer' && m.glyph.type === 'VArea')"
        )
        return list(page.evaluate(f"{code}.map((m) => m.data_source.data.low.length)"))

    visitor.unfold("More settings")
    visitor.mark("Seeds", "3")
    visitor.shows("Lines: mean of 3 seeds from 0 on. Bands: lowest to highest.")
    page.wait_for_function("location.search.includes('seeds=3')")
    visitor.shows("direct feedback alignment (seed 0)")
    visitor.press("10 steps")
    wait_until(lambda: sorted(bands())[-2:] >= [6, 6] and min(bands()) >= 1, "bands in all charts with measurements")
    visitor.mark("Seeds", "1")
    page.get_by_text("Lines: mean of 3 seeds").wait_for(state="detached")
    page.wait_for_function("!location.search.includes('seeds=')")


def test_a_bad_value_is_answered_in_the_page_and_training_goes_on(
    visitor: Visitor, wait_until: Callable[..., None]
) -> None:
    visitor.press("▶ Start")
    visitor.state("Running")
    visitor.unfold("More settings")
    field = visitor.page.get_by_label("Epochs", exact=True)
    below = visitor.page.get_by_role("radiogroup", name="Seeds", exact=True)

    def distance() -> float:
        upper, lower = field.bounding_box(), below.bounding_box()
        assert upper is not None
        assert lower is not None
        return lower["y"] - upper["y"]

    before, now = -1.0, distance()
    while before != now:  # what was folded is still being laid out
        visitor.page.wait_for_timeout(500)
        before, now = now, distance()
    field.fill("0")
    field.press("Enter")
    visitor.shows(re.compile("The number of epochs is 0: give an integer of at least 1"))
    visitor.page.locator("input[aria-invalid=true]").wait_for()
    wait_until(lambda: distance() == before, "nothing to be pushed down")
    visitor.state("Running")
    epoch = visitor.epoch()
    visitor.page.wait_for_function(
        "epoch => parseInt([...document.querySelectorAll('*')].map(e => e.shadowRoot?.querySelector('.numbers b'))"
        ".find(e => e)?.innerText) > epoch",
        arg=epoch,
    )


def test_leaving_the_page_ends_its_training(
    visitor: Visitor, trainers: Callable[[], int], wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: trainers() == 0, "the end of earlier pages' trainers")
    visitor.press("▶ Start")
    visitor.state("Running")
    assert trainers() == 1
    visitor.page.goto("about:blank")
    wait_until(lambda: trainers() == 0, "the end of the trainer")


def test_every_preset_and_a_cell_of_the_paper_are_links_that_open_again(visitor: Visitor) -> None:
    for name, preset in PRESETS.items():
        visitor.card(preset.title).click()
        visitor.shows(preset.look.partition(". ")[0])
        visitor.page.wait_for_function(
            "name => new URLSearchParams(location.search).get('preset') === name",
            arg=None if name == next(iter(PRESETS)) else name,
        )
        visitor.state("Ready")
    visitor.press("Paper")
    visitor.press("Load Table 1, FC, tanh, mDFA")
    visitor.card("Table 1, FC, tanh, mDFA").wait_for()
    visitor.unfold("Why?")
    visitor.shows(re.compile("The paper reports 100.0 ± 0.0 % training accuracy"))
    visitor.shows(re.compile("CIFAR-100 is not on this server yet: Start downloads it"))
    visitor.page.wait_for_function("location.search.includes('preset=table-1/fc/tanh/mdfa/2')")
    visitor.page.reload()
    visitor.card("Table 1, FC, tanh, mDFA").wait_for()
    assert visitor.page.get_by_label("Network", exact=True).input_value() == "cifar-fc"
    visitor.page.get_by_role("region", name="Details").scroll_into_view_if_needed()
    visitor.page.get_by_role("button", name="Load Table 1, FC, tanh, mDFA", pressed=True).wait_for()


def test_ones_own_keeps_settings_and_run(visitor: Visitor, wait_until: Callable[..., None]) -> None:
    visitor.card("Two outputs").click()
    visitor.mark("Activation", "sigmoid")
    visitor.shows(re.compile("You changed activation to sigmoid: the claim of “Two outputs” no longer applies"))
    visitor.press("▶ Start")
    wait_until(lambda: visitor.epoch() > 1, "an epoch")
    before = visitor.epoch()
    visitor.press("Keep as your own")
    visitor.page.wait_for_function("new URLSearchParams(location.search).get('preset') === 'none'")
    visitor.page.wait_for_function("location.search.includes('outputs=2')")
    visitor.page.get_by_text(re.compile("no longer applies")).wait_for(state="detached")
    visitor.state("Running")
    assert visitor.epoch() >= before
    assert visitor.card("Your own").get_attribute("aria-pressed") == "true"


FOCUSED = """() => {
  let found = document.activeElement;
  while (found?.shadowRoot?.activeElement) found = found.shadowRoot.activeElement;
  if (found === document.body) return "nothing|unseen";
  const name = found.getAttribute("aria-label") ?? found.labels?.[0]?.textContent ?? found.textContent;
  return [name.trim(), getComputedStyle(found).outlineStyle === "none" ? "unseen" : "seen"].join("|");
}"""
"""The name of what has the focus, through shadow roots, and whether that is seen."""


def test_all_of_it_goes_by_keyboard(visitor: Visitor) -> None:
    page = visitor.page

    def focused() -> str:
        return str(page.evaluate(FOCUSED))

    def tab_to(name: str) -> None:
        for _ in range(90):
            page.keyboard.press("Tab")
            what, ring = focused().rsplit("|", 1)
            if what == name or what.startswith(f"{name},"):
                assert ring == "seen"
                return
        pytest.fail(f"{name} is not reached")

    tab_to("▶ Start")
    page.keyboard.press("Enter")
    visitor.state("Running")
    tab_to("Draw FA")
    page.keyboard.press("Enter")
    visitor.shows(re.compile("^FA: the error returns"))
    assert focused().startswith("Draw FA")
    tab_to("BP")
    page.keyboard.press("Space")
    page.get_by_role("checkbox", name="BP", exact=True, checked=True).wait_for()
    tab_to("FA, layer 2, 128 units")
    page.keyboard.press("Enter")
    tab_to("Weights")
    page.keyboard.press("Space")
    visitor.shows("Filters")


def test_the_keyboard_opens_the_help_of_a_field_and_escape_closes_it(visitor: Visitor) -> None:
    page = visitor.page
    images = page.get_by_label("Data", exact=True)
    help_ = page.locator(".field.data .bubble")
    page.get_by_role("radiogroup", name="Outputs", exact=True).get_by_role("radio", name="1", exact=True).focus()
    page.keyboard.press("Shift+Tab")
    page.locator(".field.file .bubble").get_by_text("A CSV file of points").wait_for()
    page.keyboard.press("Shift+Tab")
    help_.get_by_text("Data set.").wait_for()
    assert images.evaluate("(field) => field.matches(':focus')"), "no stop of the Tab key between the fields"
    page.keyboard.press("Escape")
    help_.wait_for(state="hidden")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.locator(".field.outputs .bubble").get_by_text("Output units").wait_for()
    page.get_by_role("button", name="Help: Data", exact=True).click()
    help_.wait_for()
    page.mouse.move(0, 0)
    help_.wait_for(state="hidden")


def test_whatever_has_the_focus_has_a_name(visitor: Visitor) -> None:
    charts = visitor.page.locator(".bk-events")
    for number in range(charts.count()):
        charts.nth(number).focus()
    names = charts.evaluate_all("(layers) => layers.map((layer) => layer.ariaLabel)")
    assert "Training accuracy" in names
    nodes = visitor.page.context.new_cdp_session(visitor.page).send("Accessibility.getFullAXTree")["nodes"]
    focusable = [node for node in nodes if any(p["name"] == "focusable" for p in node.get("properties", ()))]
    assert len(focusable) > 40
    assert [node["role"]["value"] for node in focusable if not node.get("name", {}).get("value")] == []


def test_the_focus_stays_where_the_keyboard_is_used(visitor: Visitor, wait_until: Callable[..., None]) -> None:
    page = visitor.page
    numbers = page.locator(".numbers b")

    def focused() -> str:
        return str(page.evaluate(FOCUSED)).split("|")[0]

    def on(name: str) -> None:
        wait_until(lambda: focused() == name, f"the focus on {name}")

    page.get_by_role("button", name="Step", exact=True).focus()
    for _ in range(5):
        page.keyboard.press("Enter")
    numbers.nth(1).get_by_text("5", exact=True).wait_for()
    visitor.state("Paused")
    assert visitor.settled(numbers.nth(1)) == 5
    assert focused() == "Step"
    for _ in range(5):
        visitor.press("Step")
    numbers.nth(1).get_by_text("10", exact=True).wait_for()
    visitor.state("Paused")
    assert visitor.settled(numbers.nth(1)) == 10

    page.get_by_role("button", name="▶ Continue", exact=True).focus()
    for state, name in (("Running", "Pause"), ("Paused", "▶ Continue"), ("Running", "Pause")):
        page.keyboard.press("Enter")
        visitor.state(state)
        on(name)
    visitor.choose("Speed", "full speed")
    visitor.unfold("More settings")
    field = page.get_by_label("Epochs", exact=True)
    field.fill("200")  # enough that the focus moves to Pause before the end
    field.press("Enter")
    page.get_by_role("button", name="Pause", exact=True).focus()
    visitor.state("Finished")
    on("▶ Again")
    page.keyboard.press("Enter")
    wait_until(lambda: focused() in ("Pause", "▶ Again"), "the focus on one of the two")
    visitor.state("Finished")
    on("▶ Again")

    visitor.press("Paper")
    page.get_by_role("button", name="Load Table 1, FC, tanh, mDFA").focus()
    page.keyboard.press("Enter")
    visitor.card("Table 1, FC, tanh, mDFA").wait_for()
    assert focused() == "Load Table 1, FC, tanh, mDFA"

    page.get_by_label("Epochs", exact=True).focus()
    page.keyboard.press("Tab")
    assert focused() not in ("", "Epochs")
    page.keyboard.press("Shift+Tab")
    assert focused() == "Epochs"
    page.get_by_label("Batch size", exact=True).focus()
    page.keyboard.press("Shift+Tab")
    before = focused()
    for _ in range(12):
        page.keyboard.press("Shift+Tab")
        assert focused() not in ("", before)
        before = focused()


CUT = """() => {
  const found = [], todo = [document];
  while (todo.length) for (const part of todo.pop().querySelectorAll("*")) {
    if (part.shadowRoot) todo.push(part.shadowRoot);
    if (part.tagName !== "SELECT" || !part.clientWidth) continue;
    const twin = part.cloneNode(false);  // as wide as its one choice
    twin.append(new Option(part.selectedOptions[0].text));
    Object.assign(twin.style, { width: "auto", position: "absolute" });
    part.after(twin);
    if (twin.offsetWidth > part.offsetWidth) found.push(part.selectedOptions[0].text);
    twin.remove();
  }
  return found;
}"""
"""Choices that do not fit into their fields."""


def apart(boxes: Sequence[FloatRect], width: int) -> bool:
    """Whether boxes overlap nowhere and are in the window."""
    return all(
        one["x"] + one["width"] <= other["x"]
        or other["x"] + other["width"] <= one["x"]
        or one["y"] + one["height"] <= other["y"]
        or other["y"] + other["height"] <= one["y"]
        for one, other in itertools.combinations(boxes, 2)
    ) and all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)


def beside_each_other(page: Page, width: int) -> bool:
    """Whether numbers, choice of a speed and button for a new seed overlap nowhere and are in the window."""
    entries = page.locator(".numbers b")
    boxes = [entries.nth(place).bounding_box() for place in range(3)]
    boxes += [page.get_by_label("Speed", exact=True).bounding_box()]
    boxes += [page.get_by_role("button", name="New seed", exact=True).bounding_box()]
    found = [box for box in boxes if box is not None]
    return len(found) == 5 and apart(found, width)


def test_the_numbers_of_a_long_run_lie_over_nothing(
    browser: Browser, address: str, wait_until: Callable[..., None]
) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 720})
    try:
        long = "?epochs=2000&data=moons&network=fc:8&speed=max&preset=none"
        visitor = Visitor(context.new_page(), address + long)
        visitor.press("▶ Start")
        wait_until(lambda: visitor.epoch() >= 100, "an epoch of three digits")
        visitor.press("Pause")
        visitor.state("Paused")
        visitor.page.wait_for_timeout(500)  # parts of a page are told one after the other
        for width in (390, 620, 700, 1280):
            visitor.page.set_viewport_size({"width": width, "height": 720})
            wait_until(lambda width=width: beside_each_other(visitor.page, width), f"their places at width {width}")
        visitor.check()
    finally:
        context.close()


def own_points(*labels: str) -> bytes:
    """A CSV file of points, ten of each class, far from each other."""
    rows = [(place + n / 50, n / 10, label) for place, label in enumerate(labels) for n in range(10)]
    return "\n".join(["x,y,kind", *(f"{x},{y},{label}" for x, y, label in rows)]).encode()


def give(visitor: Visitor, name: str, content: bytes) -> None:
    """Choose a file of one's own."""
    with visitor.page.expect_file_chooser() as chooser:
        visitor.press("Choose a file …")
    chooser.value.set_files({"name": name, "mimeType": "application/octet-stream", "buffer": content})


HTML_LABEL = "<img src=x onerror=alert(1)>"


def test_points_of_a_file_are_trained_on_and_drawn(visitor: Visitor) -> None:
    page = visitor.page
    give(visitor, "my points.csv", own_points("plain", HTML_LABEL, "third"))
    visitor.shows(re.compile("30 points in 3 classes. Both columns are standardised"))
    visitor.shows("New networks for my points.csv: press Start.")
    visitor.state("Ready")
    assert page.get_by_label("Data", exact=True).locator("option:checked").inner_text() == "your file my points.csv"
    page.wait_for_function("new URLSearchParams(location.search).get('file') === 'my points.csv'")
    assert "data=" not in page.url
    visitor.press("Epoch")
    visitor.state("Paused")
    visitor.press("Plane")
    visitor.shows(f"“{HTML_LABEL}”, training")
    visitor.shows(f"“{HTML_LABEL}”, validation")
    chart = page.get_by_role("img", name="The plane").or_(page.locator(".bk-Figure")).last
    chart.wait_for()
    visitor.press("Export")
    visitor.shows(re.compile(r"need your own file my points\.csv \(SHA-256 [0-9a-f]{64}\)"))
    assert page.locator("img[src=x]").count() == 0


def test_a_wrong_file_is_refused_and_a_link_asks_for_the_right_one(visitor: Visitor, address: str) -> None:
    page = visitor.page
    page.evaluate(
        """() => {
          const read = FileReader.prototype.readAsDataURL;
          FileReader.prototype.readAsDataURL = function () {
            FileReader.prototype.readAsDataURL = read;
            this.dispatchEvent(new ProgressEvent("error"));
          };
        }"""
    )
    give(visitor, "gone.csv", b"1,2,a\n")  # as if it were removed before the browser reads it
    visitor.shows("gone.csv was not received whole: choose it again.")
    give(visitor, "wrong.csv", b"1,2,a\n1,nan,b\n")
    visitor.shows("Line 2 of wrong.csv: y is nan; give a finite number, or remove the line.")
    give(visitor, "large.csv", b"1" * 3 * 2**20)
    visitor.shows(re.compile("large.csv has 3.0 MB: a CSV file may have 256 kB"))
    assert "file=" not in page.url
    content = own_points("a", "b")
    give(visitor, "right.csv", content)
    visitor.shows("New networks for right.csv: press Start.")
    page.wait_for_function("location.search.includes('sha256=')")
    link = page.url
    page.goto("about:blank")
    page.goto(link)
    visitor.shows(re.compile(r"This link needs your own file right\.csv"))
    visitor.state("Ready")
    give(visitor, "right.csv", content)
    visitor.shows("New networks for right.csv, the file of the link: press Start.")
    visitor.state("Ready")


def test_on_a_phone_the_networks_come_first_and_settings_are_in_a_drawer(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844})
    try:
        visitor = Visitor(context.new_page(), address)
        page = visitor.page

        def focused() -> str:
            return str(page.evaluate(FOCUSED)).split("|")[0]

        networks = page.get_by_role("region", name="Networks").bounding_box()
        assert networks is not None
        assert networks["y"] < 400
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        buttons = page.get_by_role("region", name="Training").get_by_role("button").all()
        boxes = [box for box in (button.bounding_box() for button in buttons) if box is not None]
        assert len(boxes) == 8
        assert apart(boxes, 390)
        outputs = page.get_by_role("radiogroup", name="Outputs", exact=True)
        assert not outputs.is_visible()
        page.get_by_role("button", name="Settings", exact=True).press("Enter")
        outputs.wait_for()
        assert focused() == "Close"
        visitor.mark("Outputs", "2")
        page.wait_for_function("location.search.includes('outputs=2')")
        page.keyboard.press("Escape")
        outputs.wait_for(state="hidden")
        assert focused() == "Settings"
        visitor.check()
    finally:
        context.close()


def test_the_first_visit_begins_by_itself_with_a_tour(browser: Browser, address: str) -> None:
    context = browser.new_context(reduced_motion="no-preference")
    try:
        page = context.new_page()
        page.goto(address)
        tour = page.get_by_role("dialog", name="Every dot is a hidden unit")
        tour.wait_for()
        page.locator(".chip", has_text="Running").wait_for()
        assert page.get_by_role("button", name="Pause", exact=True).is_enabled()
        for title in ("Right or wrong, measured", "Now change something"):
            page.get_by_role("button", name="Next", exact=True).press("Enter")
            page.get_by_role("dialog", name=title).wait_for()
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="hidden")
        assert str(page.evaluate(FOCUSED)).startswith("Tour|")
        page.reload()
        page.locator(".chip", has_text="Running").wait_for()
        assert not page.get_by_role("dialog").is_visible()
    finally:
        context.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(browser: Browser, address: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 720}, color_scheme="dark")
    try:
        visitor = Visitor(context.new_page(), address)
        assert visitor.page.evaluate(CUT) == []
        visitor.press("▶ Start")
        visitor.shows("100 % of the unit error signals have the true sign.")
        for title in (tab.title for tab in TABS.values()):
            visitor.press(title)
            visitor.page.wait_for_timeout(150)
            assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width, title
        assert visitor.page.evaluate("document.documentElement.dataset.theme") == "dark"
        visitor.check()
    finally:
        context.close()
