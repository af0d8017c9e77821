"""The recorded run of a first visit is what the first preset does."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from mdfa_app.charts.style import asset
from mdfa_app.settings.presets import PRESETS
from mdfa_app.stage import first
from mdfa_app.trainer.messages import Phase
from mdfa_core.stage.recording import unpacked
from tests.app.visits import Visit

RECORDED = json.loads(asset(first.RECORDING))
NUMBERS = 4 * (6 + 2 * 2)
"""Bytes of a frame's numbers (float32)."""


def test_the_recorded_run_is_what_the_first_preset_does() -> None:
    """After a change: python studies/gallery.py --first."""
    assert len(asset(first.RECORDING)) < 60_000
    made = first.recorded()
    assert RECORDED["scene"] == json.loads(json.dumps(made.scene))
    assert RECORDED["settings"].items() <= next(iter(PRESETS.values())).experiment.to_dict().items()
    assert RECORDED["milliseconds"] == json.loads(first.written(made))["milliseconds"] == 200
    for kept, frames in zip(unpacked(RECORDED), made.frames, strict=True):
        assert kept.shape == frames.shape == (41, frames.shape[1])
        numbers, again = (np.ascontiguousarray(each[:, :NUMBERS]).view(np.float32) for each in (kept, frames))
        assert np.array_equal(again[:, 0], range(0, 161, 4))
        # Another processor rounds in another way, and the runs grow apart a little.
        np.testing.assert_allclose(numbers, again, atol=0.1)
        assert np.mean(kept[:, NUMBERS:] != frames[:, NUMBERS:]) < 0.2
        assert np.array_equal(kept[0, NUMBERS:], frames[0, NUMBERS:])


def test_no_text_in_the_recording_ends_its_script() -> None:
    text = {"title": "a </script> <!-- b"}
    content = first.written(SimpleNamespace(to_dict=lambda: text))  # type: ignore[arg-type]
    assert "<" not in content
    assert json.loads(content).items() >= text.items()


def test_the_recorded_run_looks_as_the_live_one_will(wait_until: Callable[..., None]) -> None:
    visit = Visit(wait_until, "")
    try:
        visit.until_phase(Phase.IDLE)
        visit.wait_until(lambda: visit.stage.frame, "the first frame")
        assert RECORDED["scene"] == json.loads(json.dumps(visit.stage.scene))
        begin = np.stack([frames[0] for frames in unpacked(RECORDED)])
        live = np.frombuffer(visit.stage.frame, np.uint8).reshape(begin.shape)
        assert np.array_equal(live[:, NUMBERS:], begin[:, NUMBERS:])
    finally:
        visit.close()
