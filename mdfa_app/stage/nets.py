"""The nets of all compared rules as a moving picture, one row a rule: `mdfa_core.stage` on the page."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import param

from mdfa_app.charts.live import Component
from mdfa_app.charts.style import PANES
from mdfa_app.comparison.comparison import Comparison
from mdfa_core.rules.methods import Method
from mdfa_core.stage import Look, Scene, asset, row_of


class NetsPicture(Component):
    """The picture; stage.js draws it.

    Args:
        on_layer: called with the name of a rule and the number of a layer that a visitor chose; they come from a
            browser, so check them.
        on_look: called with the unit that a visitor looks at, or None; it comes from a browser, too.
        on_depth: called with the number of hidden layers that a visitor wants; it comes from a browser, too.
    """

    scene = param.Dict(default={}, doc="`Scene.to_dict`; empty before the nets are made.")
    frame = param.Bytes(default=b"", doc="One `Frame.to_bytes` for each row of the scene, in its order.")
    moving = param.Boolean(default=False, doc="Whether the nets train.")
    signals = param.Dict(default={}, doc="`UnitSignals.to_dict` of the unit that is looked at, or empty.")
    depth = param.Dict(
        default={}, doc="The number of hidden layers `now` and at `most`; empty if it cannot be changed."
    )
    asks = param.Boolean(default=True, doc="Whether the browser says which unit is looked at.")
    opens = param.Boolean(default=True, doc="Whether a layer can be chosen.")

    _esm = asset("stage.js")

    def __init__(
        self,
        on_layer: Callable[[str, int], None],
        on_look: Callable[[Look | None], None],
        on_depth: Callable[[int], None],
        **settings: Any,
    ) -> None:
        super().__init__(**{"stylesheets": [PANES], "sizing_mode": "stretch_width", "margin": 0, **settings})
        self._on_layer, self._on_look, self._on_depth = on_layer, on_look, on_depth

    def _handle_msg(self, data: Any) -> None:
        if not isinstance(data, dict):
            return
        if "look" in data:
            self._on_look(Look.of(data))
        chosen, depth = data.get("layer"), data.get("depth")
        if isinstance(chosen, dict):
            row, layer = chosen.get("row"), chosen.get("layer")
            if isinstance(row, str) and isinstance(layer, int) and not isinstance(layer, bool):
                self._on_layer(row, layer)
        if isinstance(depth, int) and not isinstance(depth, bool):
            self._on_depth(depth)


def scene_of(comparison: Comparison) -> dict[str, Any]:
    """The scene of a comparison with a row for each of its lanes; empty before the nets are made.

    Of several seeds, it shows the first.
    """
    if comparison.facts is None:
        return {}
    note = f"seed\N{NO-BREAK SPACE}{comparison.experiment.seed}" if comparison.seeds > 1 else ""
    rows = tuple(
        (name, comparison.title(name), lane.rule.method, comparison.slot(name))
        for name, lane in comparison.lanes.items()
    )
    return _scene(comparison.facts.scene, rows, note)


@functools.lru_cache(maxsize=32)
def _scene(scene: Scene, rows: tuple[tuple[str, str, Method, int], ...], note: str) -> dict[str, Any]:
    """The same object for the same rows, so that nothing is sent again."""
    hidden = len(scene.layers)
    return scene.to_dict(
        tuple(row_of(name, method, hidden, number, title=title, note=note) for name, title, method, number in rows)
    )
