"""HTML with places that change many times a second and parts to pick, and whether charts are in sight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import panel as pn
import param

from app.style import PANES


class LiveHTML(pn.custom.JSComponent):
    """A piece of HTML or SVG.

    An element with `data-v="key"` shows `values["key"]` as text (never as markup), one with `data-s="key"` takes
    `styles_of["key"]`; only these travel while a net trains. An element with `data-pick="word"` hands its word to
    `on_pick` when it is clicked, or gets Enter or the space bar. The words come from a browser: check them.
    """

    html = param.String(doc="The markup; whoever makes it has escaped what is in it.")
    values = param.Dict(default={}, doc="Texts by key.")
    styles_of = param.Dict(default={}, doc="Inline styles by key.")

    _esm = """
export function render({ model }) {
  const box = document.createElement("div");
  const fill = () => {
    for (const place of box.querySelectorAll("[data-v]")) {
      const text = model.values[place.dataset.v] ?? "";
      if (place.textContent !== text) place.textContent = text;
    }
  };
  const paint = () => {
    for (const place of box.querySelectorAll("[data-s]")) {
      place.setAttribute("style", model.styles_of[place.dataset.s] ?? "");
    }
  };
  const draw = () => {
    const held = box.getRootNode().activeElement?.closest?.("[data-pick]")?.dataset.pick;
    box.innerHTML = model.html;
    fill();
    paint();
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
  model.on("styles_of", paint);
  draw();
  return box;
}
"""

    def __init__(self, on_pick: Callable[[str], None] | None = None, **settings: Any) -> None:
        settings = {"stylesheets": [PANES], "sizing_mode": "stretch_width", "margin": 0, **settings}
        super().__init__(**settings)
        self._on_pick = on_pick

    def pick(self, word: str) -> None:
        """As if a visitor had picked the part of this word."""
        if self._on_pick is not None:
            self._on_pick(word)

    def _handle_msg(self, data: Any) -> None:
        if isinstance(data, str):
            self.pick(data)


class Sight(pn.custom.JSComponent):
    """Tells whether the charts that it is put below (in a `Column`) are in sight.

    Args:
        on_seen: called when they are again.

    Attributes:
        seen: whether they are; they are until a browser says otherwise.
    """

    _esm = """
export function render({ model }) {
  const box = document.createElement("div");
  box.style.cssText = "position: absolute; inset: 0";
  // Where only the headings can be seen nothing can.
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
        self.seen = True
        self._on_seen = on_seen

    def _handle_msg(self, data: Any) -> None:
        if isinstance(data, bool):
            again = data and not self.seen
            self.seen = data
            if again:
                self._on_seen()
