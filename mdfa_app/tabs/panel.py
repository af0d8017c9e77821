"""The row of tabs and the place where the open one is shown."""

from __future__ import annotations

from collections.abc import Callable

import panel as pn

from mdfa_app.charts.live import Markup, ViewportWatcher, assign
from mdfa_app.charts.style import PANES, WIDGETS
from mdfa_app.tabs import TABS
from mdfa_app.tabs.tab import Host, Tab, muted
from mdfa_core.training.inspection import SnapshotRequest

UNSEEN = "This tab is drawn when you scroll to it."
"""What a tab says that was never in sight; a printed page has this sentence instead of the tab."""


class TabPanel:
    """The tabs; each is made when it is first seen: its charts would take a third of the time until the page is ready.

    Args:
        page: the page that holds them.
        first: name of the tab that is open at first.
        on_open: called with the name of a tab when a visitor opens it.

    Attributes:
        choice: the row of buttons.
        view: what is shown.
    """

    def __init__(self, page: Host, first: str, on_open: Callable[[str], None]) -> None:
        self._page = page
        self._dark = False
        self._made: dict[str, Tab] = {}
        self.choice = pn.widgets.RadioButtonGroup(
            options={tab.title: name for name, tab in TABS.items()}, value=first,
            stylesheets=[WIDGETS], css_classes=["tabs"], margin=0, label="Details",
        )  # fmt: skip
        self._about = Markup(muted(UNSEEN), stylesheets=[PANES], sizing_mode="stretch_width", margin=(5, 0, 4, 0))
        self._place = pn.Column(sizing_mode="stretch_width", margin=(8, 0, 0, 0))
        self._watcher = ViewportWatcher(lambda: page.soon(self.reveal))
        self._watcher.in_view = False  # until the browser reports otherwise
        self.view = pn.Column(
            self.choice, self._about, self._place, self._watcher,
            sizing_mode="stretch_width", margin=0, styles={"position": "relative"},
        )  # fmt: skip
        self._name, self._revealed = first, False
        self.choice.param.watch(lambda event: on_open(event.new), "value")

    def __getitem__(self, name: str) -> Tab:
        """The tab of this name, made if it was not.

        Raises:
            UnknownName: there is no such tab.
        """
        if name not in self._made:
            self._made[name] = TABS[name](self._page)
            self._made[name].recolour(dark=self._dark)
        return self._made[name]

    def is_made(self, name: str) -> bool:
        """Whether this tab has been in sight."""
        return name in self._made

    @property
    def name(self) -> str:
        """The name of the open tab."""
        return self._name

    @property
    def current(self) -> Tab:
        """The tab that is open."""
        return self[self._name]

    @property
    def wanted(self) -> SnapshotRequest | None:
        """The parts of a snapshot that the open tab shows; None if it shows none."""
        return self.current.wanted if self._revealed else None

    @property
    def about(self) -> str:
        """The markup of the sentence above the open tab."""
        return str(self._about.object)

    def reveal(self) -> None:
        """Show the open tab: it has come into sight."""
        if not self._revealed:
            self._revealed = True
            self._place.objects = [self.current.view]
            self._page.watch()
            self._page.refresh()

    def open(self, name: str, *, seen: bool = True) -> None:
        """Show a tab; an unknown name is ignored, as it may come from a browser.

        Args:
            name: of the tab.
            seen: whether the visitor looks at it; if not, and it is out of sight, it is made when it comes into sight.
        """
        if name != self._name and name in TABS:
            self._name, self._revealed = name, seen or self.is_made(name) or self._watcher.in_view
            self._place.objects = [self.current.view] if self._revealed else []
            if not self._revealed:
                self._about.object = muted(UNSEEN)

    def update(self) -> None:
        """Show the comparison as it is now in the open tab."""
        assign(self.choice, value=self._name)
        if self._revealed:
            assign(self._about, object=muted(self.current.about()))
            self.current.update()

    def show_layer(self, number: int) -> None:
        """Turn to a layer, in a tab that has layers."""
        if not self.current.has_layers:
            self.open(next(name for name, tab in TABS.items() if tab.has_layers))
        for tab in self._made.values():
            tab.show_layer(number)

    def clear(self) -> None:
        """Forget the nets."""
        for tab in self._made.values():
            tab.clear()

    def recolour(self, *, dark: bool) -> None:
        """Take the colours of a theme."""
        self._dark = dark
        for tab in self._made.values():
            tab.recolour(dark=dark)
