"""Recordings: their moments, their bytes, and a page that is complete in itself."""

from __future__ import annotations

import base64
import gzip
import html
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from mdfa_app.settings.presets import PRESETS
from mdfa_core import Experiment, Run
from mdfa_core.base.errors import InvalidValue
from mdfa_core.stage import frame_of, record, recording_in, replay_page, scene_of
from mdfa_core.stage.recording import asset, moments, unpacked

GALLERY = Path(__file__).resolve().parents[2] / "docs" / "gallery"
SMALL = Experiment(network="fc:6,5", epochs=2)


def runs() -> dict[str, Run]:
    return {name: Run(SMALL.replace(method=name), device="cpu") for name in ("mdfa", "dfa")}


@pytest.mark.parametrize(("steps", "frames"), [(1, 2), (7, 100), (100, 6), (12345, 100)])
def test_moments_begin_with_the_first_weights_and_end_with_the_last(steps: int, frames: int) -> None:
    found = moments(steps, frames)
    assert found[0] == 0
    assert found[-1] == steps
    assert len(found) == len(set(found)) <= frames
    assert found == sorted(found)


def test_a_recording_has_the_frames_of_every_rule() -> None:
    made = runs()
    recording = record(made, frames=5)
    for frames, (name, run) in zip(recording.frames, made.items(), strict=True):
        assert run.finished
        again = Run(SMALL.replace(method=name), device="cpu")
        scene = scene_of(again)
        steps = moments(again.steps, 5)
        assert len(frames) == len(steps)
        for step, data in zip(steps, frames, strict=True):
            while again.step < step:
                for _ in again.events(steps=step - again.step):
                    pass
            expected = np.frombuffer(frame_of(again, scene).to_bytes(), np.uint8)
            differ = np.flatnonzero(expected != data)
            assert set(differ) <= {20, 21, 22, 23}, "only the accuracy, which `frame_of` is not given"


def test_a_recording_can_end_at_a_mini_batch() -> None:
    recording, run = record(made := runs(), at=[0, 2, 3]), made["mdfa"]
    steps = np.ascontiguousarray(recording.frames[0][:, :4]).view(np.float32).ravel().tolist()
    assert (steps, run.step, run.finished) == ([0, 2, 3], 3, False)


def test_recorded_accuracies_are_those_of_the_weights() -> None:
    recording = record(runs(), frames=3)
    run = Run(SMALL.replace(method="mdfa"), device="cpu")
    for _ in run.events():
        pass
    split = run.tasks[0].train
    images = run.network.inputs_from(split.gather(torch.arange(len(split))).unsqueeze(0))
    logits = run.network.forward(run.learner.parameters, images).logits_RNC[0, :, 0]
    accuracy = float(((logits > 0) == (split.labels == 1)).double().mean())
    assert recording.frames[0][-1].tobytes()[20:24] == np.float32(accuracy).tobytes()


def test_packed_frames_are_differences() -> None:
    recording = record(runs(), frames=4)
    packed = recording.to_dict()
    for text, again, frames in zip(packed["frames"], unpacked(packed), recording.frames, strict=True):
        differences = np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8).reshape(packed["count"], -1)
        assert np.array_equal(np.cumsum(differences, axis=0, dtype=np.uint8), frames)
        assert np.array_equal(again, frames)
    assert packed["settings"]["network"] == "fc:6,5"
    assert "method" not in packed["settings"]


def test_only_new_runs_are_recorded() -> None:
    with pytest.raises(InvalidValue, match="no run"):
        record({})
    started = runs()
    next(iter(started["dfa"].events()))
    with pytest.raises(InvalidValue, match="dfa has started"):
        record(started)
    with pytest.raises(InvalidValue, match="frames is 1"):
        record(runs(), frames=1)


def test_a_page_is_one_file_that_asks_for_nothing() -> None:
    page = replay_page(
        record(runs(), frames=3).to_dict(), title="a < b", lead="%text%", text="</script><b>", source="mdfa"
    )
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert not re.search(r"\bimport\b[ (]", page.replace("anywidget", ""))
    assert "<title>a &lt; b</title>" in page
    assert "<p>%text%</p>" in page
    assert "&lt;/script&gt;&lt;b&gt;" in page
    assert asset("stage.js") in page
    assert recording_in(page)["count"] == 3
    with pytest.raises(InvalidValue, match="no recording"):
        recording_in("<html>")


@pytest.mark.parametrize("name", PRESETS)
def test_the_gallery_has_every_preset_as_the_module_draws_it_now(name: str) -> None:
    """After a change: python studies/gallery.py --pages."""
    page = (GALLERY / f"{name}.html").read_text(encoding="utf-8")
    assert len(page) <= 600_000
    assert asset("stage.js") in page
    assert asset("film.js") in page
    assert asset("replay.js") in page
    assert html.escape(PRESETS[name].title) in page
    assert recording_in(page)["settings"].items() <= PRESETS[name].experiment.to_dict().items()
    assert f'href="{name}.html"' in (GALLERY / "index.html").read_text(encoding="utf-8")
