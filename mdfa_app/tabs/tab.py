"""What a tab is, and what it may use of the page that holds it.

A tab is one class in one module: a subclass of `Tab` with a name, a title and a view. `TABS` lists them in the order
they are shown; links, presets, the page in a notebook and the tests read that list.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import panel as pn
from bokeh.plotting import figure

from mdfa_app.charts.axis import Epochs
from mdfa_app.comparison.comparison import Comparison
from mdfa_core import Run
from mdfa_core.base.registry import Registry
from mdfa_core.data.own_file import OwnFile
from mdfa_core.training.inspection import Snapshot, SnapshotRequest


class Host(Protocol):
    """The page as its tabs see it."""

    @property
    def comparison(self) -> Comparison:
        """What is compared, and what it has shown so far."""

    @property
    def epochs(self) -> Epochs:
        """The axis of epochs that all charts share."""

    @property
    def figures(self) -> Mapping[str, figure]:
        """The charts beside the stage."""

    @property
    def own_files(self) -> Mapping[str, OwnFile]:
        """The visitor's own files by the names of their data sets."""

    @property
    def preset(self) -> str:
        """Name of the preset that the page began with; empty for none."""

    @property
    def complaint(self) -> str:
        """Why the last request was refused; empty if it was not."""

    @property
    def prepared(self) -> bool:
        """Whether the nets are made."""

    def watch(self) -> None:
        """Take snapshots with what the open tab's `wanted` asks for, the first at once."""

    def ask(
        self, work: Callable[[Run], Any], receive: Callable[[Any], None], refuse: Callable[[str], None] | None = None
    ) -> None:
        """Have the training thread call `work` with the drawn net; `receive` gets the result, `refuse` an error."""

    def pick(self, word: str) -> None:
        """Do what a word that was picked in a drawing stands for, for example `cell:NAME`."""

    def complain(self, sentence: str) -> None:
        """Say that something cannot be done. Any thread may call this."""

    def refresh(self) -> None:
        """Have the tab's `update` called."""

    def soon(self, edit: Callable[[], None]) -> None:
        """Run `edit`, which changes Bokeh models, as soon as that is allowed. Any thread may call this."""


class Tab:
    """One tab below the stage. It is made when it is first opened, and it is updated only while it is open.

    Subclasses fill `view` in their constructor and override the methods they need. `update`, `show`, `show_layer`,
    `clear` and `recolour` may change Bokeh models: the page calls them only while that is allowed. A widget's callback
    may run while it is not, and asks for `Host.soon`.

    Attributes:
        view: what is shown.
    """

    name: ClassVar[str]
    """Its name in links and in `TABS`."""
    title: ClassVar[str]
    """The label of its button."""
    has_layers: ClassVar[bool] = False
    """Whether `show_layer` turns to a layer."""

    view: pn.viewable.Viewable

    def __init__(self, page: Host) -> None:
        self.page = page

    @property
    def wanted(self) -> SnapshotRequest | None:
        """The parts of a snapshot of the drawn net that this tab shows; None if it shows none."""
        return None

    def about(self) -> str:
        """A sentence above the tab."""
        title = self.page.comparison.title(self.page.comparison.drawn)
        return f"The {title} network. Choose another network in the list of learning rules."

    def update(self) -> None:
        """Show the comparison as it is now. Called after every change and measurement, so send only what changed."""

    def show(self, snapshot: Snapshot) -> None:
        """Show a snapshot of the drawn net with the parts in `wanted`."""

    def show_layer(self, number: int) -> None:
        """Turn to a layer, counted from 0; layers that the net does not have are ignored."""

    def clear(self) -> None:
        """Forget the net: new nets are made, or another net is drawn."""

    def recolour(self, *, dark: bool) -> None:
        """Take the colours of a theme."""


TABS: Registry[type[Tab]] = Registry("tab")
"""All tabs by name, in the order they are shown; the first one is open unless a link or a preset names another."""


def muted(text: str) -> str:
    """A plain sentence as markup."""
    return f'<p class="muted">{html.escape(text)}</p>'
