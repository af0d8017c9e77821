"""What a tab is: one class in the registry, and the page does the rest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

import panel as pn
import pytest
from bokeh.document import Document
from bokeh.document.models import DocumentModelManager

from mdfa_app.charts.chart import Style
from mdfa_app.page.controller import Page
from mdfa_app.page.screen import Edit
from mdfa_app.settings import link
from mdfa_app.tabs import TABS, chart_grid
from mdfa_app.tabs.chart_grid import ChartGrid
from mdfa_app.tabs.panel import UNSEEN
from mdfa_app.tabs.tab import Host, Tab
from mdfa_app.trainer.messages import Phase, Status, Update
from mdfa_core import Every, Experiment, Run
from mdfa_core.base.errors import InvalidValue
from mdfa_core.training.inspection import Snapshot, SnapshotRequest, overview, snapshot
from tests.app.visits import TabHost, Visit, browser_says
from tests.support.patience import PATIENCE


class OwnTab(Tab):
    """A tab of somebody else: it shows the step of the newest snapshot with weights."""

    name, title = "own", "Step of the weights"
    has_layers = True

    def __init__(self, page: Host) -> None:
        super().__init__(page)
        self.view = pn.pane.HTML("")
        self.layer, self.updates, self.dark = -1, 0, False

    @property
    def wanted(self) -> SnapshotRequest:
        return SnapshotRequest(weights=True)

    def about(self) -> str:
        return f"<b>{self.page.comparison.drawn}</b>"

    def update(self) -> None:
        self.updates += 1

    def show(self, snapshot: Snapshot) -> None:
        assert snapshot.histograms is not None
        self.view.object = str(snapshot.step)

    def show_layer(self, number: int) -> None:
        self.layer = number

    def clear(self) -> None:
        self.view.object = "cleared"

    def recolour(self, *, dark: bool) -> None:
        self.dark = dark


@pytest.fixture
def own() -> Iterator[str]:
    TABS.add(OwnTab.name, OwnTab)
    yield OwnTab.name
    TABS.remove(OwnTab.name)


def test_a_tab_of_ones_own_is_in_links_and_follows_the_net(own: str, wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, f"rules=mdfa,fa&tab={own}")
    visit.scroll_to_tabs()
    tab = visit.page.tabs[own]
    assert isinstance(tab, OwnTab)
    assert visit.page.tabs.current is tab
    assert visit.page.tabs.choice.options[tab.title] == own
    assert f"tab={own}" in visit.widgets.address.query
    assert visit.page.tabs.about == '<p class="muted">&lt;b&gt;mdfa&lt;/b&gt;</p>'
    visit.train()
    visit.until(lambda: tab.view.object.isdecimal() and int(tab.view.object) > 0, "a snapshot")
    assert tab.updates > 3
    visit.page.pick("layer:1")
    assert tab.layer == 1
    assert visit.page.tabs.current is tab
    visit.widgets.dark.value = True
    assert tab.dark
    visit.press("pause")
    visit.page.drain()
    visit.page.pick("draw:fa")
    assert tab.view.object == "cleared"
    assert "fa" in visit.page.tabs.about
    before = tab.updates
    visit.page.open_tab("layers")
    visit.page.set_level("batch")
    assert tab.updates == before, "only the open tab is updated"
    assert f"tab={own}" not in visit.widgets.address.query
    visit.close()


def test_a_tab_that_fails_hides_no_other_message(own: str, wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, f"rules=mdfa&tab={own}")
    visit.scroll_to_tabs()
    tab = visit.page.tabs[own]

    def fail(snapshot: Snapshot) -> None:
        raise ZeroDivisionError

    tab.show = fail  # type: ignore[method-assign]
    number = visit.comparison.number
    run = Run(Experiment())
    picture = Update(number, snapshot(run, overview(run), SnapshotRequest(weights=True)), "mdfa")
    with pytest.raises(ExceptionGroup) as failure:
        visit.page.receive([picture, Update(number, Status(Phase.FAILED, "the end"))])
    assert failure.group_contains(ZeroDivisionError)
    assert visit.phase is Phase.FAILED
    visit.close()


def test_a_tab_that_is_gone_is_refused_by_name() -> None:
    _, complaints = link.read("tab=own", tabs=tuple(TABS))
    assert "unknown tab 'own'" in complaints[0]
    with pytest.raises(InvalidValue, match="'layers' already exists"):
        TABS.add("layers", OwnTab)


@pytest.mark.parametrize("name", list(TABS))
def test_every_tab_describes_itself(name: str) -> None:
    kind = TABS[name]
    assert kind.name == name
    assert kind.title
    tab = kind(TabHost())
    assert isinstance(tab.view, pn.viewable.Viewable)
    assert tab.about()
    tab.update()
    tab.clear()
    tab.show_layer(7)
    tab.recolour(dark=True)


def test_charts_out_of_sight_are_drawn_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = ChartGrid({"loss": Style(title="Loss", height=168, format="0.0", slots=1)}, TabHost())
    assert list(grid.due()) == list(grid.due()) == list(grid.charts.items())
    grid.watcher.in_view = False
    assert list(grid.due()) == []
    monkeypatch.setattr(chart_grid, "REST_SECONDS", 0.0)
    assert list(grid.due()) == list(grid.charts.items()), "so that a printed page has them"


@pytest.mark.parametrize("name", list(TABS))
def test_no_update_of_a_tab_makes_a_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a model that comes or goes, Bokeh walks all models of the page, and clicks wait for half a second."""
    run = Run(Experiment(data="moons", network="fc:6,5", batch_size=16), device="cpu")
    seen = overview(run)
    host = TabHost(run)
    history = host.comparison.drawn_lane.history
    tab = TABS[name](host)
    document = Document()
    document.add_root(tab.view.get_root(document))

    def train_and_show(steps: int) -> None:
        for event in run.events(steps=steps, progress=Every(steps=1), probe=Every(steps=1)):
            history.add(event)
        if tab.wanted is not None:
            tab.show(snapshot(run, seen, replace(tab.wanted, example=3 if tab.name == "example" else None)))
        tab.update()

    train_and_show(3)
    walks: list[object] = []
    monkeypatch.setattr(DocumentModelManager, "recompute", walks.append)
    train_and_show(40)
    assert walks == []


class Later:
    """A screen whose edits are made when the test says so."""

    def __init__(self) -> None:
        self._edits: deque[Edit] = deque()

    def soon(self, edit: Edit) -> None:
        self._edits.append(edit)

    def catch_up(self) -> None:
        while self._edits:
            self._edits.popleft()()


def test_a_tab_is_made_when_it_comes_into_sight() -> None:
    screen = Later()
    page = Page(screen, "rules=mdfa")
    try:
        *_, place, watcher = page.tabs.view
        screen.catch_up()
        assert len(place) == 0
        browser_says(watcher, False)
        screen.catch_up()
        assert len(place) == 0
        browser_says(watcher, True)
        screen.catch_up()
        assert list(place) == [page.tabs["layers"].view]
        assert "mDFA" in page.tabs.about
    finally:
        page.close()
        assert page.trainer.join(PATIENCE)


def test_a_preset_makes_no_tab_out_of_sight(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "rules=mdfa")
    tabs = visit.page.tabs
    visit.scroll_to_tabs()
    assert tabs.name == "layers"
    visit.page.pick("preset:two-outputs")
    assert tabs.name == "example"
    assert not tabs.is_made("example")
    assert tabs.wanted is None
    assert UNSEEN in tabs.about
    visit.train()
    visit.scroll_to_tabs()
    assert tabs.is_made("example")
    assert UNSEEN not in tabs.about
    visit.close()
