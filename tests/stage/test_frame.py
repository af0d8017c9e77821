"""A frame shows what is there, and looking changes nothing."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
import torch

from mdfa_core import METHODS, Every, Experiment, Run
from mdfa_core.compute import kernels
from mdfa_core.learning import probes
from mdfa_core.stage import Camera, Scene, frame_of, scene_of
from mdfa_core.stage.scene import RESOLUTION
from mdfa_core.training.events import Probed
from mdfa_core.training.inspection import boundary

DIGITS: dict[str, Any] = {"network": "fc:12,9", "batch_size": 16}
CONV: dict[str, Any] = {"network": "conv:3/3/1,4/3/2+fc:6", "batch_size": 16, "outputs": 3}
PLANE: dict[str, Any] = {"data": "moons", "network": "fc:5,4", "forward_init": "normal:1", "batch_size": 16}
NETS = [pytest.param(DIGITS, id="digits"), pytest.param(CONV, id="conv"), pytest.param(PLANE, id="plane")]


def run_of(steps: int = 3, **settings: Any) -> tuple[Run, Scene]:
    run = Run(Experiment(**settings), device="cpu")
    for _ in run.events(steps=steps) if steps else ():
        pass
    return run, scene_of(run)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("settings", NETS)
def test_a_frame_measures_as_the_next_probe_does(settings: dict[str, Any], method: str) -> None:
    run, scene = run_of(**settings, method=method)
    frame = frame_of(run, scene, accuracy=0.25)
    (probed,) = (e for e in run.events(probe=Every(steps=run.step + 1), steps=1) if isinstance(e, Probed))

    def same(ours: float, theirs: float | None) -> bool:
        return math.isnan(ours) if theirs is None else ours == pytest.approx(theirs)

    assert (frame.step, frame.epoch, frame.accuracy, frame.diverged) == (3, 1, 0.25, False)
    assert same(frame.signs, probed.unit.overall[0])
    assert same(frame.updates, probed.batch.overall[0])
    for layer in range(len(scene.layers)):
        assert same(frame.layer_signs[layer], probed.unit.layers[layer][0])
        assert frame.layer_undefined[layer] == pytest.approx(probed.unit.undefined[layer][0])


@pytest.mark.parametrize("settings", NETS)
def test_the_state_of_a_unit_is_its_share_of_right_signals(settings: dict[str, Any]) -> None:
    run, scene = run_of(**settings, method="dfa")
    frame = frame_of(run, scene)
    inputs, labels = run.batch(run.step + 1)
    batch = run.learner.observe(inputs, labels)
    true = probes.true_signals(run.network, run.learner.parameters, batch.forward_pass, batch.signals.deltas[-1])
    for layer, (ours, theirs) in enumerate(zip(batch.signals.errors, true.errors, strict=True)):
        for place, unit in enumerate(scene.layers[layer].shown):
            products = [float(a) * float(b) for a, b in zip(ours[0, :, unit].flatten(), theirs[0, :, unit].flatten())]  # noqa: B905
            defined = [product for product in products if product != 0]
            right = sum(product > 0 for product in defined)
            expected = 1 + round(254 * right / len(defined)) if defined else 0
            assert frame.units[layer][place] == pytest.approx(expected, abs=1)  # rounding of halves


def test_with_one_output_every_unit_of_mdfa_is_right() -> None:
    run, scene = run_of(**DIGITS)
    frame = frame_of(run, scene)
    assert frame.signs == 1.0
    assert all((states == 255).all() for states in frame.units)


def test_units_without_a_sign_are_undefined_and_not_right() -> None:
    run, scene = run_of(steps=0, **DIGITS, method="bp", forward_init="zeros")
    frame = frame_of(run, scene)
    assert math.isnan(frame.signs)
    assert frame.layer_undefined == (1.0, 1.0)
    assert all((states == 0).all() for states in frame.units)


@pytest.mark.parametrize("settings", NETS)
def test_drawn_weights_are_weights_between_the_units_they_name(settings: dict[str, Any]) -> None:
    run, scene = run_of(**settings, method="dfa")
    frame = frame_of(run, scene)
    for number, (link, weight) in enumerate(zip(scene.links, run.learner.parameters.weights, strict=True)):
        above = scene.layers[number].shown if number < len(scene.layers) else scene.drawn_outputs
        rows = weight[0].flatten(1)  # [unit, input]
        values = []
        for index, start, end in zip(zip(*link.index, strict=True), link.start, link.end, strict=True):
            unit, *place = (int(axis) for axis in index)
            column = int(np.ravel_multi_index(place, weight.shape[2:]))
            assert unit == above[end]
            if number:
                below = run.network.layers[number - 1].weight_shape[0]
                assert column // (rows.shape[1] // below) == scene.layers[number - 1].shown[start]
            else:
                assert column == start
            values.append(float(rows[unit, column]))
        scale = max(map(abs, values))
        assert np.allclose(frame.weights[number], [128 + 127 * value / scale for value in values], atol=0.51)


def test_the_result_is_the_plane_or_the_filters() -> None:
    run, scene = run_of(**PLANE)
    assert np.array_equal(frame_of(run, scene).result, np.rint(255 * boundary(run, RESOLUTION)[0]).astype(np.uint8))

    run, scene = run_of(**DIGITS)
    result = frame_of(run, scene).result
    weight = run.learner.parameters.weights[0][0][scene.filter_units].reshape(-1, 1, 8, 8).numpy()
    scaled = weight / np.abs(weight).max(axis=(1, 2, 3), keepdims=True)
    assert np.allclose(result, 128 + 127 * scaled, atol=0.51)


def test_certainty_is_the_probability_of_the_true_class() -> None:
    run, scene = run_of(**{**DIGITS, "outputs": 3})
    frame = frame_of(run, scene)
    split = run.tasks[0].train
    for place, (index, label) in enumerate(zip(scene.indices, scene.labels, strict=True)):
        inputs = run.network.inputs_from(split.gather(torch.tensor([index])).unsqueeze(0))
        logits = run.network.forward(run.learner.parameters, inputs).logits_RNC[0, 0]
        assert frame.certainty[place] == round(255 * float(logits.softmax(0)[label]))


def test_a_camera_repeats_old_weights_but_never_old_signs() -> None:
    run, scene = run_of(**DIGITS, method="dfa")
    camera = Camera(run, scene)
    first = camera.take(whole=False)
    assert first.to_bytes() == frame_of(run, scene).to_bytes()
    for _ in run.events(steps=5):
        pass
    second, now = camera.take(whole=False), frame_of(run, scene)
    assert second.weights is first.weights
    assert (second.step, second.signs, second.updates) == (now.step, now.signs, now.updates)
    assert all(map(np.array_equal, second.units, now.units))
    assert camera.take(whole=True).to_bytes() == now.to_bytes() != second.to_bytes()


@pytest.mark.parametrize("settings", NETS)
def test_a_run_that_is_looked_at_ends_as_one_that_is_not(settings: dict[str, Any]) -> None:
    (alone, _), (watched, scene) = (run_of(**settings, method="fa") for _ in range(2))
    for _ in range(3):
        for run in (alone, watched):
            for _ in run.events(steps=2):
                pass
        frame_of(watched, scene)
    pairs = zip(alone.learner.parameters.tensors(), watched.learner.parameters.tensors(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_bytes_are_numbers_then_arrays() -> None:
    run, scene = run_of(**DIGITS, method="dfa")
    frame = frame_of(run, scene, accuracy=0.5)
    data = frame.to_bytes()
    numbers = struct.unpack_from("<10f", data)
    assert numbers[:3] == (3, 1, 0)
    assert numbers[3:] == pytest.approx(
        [frame.signs, frame.updates, 0.5, frame.layer_signs[0], 0.0, frame.layer_signs[1], 0.0]
    )
    arrays = (*frame.units, *frame.weights, frame.certainty, frame.result)
    assert data[40:] == b"".join(array.tobytes() for array in arrays)


def test_a_diverged_run_has_a_frame() -> None:
    run, scene = run_of(**PLANE, method="bp")
    for weight in run.learner.parameters.weights:
        weight.fill_(math.nan)
    for _ in run.events(steps=1):
        pass
    frame = frame_of(run, scene)
    assert frame.diverged
    assert len(frame.to_bytes()) == len(frame_of(run_of(**PLANE)[0], scene).to_bytes())


def test_a_replica_is_looked_at_as_if_it_were_alone() -> None:
    stack = Run([Experiment(**DIGITS, method="dfa", seed=seed) for seed in (3, 4)], device="cpu")
    alone = Run(Experiment(**DIGITS, method="dfa", seed=4), device="cpu")
    for run in (stack, alone):
        for _ in run.events(steps=2):
            pass
    ours = frame_of(stack, scene_of(stack, 1), replica=1)
    assert ours.to_bytes() == frame_of(alone, scene_of(alone)).to_bytes()
    assert kernels.replica(stack.batch(3)[1], 1).shape[0] == 1
