"""The recorded run that a first visit shows until its own networks are drawn: the first seconds of the first preset.

`python studies/gallery.py --first` makes the recording. `assets/first.js` plays it at the speed of the live run.
"""

from __future__ import annotations

import json
import re

from mdfa_app.charts.style import asset
from mdfa_app.settings.link import Link
from mdfa_app.settings.presets import PRESETS
from mdfa_app.settings.speeds import SPEEDS
from mdfa_app.stage.replay import record_preset
from mdfa_core.stage import Recording
from mdfa_core.stage import asset as stage_asset

RECORDING = "first.json"
"""The file in assets/."""
EVERY = 4
"""Mini-batches between two frames."""
LAST = 160
"""The mini-batch of the last frame."""


def recorded() -> Recording:
    """Train and record the run."""
    return record_preset(PRESETS[Link.preset], at=range(0, LAST + 1, EVERY))


def written(recording: Recording) -> str:
    """The text of the file."""
    speed = SPEEDS[Link.speed].steps_per_second
    assert speed is not None
    content = {**recording.to_dict(), "milliseconds": round(1000 * EVERY / speed)}
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c") + "\n"


def markup() -> str:
    """The recorded run as a part of the page; its scripts need a nonce."""
    parts = {
        "recording": asset(RECORDING).strip(),
        "stage": stage_asset("stage.js"),
        "film": stage_asset("film.js"),
        "first": asset("first.js"),
    }
    return re.sub("%([a-z]+)%", lambda place: parts[place[1]], asset("first.html"))
