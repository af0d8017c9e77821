"""Replays: the run so far as a page, for the tab Export; the runs of a preset, for the gallery and a first visit."""

from __future__ import annotations

from collections.abc import Sequence

from mdfa_app.comparison.comparison import Comparison
from mdfa_app.settings.presets import Preset
from mdfa_app.settings.rules import rules
from mdfa_app.stage import nets
from mdfa_core import DATASETS, Run
from mdfa_core.base.errors import InvalidValue
from mdfa_core.stage import Recording, record, recording_of, replay_page


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
        lead="Is each hidden unit told the right direction to change?",
        source="the tab Export of the page",
    ).encode()


def record_preset(preset: Preset, *, at: Sequence[int] = ()) -> Recording:
    """Train the rules of a preset on the CPU, and record them.

    Args:
        preset: the preset.
        at: the mini-batches of the frames, as for `mdfa_core.stage.record`; by default, they are spread over the run.
    """
    known = rules()
    runs = {}
    for name in preset.rules:
        run = Run(known[name].experiment(preset.experiment), device="cpu", test=False)
        if run.learner.method is not known[name].method:
            run.set_method(known[name].method)
        runs[name] = run
    return record(runs, at=at, numbers={name: place for place, name in enumerate(known)})
