"""The browser's address as a link to the page, and the button that copies it."""

from __future__ import annotations

import panel as pn
import param

from mdfa_app.charts.live import Component
from mdfa_app.charts.style import WIDGETS


class Address(Component):
    """Sets the query of the browser's address, without a reload and without an entry in the history."""

    query = param.String()

    _esm = """
export function render({ model }) {
  model.on("query", () => {
    const query = model.query ? "?" + model.query : "";
    history.replaceState(null, "", location.pathname + query);
  });
  const span = document.createElement("span");
  span.hidden = true;
  return span;
}
"""

    def __init__(self) -> None:
        super().__init__(width=0, height=0, margin=0)


def copy_button() -> pn.widgets.Button:
    """A button that copies the page's address, or shows it if the browser forbids copying."""
    button = pn.widgets.Button(label="Copy link", stylesheets=[WIDGETS], css_classes=["small"], margin=0)
    button.js_on_click(
        code="""
const show = (text) => { source.label = text; setTimeout(() => { source.label = "Copy link"; }, 1500); };
const ask = () => window.prompt("The link to this page:", location.href);
if (navigator.clipboard) navigator.clipboard.writeText(location.href).then(() => show("Copied"), ask);
else ask();
"""
    )
    return button
