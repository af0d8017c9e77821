"""The error signals of one unit: they are those that a frame counts, and looking changes nothing."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import pytest
import torch

from mdfa_core import METHODS, Experiment, Run
from mdfa_core.base.errors import InvalidValue
from mdfa_core.compute import kernels
from mdfa_core.learning import probes
from mdfa_core.stage import Look, frame_of, scene_of, unit_signals
from mdfa_core.stage.scene import RESOLUTION
from mdfa_core.stage.unit import POINTS

DIGITS: dict[str, Any] = {"network": "fc:12,9", "batch_size": 16}
CONV: dict[str, Any] = {"network": "conv:3/3/1,4/3/2+fc:6", "batch_size": 16, "outputs": 3}
PLANE: dict[str, Any] = {"data": "moons", "network": "fc:5,4", "forward_init": "normal:1", "batch_size": 16}
NETS = [pytest.param(DIGITS, id="digits"), pytest.param(CONV, id="conv"), pytest.param(PLANE, id="plane")]


def run_of(steps: int = 3, **settings: Any) -> Run:
    run = Run(Experiment(**settings), device="cpu")
    for _ in run.events(steps=steps) if steps else ():
        pass
    return run


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("settings", NETS)
def test_all_units_together_are_what_a_frame_counts(settings: dict[str, Any], method: str) -> None:
    run = run_of(**settings, method=method)
    frame = frame_of(run, scene_of(run))
    right, defined = 0, 0
    for layer, states in enumerate(frame.units):
        for unit, state in enumerate(states):
            found = unit_signals(run, layer, unit)
            of = found.right + found.wrong
            assert (found.layer, found.unit, found.step, found.examples) == (layer, unit, 3, 16)
            assert state == (1 + round(254 * found.right / of) if of else 0)
            right, defined = right + found.right, defined + of
    assert math.isnan(frame.signs) if defined == 0 else frame.signs == right / defined


@pytest.mark.parametrize("settings", NETS)
def test_the_signals_are_those_of_the_unit(settings: dict[str, Any]) -> None:
    run = run_of(**settings, method="dfa")
    batch = run.learner.observe(*run.batch(run.step + 1))
    true = probes.true_signals(run.network, run.learner.parameters, batch.forward_pass, batch.signals.deltas[-1])
    for layer, (ours, theirs) in enumerate(zip(batch.signals.errors, true.errors, strict=True)):
        found = unit_signals(run, layer, 2)
        assert found.examples * found.positions == ours[0, :, 2].numel()
        expected = (theirs[0, :, 2].flatten(), ours[0, :, 2].flatten())
        shown = np.linspace(0, len(expected[0]) - 1, min(POINTS, len(expected[0]))).round().astype(int)
        assert len(found.true) == len(shown)
        for drawn, all_of_them in zip((found.true, found.delivered), expected, strict=True):
            assert np.isin(drawn, all_of_them.numpy()).all()
            if len(shown) == len(all_of_them):
                assert np.array_equal(drawn, all_of_them.numpy())


def test_the_picture_is_what_the_unit_looks_for() -> None:
    run = run_of(**DIGITS)
    weight = run.learner.parameters.weights[0][0][7].reshape(1, 8, 8).numpy()
    found = unit_signals(run, 0, 7)
    assert found.picture is not None
    assert np.allclose(found.picture, 128 + 127 * weight / np.abs(weight).max(), atol=0.51)
    assert not found.plane
    assert unit_signals(run, 1, 7).picture is None

    run = run_of(**PLANE)
    ticks = (torch.arange(RESOLUTION) + 0.5) / RESOLUTION
    points = torch.stack([ticks.repeat(RESOLUTION), ticks.repeat_interleave(RESOLUTION)], 1)
    forward_pass = run.network.forward(run.learner.parameters, run.network.inputs_from(points.reshape(1, -1, 1, 1, 2)))
    for layer in (0, 1):
        found, output = unit_signals(run, layer, 3), forward_pass.inputs[layer + 1][0, :, 3].numpy()
        assert found.plane
        assert found.picture is not None
        expected = 128 + 127 * output / np.abs(output).max()
        assert np.allclose(found.picture.reshape(-1), expected, atol=0.52)


@pytest.mark.parametrize("settings", NETS)
def test_a_run_whose_units_are_looked_at_ends_as_one_whose_units_are_not(settings: dict[str, Any]) -> None:
    alone, watched = (run_of(**settings, method="fa") for _ in range(2))
    for _ in range(3):
        unit_signals(watched, 1, 0)
        for run in (alone, watched):
            for _ in run.events(steps=2):
                pass
    pairs = zip(alone.learner.parameters.tensors(), watched.learner.parameters.tensors(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_signals_without_a_sign_are_neither_right_nor_wrong() -> None:
    found = unit_signals(run_of(steps=0, **DIGITS, method="bp", forward_init="zeros"), 0, 0)
    assert (found.right, found.wrong, found.examples) == (0, 0, 16)
    run = run_of(**PLANE, method="bp")
    for weight in run.learner.parameters.weights:
        weight.fill_(math.nan)
    found = unit_signals(run, 0, 0)
    assert (found.right, found.wrong) == (0, 0)
    assert found.to_dict("bp")["right"] == 0


def test_a_replica_is_looked_at_as_if_it_were_alone() -> None:
    stack = Run([Experiment(**DIGITS, method="dfa", seed=seed) for seed in (3, 4)], device="cpu")
    alone = Run(Experiment(**DIGITS, method="dfa", seed=4), device="cpu")
    assert unit_signals(stack, 0, 5, replica=1).to_dict("dfa") == unit_signals(alone, 0, 5).to_dict("dfa")
    assert kernels.replica(stack.batch(1)[1], 1).shape[0] == 1


def test_a_browser_reads_little_endian_numbers() -> None:
    found = unit_signals(run_of(**DIGITS, method="dfa"), 0, 5)
    sent = found.to_dict("dfa")
    assert np.array_equal(np.frombuffer(base64.b64decode(sent["delivered"]), "<f4"), found.delivered)
    assert sent["picture"]["shape"] == [1, 8, 8]
    assert (sent["row"], sent["layer"], sent["unit"]) == ("dfa", 0, 5)


@pytest.mark.parametrize(
    ("layer", "unit", "message"),
    [
        (2, 0, "no hidden layer 2: this network has 2"),
        (-1, 0, "no hidden layer -1"),
        (0, 12, "no unit 12 in layer 0: it has 12"),
        (0, -1, "no unit -1"),
    ],
)
def test_what_is_not_there_is_a_sentence(layer: int, unit: int, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        unit_signals(run_of(steps=0, **DIGITS), layer, unit)


@pytest.mark.parametrize(
    ("message", "look"),
    [
        ({"look": {"row": "fa", "layer": 1, "unit": 3}}, Look("fa", 1, 3)),
        ({"look": None}, None),
        ({"look": {"row": "fa", "layer": True, "unit": 3}}, None),
        ({"look": {"row": "fa", "layer": 1, "unit": "3"}}, None),
        ({"look": {"row": ["fa"], "layer": 1, "unit": 3}}, None),
        ({"look": {"row": "fa"}}, None),
        ({"look": [1, 2]}, None),
        ("look", None),
    ],
)
def test_a_browser_may_send_anything(message: Any, look: Look | None) -> None:
    assert Look.of(message) == look
