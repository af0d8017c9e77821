"""The frames of whole runs, and a page that replays them: one HTML file that needs neither Python nor a network."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mdfa_core.base.errors import InvalidValue
from mdfa_core.rules.methods import METHODS
from mdfa_core.stage.frame import frame_of
from mdfa_core.stage.scene import row_of, scene_of
from mdfa_core.training import Run
from mdfa_core.training.inspection import evenly_spaced

FRAMES = 100
"""Frames of a recording, unless another number is given."""

MOST_FRAMES = 1000

_AROUND_PX, _ROW_PX = 410, 222  # height of a replay in a notebook: all but the networks; one network

EVALUATED = 1000
"""Largest number of training images, evenly spaced, on which the accuracy of a frame is measured."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Recording:
    """The frames of several rules that learn the same task.

    Attributes:
        scene: what stays the same, as `Scene.to_dict` gives it.
        frames: for each row of the scene, its frames as `Frame.to_bytes` gives them, uint8 [frames, bytes].
        settings: the settings of the experiment, without the learning rule.
    """

    scene: dict[str, Any]
    frames: tuple[NDArray[np.uint8], ...]
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As replay.js reads it. Frames are differences from the frame before (mod 256), gzip, then base64."""
        packed = []
        for frames in self.frames:
            differences = np.diff(frames, axis=0, prepend=np.zeros_like(frames[:1]))
            packed.append(base64.b64encode(gzip.compress(differences.tobytes(), mtime=0)).decode())
        return {"scene": self.scene, "count": len(self.frames[0]), "frames": packed, "settings": self.settings}


def moments(steps: int, frames: int) -> list[int]:
    """The mini-batches of the frames, from 0 (before training) to the last one; closer together at the beginning.

    >>> moments(100, 6)
    [0, 4, 16, 36, 64, 100]
    """
    places = np.arange(frames) / max(1, frames - 1)
    return sorted({0, *(int(step) for step in np.rint(steps * places**2)), steps})


def record(
    runs: Mapping[str, Run],
    *,
    frames: int = FRAMES,
    at: Sequence[int] = (),
    numbers: Mapping[str, int] | None = None,
    on_frame: Callable[[], object] | None = None,
) -> Recording:
    """Train runs from their first mini-batch on, one after the other, and record them.

    Args:
        runs: runs of one experiment that differ in their learning rule alone, by a key for each rule.
        frames: number of frames of each rule, spread over the whole run; a short run may have fewer.
        at: the mini-batches of the frames, increasing, instead: training ends at the last one.
        numbers: the place of each rule in the order of all rules, which decides its colour; by default, the place in
            `METHODS`.
        on_frame: called after each frame.

    Raises:
        InvalidValue: there is no run, a run has started, or the number of frames is not allowed.
    """
    if not runs:
        raise InvalidValue("there is no run to record: give at least one")
    if not isinstance(frames, int) or not 2 <= frames <= MOST_FRAMES:
        raise InvalidValue(f"frames is {frames!r}: give an integer from 2 to {MOST_FRAMES}")
    for name, run in runs.items():
        if run.started:
            raise InvalidValue(f"the run {name} has started at step {run.step}: give a new run, to be recorded whole")
    order = {name: place for place, name in enumerate(METHODS)} if numbers is None else numbers
    first = next(iter(runs.values()))
    scene = scene_of(first)
    rows = tuple(row_of(name, run.learner.method, len(run.network.hidden), order[name]) for name, run in runs.items())
    recorded = []
    for run in runs.values():
        stack = []
        for step in at or moments(run.steps, frames):
            while run.step < step and not run.finished:
                for _ in run.events(steps=step - run.step):
                    pass
            stack.append(frame_of(run, scene, accuracy=_accuracy(run)).to_bytes())
            if on_frame is not None:
                on_frame()
        recorded.append(np.frombuffer(b"".join(stack), np.uint8).reshape(len(stack), -1))
    settings = {name: value for name, value in first.experiments[0].to_dict().items() if name != "method"}
    return Recording(scene=scene.to_dict(rows), frames=tuple(recorded), settings=settings)


def replay_page(recording: dict[str, Any], *, title: str, lead: str = "", text: str = "", source: str = "") -> str:
    """One HTML file that replays a recording. It loads nothing, which its content security policy guarantees.

    Args:
        recording: the recording, as `Recording.to_dict` gives it.
        title: the heading.
        lead: a sentence below the heading.
        text: a paragraph below the networks.
        source: the command that makes the file.
    """
    content = json.dumps(recording, allow_nan=False).replace("<", "\\u003c")
    parts = {
        "title": html.escape(title),
        "lead": html.escape(lead),
        "text": html.escape(text),
        "source": html.escape(source),
        "stage": asset("stage.js"),
        "film": asset("film.js"),
        "replay": asset("replay.js"),
        "recording": content,
    }
    return re.sub("%([a-z]+)%", lambda place: parts[place[1]], asset("replay.html"))


def recording_in(page: str) -> dict[str, Any]:
    """The recording in a page that `replay_page` made.

    Raises:
        InvalidValue: there is none.
    """
    content = re.search(r'<script type="application/json" id="recording">(.*?)</script>', page)
    if content is None:
        raise InvalidValue("the page contains no recording: give one that `mdfa replay` wrote")
    found: dict[str, Any] = json.loads(content[1])
    return found


def unpacked(recording: Mapping[str, Any]) -> tuple[NDArray[np.uint8], ...]:
    """The frames of each rule in a recording that `Recording.to_dict` made, uint8 [frames, bytes]."""
    packed = (np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8) for text in recording["frames"])
    return tuple(np.cumsum(each.reshape(recording["count"], -1), axis=0, dtype=np.uint8) for each in packed)


@dataclass(frozen=True, repr=False)
class Replay:
    """A replay as a notebook shows and keeps it: in a frame of its own, without a kernel and without a network.

    Attributes:
        page: the page, as `replay_page` makes it.
        rows: number of its networks.
    """

    page: str
    rows: int

    def save(self, path: str | Path) -> None:
        """Write the page to a file that any browser opens."""
        Path(path).write_text(self.page, encoding="utf-8")

    def _repr_html_(self) -> str:
        height = _AROUND_PX + _ROW_PX * self.rows
        page = html.escape(self.page, quote=True)
        return f'<iframe srcdoc="{page}" title="Replay" style="width: 100%; height: {height}px; border: 0"></iframe>'


def asset(name: str) -> str:
    """The text of a file that the browser runs or shows, such as stage.js."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@torch.no_grad()
def _accuracy(run: Run) -> float:
    """Training accuracy of the current weights."""
    split = run.tasks[0].train
    index = torch.from_numpy(evenly_spaced(len(split), EVALUATED)).to(run.device)
    images = run.network.inputs_from(split.gather(index).unsqueeze(0))
    score = run.learner.evaluate(run.learner.parameters, images, split.labels[index].unsqueeze(0))
    return float(score.correct[0]) / len(index)
