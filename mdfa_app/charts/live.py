"""HTML with values that change many times a second and parts to pick, and a watcher for charts out of sight."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import panel as pn
import param
from bokeh.document import Document

from mdfa_app.charts.style import PANES


def assign(target: param.Parameterized, **values: Any) -> None:
    """Set the parameters that differ from these values, in one step.

    `param.update` skips equal values too, but takes about a millisecond to find out.
    """
    changed = {name: value for name, value in values.items() if getattr(target, name) != value}
    if changed:
        target.param.update(**changed)


class Markup(pn.pane.HTML):
    """HTML of which nothing but the text is sent when it changes.

    Panel's own pane assigns its style sheets again, too: Bokeh then walks all models of the page for each text.
    """

    def _update(self, ref: str, model: Any) -> None:
        model.text = self._transform_object(self.object)["object"]


class Component(pn.custom.JSComponent):
    """A component whose `_esm` is plain JavaScript: a browser loads it as it is.

    Panel's own would parse every module as TypeScript, which is a tenth of the time until the page is ready.
    """

    def _get_properties(self, doc: Document | None) -> dict[str, Any]:
        properties = super()._get_properties(doc)
        return {**properties, "bundle": hashlib.sha256(properties["esm"].encode()).hexdigest()}


class LiveHTML(Component):
    """A piece of HTML or SVG.

    An element with `data-v="key"` shows `values["key"]` as text, never as markup. Only values are sent while a net
    trains. An element with `data-pick="word"` passes its word to `on_pick` on a click, Enter or the space bar. The
    words come from a browser, so check them.
    """

    html = param.String(doc="The markup; text in it must be escaped already.")
    values = param.Dict(default={}, doc="Texts by key.")

    _esm = """
export function render({ model }) {
  const box = document.createElement("div");
  const fill = () => {
    for (const place of box.querySelectorAll("[data-v]")) {
      const text = model.values[place.dataset.v] ?? "";
      if (place.textContent !== text) place.textContent = text;
    }
  };
  const draw = () => {
    const held = box.getRootNode().activeElement?.closest?.("[data-pick]")?.dataset.pick;
    // What the visitor has unfolded stays open; what the page has unfolded closes with its reason.
    const unfolded = [...box.querySelectorAll("details[open]:not([data-told])")].map((fold) => fold.id);
    box.innerHTML = model.html;
    for (const fold of box.querySelectorAll("details")) {
      fold.toggleAttribute("data-told", fold.open);
      fold.open ||= unfolded.includes(fold.id);
    }
    fill();
    const parts = box.querySelectorAll(":is(button, [tabindex])[data-pick]");  // a row may have its button's word
    if (held) [...parts].find((part) => part.dataset.pick === held)?.focus();
  };
  const pick = (event) => {
    const part = event.target.closest("[data-pick]");
    if (part) { event.preventDefault(); model.send_msg(part.dataset.pick); }
  };
  box.addEventListener("click", pick);
  box.addEventListener("keydown", (event) => {
    if ((event.key === "Enter" || event.key === " ") && !event.target.closest("button")) pick(event);
  });
  model.on("html", draw);
  model.on("values", fill);
  draw();
  return box;
}
"""

    def __init__(self, on_pick: Callable[[str], None] | None = None, **settings: Any) -> None:
        settings = {"stylesheets": [PANES], "sizing_mode": "stretch_width", "margin": 0, **settings}
        super().__init__(**settings)
        self._on_pick = on_pick

    def pick(self, word: str) -> None:
        """Act as if a visitor had picked the part with this word."""
        if self._on_pick is not None:
            self._on_pick(word)

    def _handle_msg(self, data: Any) -> None:
        if isinstance(data, str):
            self.pick(data)


class ViewportWatcher(Component):
    """Knows whether the charts above it in a `Column` are in sight of the visitor.

    Args:
        on_seen: called when they come back into sight.

    Attributes:
        in_view: whether they are in sight; true until the browser reports otherwise.
    """

    _esm = """
export function render({ model }) {
  const box = document.createElement("div");
  box.style.cssText = "position: absolute; inset: 0";
  // If only the headings are in sight, no chart is.
  const watch = new IntersectionObserver(
    (entries) => model.send_msg(entries[entries.length - 1].isIntersecting), { rootMargin: "0px 0px -40px 0px" });
  watch.observe(box);
  model.on("remove", () => watch.disconnect());
  return box;
}
"""

    def __init__(self, on_seen: Callable[[], None], **settings: Any) -> None:
        styles = {"position": "absolute", "inset": "0", "pointer-events": "none", "z-index": "-1"}
        super().__init__(margin=0, styles=styles, **settings)
        self.in_view = True
        self._on_seen = on_seen

    def _handle_msg(self, data: Any) -> None:
        if isinstance(data, bool):
            again = data and not self.in_view
            self.in_view = data
            if again:
                self._on_seen()
