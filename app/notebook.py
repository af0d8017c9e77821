"""The page inside a notebook: the same components in another order, and what they have shown as data frames."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import pandas as pd
import panel as pn
from IPython import get_ipython

from app import link, takeaway
from app.comms import InOrder
from app.details import TABS
from app.history import NOTHING, History
from app.messages import State
from app.page import OVER, Page
from app.screens import Output
from app.style import NOTEBOOK, PANES
from app.words import LEVEL_TITLES
from mdfa_core.errors import InvalidValue
from mdfa_core.probes import LEVELS

_RUN = ("start", "pause", "step", "step10", "step_epoch", "reset", "new_seed", "speed", "numbers")
_ROOT = NOTEBOOK + ":host { background: var(--page); padding: 10px; border-radius: 10px; }"
_CARD = """
:host {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 9px 12px; min-width: 0;
}
"""


class Explorer:
    """The explorer of the page `app`, for a notebook.

    Make it in a cell and let the cell end with `explorer.view`. A second explorer ends the training of the first.

    Args:
        settings: as in a link to the page: `preset` (or the name of a cell of the paper), `rules`, `draw`, `level`,
            `speed`, `tab`, and any setting of an `Experiment`. What is None or empty is left out.

    Raises:
        InvalidValue: something is not allowed; the message says what is.
    """

    _shown: ClassVar[Explorer | None] = None

    def __init__(self, **settings: Any) -> None:
        query = link.joined([(name, _text(value)) for name, value in settings.items() if value not in (None, "")])
        _, complaints = link.read(query, tabs=tuple(TABS))
        if complaints:
            raise InvalidValue("; ".join(complaints))
        if Explorer._shown is not None:
            Explorer._shown.close()
        Explorer._shown = self
        kernel = getattr(get_ipython(), "kernel", None)
        if kernel is not None:
            InOrder.keep(kernel)
        self.view = Output(stylesheets=[_ROOT], sizing_mode="stretch_width", styles={"gap": "8px"}, margin=0)
        self.page = Page(self.view, query)
        self.view.fill(_rows(self.page))
        self.page.dark.param.watch(self._darken, "value")

    def train(self) -> None:
        """Train every rule to the end, at full speed, before the notebook goes on; for where nobody looks.

        Raises:
            InvalidValue: it cannot be trained; the message is the one the page shows.
        """
        page = self.page
        page.speed.value = "max"
        page.start.clicks += 1
        while page.state not in OVER:
            time.sleep(0.02)
            self.view.catch_up()
        if page.state is State.FAILED:
            raise InvalidValue(page.message)

    def curves(self) -> pd.DataFrame:
        """What has been drawn so far, as the page's CSV has it: columns rule, epoch, quantity and value."""
        return takeaway.table(self._histories)

    def summary(self) -> pd.DataFrame:
        """A row for every rule: epochs, the newest measurement, accuracies; empty where there is nothing yet."""
        return pd.DataFrame.from_dict(
            {name: _row(history) for name, history in self._histories.items()}, orient="index"
        )

    def close(self) -> None:
        """End the training."""
        self.page.close(None)

    def _darken(self, event: Any) -> None:
        self.view.css_classes = ["dark"] if event.new else []

    @property
    def _histories(self) -> dict[str, History]:
        return {lane.history.name: lane.history for lane in self.page.lanes.values()}


def _row(history: History) -> dict[str, float]:
    probe, outcome, evaluated = history.probe, history.outcome, history.evaluated.last
    measured: dict[str, float | None] = {
        **{LEVEL_TITLES[level]: getattr(probe, level).overall[0] if probe else None for level in LEVELS},
        "angle to the gradient, degrees": probe.angle_overall[0] if probe else None,
        "training accuracy": evaluated["train"] if evaluated else None,
        "validation accuracy": evaluated["validation"] if evaluated else None,
        "best training accuracy": outcome.best_train_accuracy[0] if outcome else None,
        "test accuracy": outcome.test_accuracy[0] if outcome else None,
    }
    return {"epochs": history.end, **{name: NOTHING if value is None else value for name, value in measured.items()}}


def _text(value: Any) -> str:
    """A value as a link holds it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


# ------------------------------------------------------------------------------------------------------------- the view


def _rows(page: Page) -> list[pn.viewable.Viewable]:
    """The page's parts one below the other, side by side where the notebook is wide enough."""
    parts = page.parts()
    page.take.link_note.visible = False  # the address is that of the notebook

    def row(*names: str, gap: str = "6px", **more: Any) -> pn.FlexBox:
        return pn.FlexBox(*(parts[name] for name in names), gap=gap, sizing_mode="stretch_width", margin=0, **more)

    def words(markup: str) -> pn.pane.HTML:
        return pn.pane.HTML(markup, stylesheets=[PANES], margin=(4, 0, 0, 0))

    def pair(first: str, second: str) -> pn.Row:
        return pn.Row(parts[first], pn.Spacer(width=9), parts[second], sizing_mode="stretch_width", margin=(3, 0, 0, 0))

    def card(*objects: Any, flex: str = "1 1 100%") -> pn.Column:
        return pn.Column(
            *objects,
            stylesheets=[_CARD],
            sizing_mode="stretch_width",
            styles={"flex": flex, "min-width": "0"},
            margin=0,
        )

    for name in ("presets", "speed", "goes_on"):
        parts[name].param.update(sizing_mode="fixed", width=316 if name == "presets" else 130)
    settings = card(
        words("<h3>Task</h3>"), parts["data"], pair("outputs", "seed"),
        words("<h3>Net</h3>"), pair("network", "activation"), pair("depth", "width"), parts["own_network"],
        pair("forward", "forward_scale"), pair("feedback", "feedback_scale"), parts["convention"],
        words("<h3>Training</h3>"), pair("optimizer", "learning_rate"), pair("batch_size", "epochs"),
        flex="1 1 230px",
    )  # fmt: skip
    net = card(row("drawn_title", "goes_on", flex_wrap="nowrap"), parts["net"], parts["meaning"])
    middle = pn.FlexBox(
        card(parts["claim"]), card(parts["list"]), net,
        gap="8px", styles={"flex": "3 1 430px", "min-width": "0"}, sizing_mode="stretch_width", margin=0,
    )  # fmt: skip
    charts = [
        card(words("<h3>Sign agreement</h3>"), parts["level"], parts["agreement"], flex="1 1 360px"),
        card(words("<h3>Training accuracy by epoch</h3>"), parts["accuracy"], flex="1 1 360px"),
    ]
    return [
        row("presets", "dark", gap="12px"),
        card(row(*_RUN), parts["status"]),
        pn.FlexBox(settings, middle, gap="8px", sizing_mode="stretch_width", margin=0),
        pn.FlexBox(*charts, gap="8px", sizing_mode="stretch_width", margin=0),
        card(parts["details"]),
    ]
