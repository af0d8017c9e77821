"""The run so far as a page that replays it, for the tab Export."""

from __future__ import annotations

from mdfa_app.comparison.comparison import Comparison
from mdfa_app.stage import nets
from mdfa_core import DATASETS
from mdfa_core.base.errors import InvalidValue
from mdfa_core.stage import recording_of, replay_page


def replay(comparison: Comparison, title: str) -> bytes:
    """The page: as many moments as the longest film has, and its newest frame.

    Raises:
        InvalidValue: the nets are not made.
    """
    scene = nets.scene_of(comparison)
    films = [comparison.films.get(name) for name in comparison.lanes]
    if not scene or not any(films):
        raise InvalidValue("there is nothing to replay yet: wait until the networks are made")
    settings = {name: value for name, value in comparison.experiment.to_dict().items() if name != "method"}
    if not DATASETS.listed(settings["data"]):  # a visitor's own file
        settings["data"] = DATASETS[settings["data"]].source
    return replay_page(
        recording_of(scene, films, settings).to_dict(),
        title=title,
        lead="Does each hidden unit hear in which direction to change?",
        source="the tab Export of the page",
    ).encode()
