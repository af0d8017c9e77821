"""The tab Export: downloads of curves, replay, settings, charts and checkpoint, and the settings as text to copy."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable

import panel as pn

from mdfa_app.charts.live import Markup, assign
from mdfa_app.charts.style import PANES, WIDGETS
from mdfa_app.comparison import export
from mdfa_app.settings.cells import find_preset, is_preset
from mdfa_app.stage.replay import replay
from mdfa_app.tabs.tab import Host, Tab, muted
from mdfa_core import MdfaError
from mdfa_core.base.errors import InvalidValue
from mdfa_core.data.plane import SHAPE

CHECKPOINT_SECONDS = 20.0
"""How long the page waits for the training thread to write a checkpoint."""

_FORMS: dict[str, Callable[..., str]] = {
    "python": export.python,
    "commands": export.commands,
    "json": export.configuration,
}


class _Download(pn.widgets.FileDownload):
    """Downloads nothing if its callback returns None."""

    def _sync_data(self, fileobj: io.BytesIO | None) -> None:
        if fileobj is not None:
            super()._sync_data(fileobj)


class ExportTab(Tab):
    """Files to download, and text to copy.

    Attributes:
        downloads: the buttons by kind of file.
        text: the settings in the chosen form.
        no_checkpoint: a sentence if there can be no checkpoint of the drawn net.
        own_note: a sentence on the visitor's own data, if the networks train on it.
    """

    name, title = "take", "Export"  # the name stands in links that people have saved

    def __init__(self, page: Host) -> None:
        super().__init__(page)

        def download(label: str, filename: str, make: Callable[[], bytes]) -> pn.widgets.FileDownload:
            return pn.widgets.FileDownload(
                callback=lambda: io.BytesIO(make()), filename=filename, label=label, stylesheets=[WIDGETS], margin=0
            )

        self.downloads = {
            "csv": download("Curves as CSV", "curves.csv", lambda: export.csv(export.runs(page.comparison))),
            "parquet": download(
                "Curves as Parquet", "curves.parquet", lambda: export.parquet(export.runs(page.comparison))
            ),
            "json": download("Settings as JSON", "configuration.json", lambda: self._written("json").encode()),
            "replay": _Download(
                callback=self.replay, filename="replay.html", label="Replay as HTML", stylesheets=[WIDGETS], margin=0
            ),
            "checkpoint": _Download(
                callback=self.checkpoint, filename="run.pt", label="Checkpoint of the drawn network",
                stylesheets=[WIDGETS], margin=0,
            ),
        }  # fmt: skip
        pictures = [self._picture_button(kind) for kind in ("png", "svg")]
        self._form = pn.widgets.RadioButtonGroup(
            options={"Python": "python", "Commands": "commands", "JSON": "json"},
            stylesheets=[WIDGETS], css_classes=["small"], margin=(10, 0, 4, 0), label="Settings as",
        )  # fmt: skip
        self._form.param.watch(lambda _event: self.update(), "value")
        self.text = pn.widgets.TextAreaInput(
            value="", rows=14, max_length=20_000, sizing_mode="stretch_width", stylesheets=[WIDGETS], margin=0,
            label="Text to copy", css_classes=["code"],
        )  # fmt: skip
        link_note = Markup(
            '<p class="muted">The address of this page is a link to it. With &amp;embed=1 it shows the run alone, '
            "for a frame in another page.</p>",
            stylesheets=[PANES],
            margin=0,
        )
        self.no_checkpoint = Markup("", stylesheets=[PANES], margin=(4, 0, 0, 0))
        self.own_note = Markup("", stylesheets=[PANES], margin=(4, 0, 0, 0))
        self.view = pn.Column(
            pn.FlexBox(*self.downloads.values(), *pictures, gap="6px", align_items="end", sizing_mode="stretch_width"),
            self.no_checkpoint,
            self.own_note,
            self._form,
            self.text,
            link_note,
            sizing_mode="stretch_width",
            margin=0,
        )

    def about(self) -> str:
        return "Files and text for the networks as they are now. Curves and JSON have the pinned runs, too."

    def update(self) -> None:
        """Write the settings as they are now, and offer a checkpoint if one can be made."""
        assign(self.text, value=self._written(self._form.value))
        reason = self._why_no_checkpoint()
        assign(self.downloads["checkpoint"], disabled=bool(reason))
        assign(self.no_checkpoint, object=muted(reason) if reason else "")
        assign(self.own_note, object=muted(self._own_data()))

    async def checkpoint(self) -> io.BytesIO | None:
        """The checkpoint of the drawn net, written by the training thread while the server goes on.

        Returns None if it cannot be made; the page then says why.
        """
        loop = asyncio.get_running_loop()
        made: asyncio.Future[bytes] = loop.create_future()

        def receive(content: bytes) -> None:
            if not made.done():
                loop.call_soon_threadsafe(made.set_result, content)

        def refuse(reason: str) -> None:
            if not made.done():
                loop.call_soon_threadsafe(made.set_exception, InvalidValue(reason))

        self.page.ask(export.checkpoint, receive, refuse)
        try:
            return io.BytesIO(await asyncio.wait_for(made, CHECKPOINT_SECONDS))
        except TimeoutError:  # other nets were made meanwhile, or all training slots are taken
            self.page.complain(
                f"no checkpoint was made within {CHECKPOINT_SECONDS:g} seconds: try again while the networks train"
            )
        except MdfaError as error:
            self.page.complain(str(error))
        return None

    def replay(self) -> io.BytesIO | None:
        """A page that replays the run so far; None, and the page says why, if there is nothing to replay."""
        comparison, title = self.page.comparison, "Learning without backpropagation"
        if is_preset(self.page.preset):  # whose title says nothing of other settings
            preset, experiment = find_preset(self.page.preset), comparison.experiment
            if experiment == preset.experiment.replace(seed=experiment.seed):
                title = preset.title
        try:
            return io.BytesIO(replay(comparison, title))
        except InvalidValue as error:
            self.page.complain(str(error))
        return None

    def _why_no_checkpoint(self) -> str:
        """A sentence if the drawn net cannot be saved."""
        rule = self.page.comparison.drawn_lane.rule
        if not rule.registered:
            return f"No checkpoint of this network: {rule.title} exists on this page only."
        return "" if self.page.prepared else "No checkpoint yet: the networks are not made."

    def _own_data(self) -> str:
        """A sentence on what the exports have of the visitor's own data; empty for other data sets."""
        own = self.page.own_files.get(self.page.comparison.experiment.data)
        if own is None:
            return ""
        some = "points" if own.data.shape(None) == SHAPE else "images"
        return (
            f"A link, a checkpoint and a program need your own file {own.name} (SHA-256 {own.sha256}), which they do "
            f"not contain. A replay contains some of its {some}."
        )

    def _written(self, form: str) -> str:
        comparison = self.page.comparison
        pinned = {"pinned": comparison.pinned} if form == "json" else {}
        return _FORMS[form](
            comparison.experiment, comparison.chosen_rules, comparison.seeds, files=self.page.own_files, **pinned
        )

    def _picture_button(self, kind: str) -> pn.widgets.Button:
        """A button that saves the charts beside the stage. The browser draws them, so nothing is sent."""
        button = pn.widgets.Button(label=f"Charts as {kind.upper()}", stylesheets=[WIDGETS], margin=0)
        figures = self.page.figures
        button.js_on_click(
            args=dict(figures),
            code=f"""
(async () => {{ for (const chart of [{", ".join(figures)}]) {{
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
