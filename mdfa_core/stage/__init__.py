"""The stage: networks that learn, as a moving picture in which every hidden unit is a dot that is right or wrong.

- `scene`: what stays the same during a run: layers, drawn units and weights, pictures, error paths (`Scene`, `Row`).
- `frame`: one moment of one rule as a few hundred bytes (`Frame`).
- `unit`: the error signals of the unit that a visitor looks at (`Look`, `UnitSignals`).
- `film`: a bounded number of a network's frames, kept while it trains (`Film`).
- `recording`: the frames of whole runs, and a page that replays them without Python and without a network.
- `widget`: the stage in a notebook (`from mdfa_core.stage.widget import Stage`); it needs anywidget.
- `stage.js`: draws scenes and frames. It is one ES module by the convention of anywidget (`render({ model, el })`).
- `film.js`: what a player of recorded frames needs; `replay.js`, `replay.html`: the player of a replay.
"""

from mdfa_core.stage.film import Film, joined, recording_of
from mdfa_core.stage.frame import Camera, Frame, TrainingAccuracy, frame_of
from mdfa_core.stage.recording import Recording, Replay, asset, record, recording_in, replay_page
from mdfa_core.stage.scene import LINKS, UNITS, Links, Row, Scene, StagedLayer, row_of, scene_of
from mdfa_core.stage.unit import Look, UnitSignals, unit_signals

__all__ = [
    "LINKS",
    "UNITS",
    "Camera",
    "Film",
    "Frame",
    "Links",
    "Look",
    "Recording",
    "Replay",
    "Row",
    "Scene",
    "StagedLayer",
    "TrainingAccuracy",
    "UnitSignals",
    "asset",
    "frame_of",
    "joined",
    "record",
    "recording_in",
    "recording_of",
    "replay_page",
    "row_of",
    "scene_of",
    "unit_signals",
]
