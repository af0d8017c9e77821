"""The address bar and the button that copies a link: the browser's half of `link`."""

from __future__ import annotations

import panel as pn
import param

from app.style import WIDGETS


class Address(pn.custom.JSComponent):
    """Keeps the query of the browser's address at `query`, without a reload and without an entry in its history."""

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
    """A button that puts the page's address on the clipboard, or shows it where the browser forbids that."""
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
