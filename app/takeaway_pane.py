"""The tab Take away: downloads and the configuration as text."""

from __future__ import annotations

import asyncio
import html
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import panel as pn

from app import takeaway
from app.style import PANES, WIDGETS
from mdfa_core import MdfaError
from mdfa_core.errors import InvalidValue

if TYPE_CHECKING:
    from app.page import Page

_PATIENCE = 20.0  # seconds for a training thread to write a checkpoint


class _Download(pn.widgets.FileDownload):
    """Downloads nothing where its callback has nothing."""

    def _sync_data(self, fileobj: io.BytesIO | None) -> None:
        if fileobj is not None:
            super()._sync_data(fileobj)


class TakeAway:
    """What a visitor can take away of a page."""

    def __init__(self, page: Page) -> None:
        self._page = page

        def download(label: str, filename: str, make: Callable[[], bytes]) -> pn.widgets.FileDownload:
            return pn.widgets.FileDownload(
                callback=lambda: io.BytesIO(make()), filename=filename, label=label, stylesheets=[WIDGETS], margin=0
            )

        self.downloads = {
            "csv": download("Curves as CSV", "curves.csv", lambda: takeaway.csv(self._histories())),
            "parquet": download("Curves as Parquet", "curves.parquet", lambda: takeaway.parquet(self._histories())),
            "json": download("Configuration as JSON", "configuration.json", lambda: self._configuration().encode()),
            "checkpoint": _Download(
                callback=self._checkpoint, filename="run.pt", label="Checkpoint of the net that is drawn",
                stylesheets=[WIDGETS], margin=0,
            ),
        }  # fmt: skip
        self.pictures = [self._picture_button(kind) for kind in ("png", "svg")]
        self._form = pn.widgets.RadioButtonGroup(
            options={"Python": "python", "Commands": "commands", "JSON": "json"},
            stylesheets=[WIDGETS], css_classes=["small"], margin=(10, 0, 4, 0), label="Configuration as",
        )  # fmt: skip
        self._form.param.watch(lambda _event: self.refresh(), "value")
        self.text = pn.widgets.TextAreaInput(
            value="", rows=14, max_length=20_000, sizing_mode="stretch_width", stylesheets=[WIDGETS], margin=0,
            label="To copy", css_classes=["code"],
        )  # fmt: skip
        self.link_note = pn.pane.HTML(
            '<p class="muted">The address bar holds a link to this page; with &amp;embed=1 it shows only '
            "the run, for a frame in another page.</p>",
            stylesheets=[PANES],
            margin=0,
        )
        self._no_checkpoint = pn.pane.HTML("", stylesheets=[PANES], margin=(4, 0, 0, 0))
        self.view = pn.Column(
            pn.FlexBox(*self.downloads.values(), *self.pictures, gap="6px", sizing_mode="stretch_width"),
            self._no_checkpoint,
            self._form,
            self.text,
            self.link_note,
            sizing_mode="stretch_width",
            margin=0,
        )

    def refresh(self) -> None:
        """Write the configuration as it is now, and offer a checkpoint where one can be made."""
        settings, rules = self._page.experiment, self._page.chosen_rules()
        make: dict[str, Callable[..., str]] = {
            "python": takeaway.python,
            "commands": takeaway.commands,
            "json": takeaway.configuration,
        }
        self.text.value = make[self._form.value](settings, rules)
        reason = self._why_no_checkpoint()
        self.downloads["checkpoint"].disabled = bool(reason)
        self._no_checkpoint.object = f'<p class="muted">{html.escape(reason)}</p>' if reason else ""

    def _why_no_checkpoint(self) -> str:
        """A sentence where the net that is drawn cannot be saved."""
        rule = self._page.lanes[self._page.drawn].rule
        if not rule.registered:
            return f"No checkpoint of this net: {rule.title} is a rule of this page alone, which has no name elsewhere."
        return "" if self._page.prepared else "No checkpoint yet: the nets are not made."

    def _histories(self) -> dict[str, Any]:
        return {name: lane.history for name, lane in self._page.lanes.items()}

    def _configuration(self) -> str:
        return takeaway.configuration(self._page.experiment, self._page.chosen_rules())

    async def _checkpoint(self) -> io.BytesIO | None:
        """The checkpoint, made by the training thread while the server goes on; a complaint if it cannot be made."""
        loop = asyncio.get_running_loop()
        made: asyncio.Future[bytes] = loop.create_future()

        def hand_over(content: bytes) -> None:
            if not made.done():
                loop.call_soon_threadsafe(made.set_result, content)

        def refuse(sentence: str) -> None:
            if not made.done():
                loop.call_soon_threadsafe(made.set_exception, InvalidValue(sentence))

        self._page.trainer.ask(self._page.drawn, takeaway.checkpoint, hand_over, refuse)
        try:
            return io.BytesIO(await asyncio.wait_for(made, _PATIENCE))
        except TimeoutError:  # other nets were made meanwhile, or there is no place to train at
            self._page.complain(f"no checkpoint was made within {_PATIENCE:g} seconds: try again while the nets train")
        except MdfaError as error:
            self._page.complain(str(error))
        return None

    def _picture_button(self, kind: str) -> pn.widgets.Button:
        """Saves the two charts as they are: the browser draws them, so nothing is sent."""
        button = pn.widgets.Button(label=f"Charts as {kind.upper()}", stylesheets=[WIDGETS], margin=0)
        charts = self._page.charts
        button.js_on_click(
            args={name: chart.figure for name, chart in charts.items()},
            code=f"""
(async () => {{ for (const chart of [{", ".join(charts)}]) {{
  const view = Bokeh.index.find_one(chart);
  const before = chart.output_backend;
  if ("{kind}" === "svg") {{ chart.output_backend = "svg"; await new Promise((done) => setTimeout(done, 400)); }}
  const blob = await Bokeh.index.find_one(chart).export("{kind}").to_blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = chart.name + ".{kind}";
  link.click();
  if (chart.output_backend !== before) chart.output_backend = before;
}} }})();
""",
        )
        return button
