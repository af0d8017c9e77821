"""Tells when a visitor's browser shows the page, and when the visitor turns to another tab of the browser."""

from __future__ import annotations

from typing import Any, Protocol

from mdfa_app.charts.live import Component


class OnArrive(Protocol):
    """What is called when the page is shown."""

    def __call__(self, *, motion: bool) -> None:
        """`motion` is whether the visitor accepts things that move by themselves."""


class OnLookAway(Protocol):
    """What is called when the visitor turns to another tab of the browser, or back."""

    def __call__(self, *, hidden: bool) -> None:
        """`hidden` is whether the page is out of sight."""


class Arrival(Component):
    """The browser's half reports; it arrives only once a visitor sees the page.

    A visitor who has paused the recorded run (`assets/first.js`) does not accept motion either.

    Args:
        on_arrive, on_look_away: called in the document's thread.
    """

    _esm = """
export function render({ model }) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches
    || document.documentElement.dataset.motion === "off";
  let arrived = false;
  const tell = () => {
    const hidden = document.visibilityState === "hidden";
    if (arrived) model.send_msg(hidden ? "hidden" : "seen");
    else if (!hidden) { arrived = true; model.send_msg(still ? "still" : "moving"); }
  };
  document.addEventListener("visibilitychange", tell);
  model.on("remove", () => document.removeEventListener("visibilitychange", tell));
  tell();
  const span = document.createElement("span");
  span.hidden = true;
  return span;
}
"""

    def __init__(self, on_arrive: OnArrive, on_look_away: OnLookAway) -> None:
        super().__init__(width=0, height=0, margin=0)
        self._on_arrive, self._on_look_away = on_arrive, on_look_away

    def _handle_msg(self, data: Any) -> None:
        if data in ("still", "moving"):
            self._on_arrive(motion=data == "moving")
        elif data in ("hidden", "seen"):
            self._on_look_away(hidden=data == "hidden")
