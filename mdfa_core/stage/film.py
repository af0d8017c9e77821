"""The frames of one network while it trains: a bounded number, evenly spread from the first to the newest."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mdfa_core.stage.recording import Recording


class Film:
    """Frames by mini-batch.

    Beyond `limit` frames, every second one is dropped, and later frames are kept only at the new, larger spacing.

    Attributes:
        steps: the mini-batches of the kept frames, increasing.
        frames: the kept frames, as `Frame.to_bytes` gives them.
        last: the newest frame, also if it is not kept.
    """

    def __init__(self, limit: int = 64) -> None:
        self._limit, self._spacing = limit, 0
        self.steps: list[int] = []
        self.frames: list[bytes] = []
        self.last = b""

    def add(self, frame: bytes) -> None:
        """Add the newest frame; one of the same mini-batch replaces the frame before."""
        self.last = frame
        step = int(struct.unpack_from("<f", frame)[0])
        if self.steps and step <= self.steps[-1]:
            self.frames[-1] = frame
        elif not self.steps or step - self.steps[-1] >= self._spacing:
            self.steps.append(step)
            self.frames.append(frame)
        if len(self.steps) > self._limit:
            self.steps, self.frames = self.steps[::2], self.frames[::2]
            self._spacing = (self.steps[-1] - self.steps[0]) // (len(self.steps) - 1)

    def at(self, step: int) -> bytes | None:
        """The newest frame up to a mini-batch; None before the first one."""
        found = None
        for kept, frame in zip(self.steps, self.frames, strict=True):
            if kept > step:
                break
            found = frame
        return self.last if self.steps and step >= int(struct.unpack_from("<f", self.last)[0]) else found


def missing(size: int) -> bytes:
    """A frame of so many bytes whose first number, the step, is NaN: there is none."""
    return struct.pack("<f", math.nan).ljust(size, b"\0") if size else b""


def joined(films: Sequence[Film | None]) -> bytes:
    """The newest frames of all rows one after the other, as stage.js reads them; empty if there is no frame at all."""
    newest = [film.last if film else b"" for film in films]
    blank = missing(max(map(len, newest), default=0))
    return b"".join(frame or blank for frame in newest)


def recording_of(scene: dict[str, Any], films: Sequence[Film | None], settings: Mapping[str, Any]) -> Recording:
    """The recording of these films: as many moments as the longest film has, and the newest frames.

    Args:
        scene: what stays the same, as `Scene.to_dict` gives it.
        films: a film for each row of the scene, at least one of them with a frame; None for a row without frames.
        settings: the settings of the experiment, without the learning rule.
    """
    known = [film for film in films if film is not None and film.last]
    steps = max(known, key=lambda film: len(film.steps)).steps
    blank = missing(len(known[0].last))
    rows = []
    for film in films:
        moments = [film.at(step) if film else None for step in steps] + [film.last if film else None]
        rows.append(np.stack([np.frombuffer(frame or blank, np.uint8) for frame in moments]))
    return Recording(scene=scene, frames=tuple(rows), settings=dict(settings))
