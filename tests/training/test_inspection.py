"""What is looked at is what is there, and looking changes nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from mdfa_core import DATASETS, METHODS, Experiment, Run
from mdfa_core.base.errors import InvalidValue
from mdfa_core.data import ArrayDataSet
from mdfa_core.learning import probes
from mdfa_core.training import inspection
from mdfa_core.training.inspection import (
    DisagreeingUnit,
    Histogram,
    SnapshotRequest,
    any_sign,
    boundary,
    decision,
    example,
    filters,
    find_disagreeing,
    histograms,
    overview,
    search,
    snapshot,
    thumbnails,
    weights,
)
from mdfa_core.training.inspection.error_signals import ErrorSignals

PLANE: dict[str, Any] = {"data": "moons", "network": "fc:5,4", "forward_init": "normal:1", "batch_size": 16}
DIGITS: dict[str, Any] = {"network": "fc:12,9", "batch_size": 16}
CONV: dict[str, Any] = {"network": "conv:3/3/1,4/3/2+fc:6", "batch_size": 16}
EVERYTHING = SnapshotRequest(plane=True, weights=True, example=3, unit=(0, 1))


def run_of(steps: int = 3, **settings: Any) -> Run:
    run = Run(Experiment(**settings), device="cpu")
    for _ in run.events(steps=steps):
        pass
    return run


def weights_of(run: Run) -> list[tuple[np.ndarray, np.ndarray]]:
    parameters = run.learner.parameters
    return [(w[0].double().numpy(), b[0].double().numpy()) for w, b in zip(*vars(parameters).values(), strict=True)]


# ------------------------------------------------------------------------------------------------- nothing is changed


@pytest.mark.parametrize("settings", [PLANE, DIGITS, CONV], ids=["plane", "digits", "conv"])
@pytest.mark.parametrize("steps", [0, 3, 18])
def test_a_run_that_is_looked_at_ends_as_one_that_is_not(settings: dict[str, Any], steps: int) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state().clone(), np.random.get_state()[1].copy()  # noqa: NPY002
    alone, watched = (Run(Experiment(**settings, method="dfa"), device="cpu") for _ in range(2))
    for run in (alone, watched):
        if steps:
            list(run.events(steps=steps))
    kept = [tensor.clone() for tensor in (*watched.learner.parameters.tensors(), *watched.learner.feedback)]
    for _ in range(2):
        snapshot(watched, overview(watched), EVERYTHING)
        find_disagreeing(watched)
    now = (*watched.learner.parameters.tensors(), *watched.learner.feedback)
    assert all(torch.equal(a, b) for a, b in zip(kept, now, strict=True))
    after = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    for run in (alone, watched):
        list(run.events(steps=7))
    for a, b in zip(alone.learner.parameters.tensors(), watched.learner.parameters.tensors(), strict=True):
        assert torch.equal(a, b)


def test_arrays_of_a_snapshot_do_not_follow_the_weights() -> None:
    run = run_of(**DIGITS)
    taken = filters(run)
    assert taken is not None
    copy = taken.weights.copy()
    list(run.events(steps=5))
    assert np.array_equal(copy, taken.weights)


# ------------------------------------------------------------------------------------------------------------ the plane


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_boundary_is_the_net_at_every_point(outputs: int) -> None:
    run = run_of(**PLANE, outputs=outputs)
    painted = boundary(run, 6)
    assert painted.shape == (1, 6, 6)
    for row in range(6):
        for column in range(6):
            h = np.array([(column + 0.5) / 6, (row + 0.5) / 6])
            for number, (w, b) in enumerate(weights_of(run)):
                a = w @ h + b
                h = np.tanh(a) if number < 2 else a
            z = h[0] if outputs == 1 else h[1] - h[0]
            assert painted[0, row, column] == pytest.approx(1 / (1 + math.exp(-z)), abs=1e-5)


def test_points_are_where_the_net_sees_them() -> None:
    run = run_of(**PLANE)
    points = overview(run).points
    assert points is not None
    task = run.tasks[0]
    assert points.training.sum() == len(task.train)
    assert len(points.xy) == len(task.train) + len(task.validation)
    for split, where in ((task.train, points.training), (task.validation, ~points.training)):
        inputs = run.network.inputs_from(split.gather(torch.arange(len(split))).unsqueeze(0))
        assert np.allclose(points.xy[where], inputs[0], atol=1e-6)
        assert np.array_equal(points.labels[where], split.labels)


def test_the_decision_of_two_classes_is_the_boundary_in_bytes() -> None:
    run = Run(Experiment(**PLANE), device="cpu")
    assert np.array_equal(decision(run, 8), np.rint(255 * boundary(run, 8)).astype(np.uint8))


def test_the_decision_of_more_classes_is_the_class_and_how_far_it_is_above_chance() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 2, 1, 1), dtype=np.uint8)
    labels = np.arange(60) % 4
    data = ArrayDataSet(
        train_images=pixels, train_labels=labels, test_images=pixels, test_labels=labels, class_names=list("abcd")
    )
    DATASETS.add("test-four", data)
    try:
        run = Run(Experiment(**{**PLANE, "data": "test-four", "outputs": 4, "seed": 2}), device="cpu")
    finally:
        DATASETS.remove("test-four")
    ticks = (np.arange(6) + 0.5) / 6
    xy = torch.tensor([[x, y] for y in ticks for x in ticks]).reshape(1, 36, 2, 1, 1)
    logits = run.network.forward(run.learner.parameters, run.network.inputs_from(xy)).logits_RNC
    probabilities = torch.softmax(logits, 2)[0].numpy().reshape(6, 6, 4)
    found = decision(run, 6)[0]
    assert found.dtype == np.uint8
    assert np.array_equal(found // 64, probabilities.argmax(2))
    assert len(np.unique(found // 64)) == 3
    assert found % 64 == pytest.approx(63 * (4 * probabilities.max(2) - 1) / 3, abs=0.51)


def test_other_images_have_no_plane() -> None:
    run = run_of(**DIGITS)
    assert overview(run).points is None
    assert snapshot(run, overview(run), EVERYTHING).boundary is None
    with pytest.raises(InvalidValue, match=r"\(1, 8, 8\) are not points of the plane: choose a data set of points"):
        boundary(run)


# ------------------------------------------------------------------------------------------------- weights and filters


def counted(values: np.ndarray, bound: float) -> list[int]:
    """A histogram, value by value."""
    counts = [0] * inspection.BINS
    for value in values.astype(np.float64).ravel():
        place = math.floor((value + bound) / (2 * bound) * inspection.BINS)
        counts[min(max(place, 0), inspection.BINS - 1)] += 1
    return counts


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("settings", [DIGITS, CONV], ids=["digits", "conv"])
def test_histograms_count_weights_updates_and_activations(settings: dict[str, Any], method: str) -> None:
    run = run_of(**settings, method=method)
    images, labels = run.batch(run.step)
    batch = run.learner.observe(images, labels)
    updates = run.learner.updates(batch).weights
    measured = run.learner.measure(batch)
    found = histograms(run)
    assert [layer.name for layer in found] == [layer.name for layer in run.network.layers]
    for number, layer in enumerate(found):
        assert not layer.sampled
        pairs: list[tuple[Any, torch.Tensor]] = [
            (layer.weights, run.learner.parameters.weights[number]), (layer.updates, updates[number])
        ]  # fmt: skip
        if number < len(run.network.hidden):
            h = run.network.activation.function(batch.forward_pass.saved[number])
            h = batch.forward_pass.saved[number] if run.network.activation.from_output else h
            pairs.append((layer.activations, h))
            assert layer.saturated == pytest.approx(measured.saturation[number][0])
        else:
            assert (layer.activations, layer.saturated) == (None, None)
        for histogram, values in pairs:
            assert histogram.counts.sum() == values.numel()
            # A value on an edge may be counted on either side of it.
            difference = np.abs(histogram.counts - counted(values.numpy(), histogram.bound))
            assert difference.sum() <= 2 + 0.002 * values.numel()
            rms = float(values.double().square().mean().sqrt())
            assert 4 * rms <= histogram.bound <= 10.01 * rms
            assert histogram.zeros == pytest.approx(float((values == 0).double().mean()))


@pytest.mark.parametrize(
    ("value", "bound"), [(0.0, 1.0), (0.25, 1.0), (0.26, 2.0), (1.0, 5.0), (2e-7, 1e-6), (30.0, 200.0)]
)
def test_a_histogram_ends_at_a_round_number(value: float, bound: float) -> None:
    histogram = Histogram.of(torch.full((7,), value))
    assert histogram.bound == pytest.approx(bound)
    assert histogram.counts.sum() == 7
    assert histogram.zeros == (value == 0)


def test_what_is_no_number_is_not_counted() -> None:
    histogram = Histogram.of(torch.tensor([1.0, math.nan, -1.0, math.inf, 0.0]))
    assert (histogram.counts.sum(), histogram.zeros) == (3, pytest.approx(1 / 3))


@pytest.mark.parametrize("settings", [DIGITS, CONV], ids=["digits", "conv"])
def test_a_large_layer_is_sampled_and_says_so(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(**settings, method="dfa")
    whole = histograms(run)
    updates = run.learner.updates(run.learner.observe(*run.batch(run.step))).weights
    monkeypatch.setattr(weights, "MOST_VALUES", 40)
    part = histograms(run)
    for number, (few, all_) in enumerate(zip(part, whole, strict=True)):
        weight = run.learner.parameters.weights[number]
        units = max(1, 40 * weight.shape[1] // weight.numel())
        assert few.sampled == (units < weight.shape[1])
        assert few.weights.counts.sum() == min(units, weight.shape[1]) * weight[0, 0].numel()
        chosen = [k * weight.shape[1] // units for k in range(units)] if few.sampled else range(weight.shape[1])
        for histogram, values in ((few.weights, weight), (few.updates, updates[number])):
            expected = Histogram.of(values[:, chosen])
            assert histogram.bound == expected.bound
            assert np.abs(histogram.counts - expected.counts).sum() <= 2
        assert few.activations is None or few.activations.counts.sum() <= 40
        assert not all_.sampled


def test_filters_are_the_first_layers_weights() -> None:
    run = run_of(network="fc:50", batch_size=16)
    found = filters(run)
    assert found is not None
    assert (found.of, found.weights.shape) == (50, (36, 1, 8, 8))
    assert len(set(found.units)) == 36
    assert np.array_equal(found.weights.reshape(36, 64), run.learner.parameters.weights[0][0, found.units].numpy())
    conv = filters(run_of(**CONV))
    assert conv is not None
    assert (conv.of, conv.weights.shape) == (3, (3, 1, 3, 3))
    assert filters(run_of(**PLANE)) is None


def test_large_filters_and_thumbnails_are_shrunk_by_averaging() -> None:
    run = run_of(**DIGITS)
    found = filters(run, size=4)
    assert found is not None
    weight = run.learner.parameters.weights[0][0].reshape(12, 4, 2, 4, 2).numpy()
    assert np.allclose(found.weights[:, 0], weight.mean((2, 4)), atol=1e-6)
    assert {pixels.shape for pixels in thumbnails(run, size=2).pixels} == {(1, 2, 2)}


@pytest.mark.parametrize(("outputs", "of_each"), [(1, 6), (3, 4), (10, 1)])
def test_thumbnails_show_every_class(outputs: int, of_each: int) -> None:
    run = run_of(**DIGITS, outputs=outputs)
    found = overview(run).thumbnails
    assert len(found.indices) == len(set(found.indices)) == 12
    assert list(found.labels) == sorted(found.labels)
    assert np.bincount(found.labels, minlength=max(2, outputs)).min() == of_each
    split = run.tasks[0].train
    for index, pixels, label in zip(found.indices, found.pixels, found.labels, strict=True):
        assert int(split.labels[index]) == label
        assert np.array_equal(split.gather(torch.tensor([index]))[0], pixels)


# ---------------------------------------------------------------------------------------------------------- one example


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("settings", [DIGITS, CONV], ids=["digits", "conv"])
def test_an_example_has_the_methods_and_the_true_signals(settings: dict[str, Any], method: str, outputs: int) -> None:
    run = run_of(**settings, method=method, outputs=outputs)
    index = 17
    split = run.tasks[0].train
    inputs = run.network.inputs_from(split.gather(torch.tensor([index])).unsqueeze(0))
    batch = run.learner.observe(inputs, split.labels[[index]].unsqueeze(0))
    learner = run.learner
    true = probes.true_signals(run.network, learner.parameters, batch.forward_pass, batch.signals.deltas[-1])
    found = example(run, index)
    assert (found.index, found.label) == (index, int(split.labels[index]))
    assert np.array_equal(found.pixels, split.gather(torch.tensor([index]))[0])
    z = batch.forward_pass.logits_RNC[0, 0].double()
    one = torch.sigmoid(z)
    probabilities = torch.cat([1 - one, one]) if outputs == 1 else torch.softmax(z, 0)
    assert found.probabilities == pytest.approx(probabilities.tolist(), abs=1e-6)
    for number, layer in enumerate(found.layers):
        assert layer.shape == run.network.hidden[number].output_shape
        everything = [signals.errors[number][0, 0].numpy() for signals in (true, batch.signals)]
        for listed, whole in zip((layer.true, layer.delivered), everything, strict=True):
            assert np.allclose(listed, whole.reshape(-1)[layer.units], rtol=1e-4, atol=1e-7)
        product = np.sign(everything[0]) * np.sign(everything[1])
        assert (layer.agreeing, layer.disagreeing, layer.undefined) == tuple((product == s).sum() for s in (1, -1, 0))
        assert np.array_equal(layer.signs, product.reshape(-1)[layer.units])
        if math.prod(layer.shape) <= inspection.UNITS:
            assert layer.units.tolist() == list(range(math.prod(layer.shape)))


@pytest.mark.parametrize("activation", ["tanh", "relu", "hard-tanh", "sigmoid"])
@pytest.mark.parametrize("settings", [PLANE, DIGITS, CONV], ids=["plane", "digits", "conv"])
def test_with_one_output_no_unit_of_mdfa_disagrees(settings: dict[str, Any], activation: str) -> None:
    run = run_of(**settings, activation=activation)
    assert all(layer.disagreeing == 0 for index in range(20) for layer in example(run, index).layers)
    assert find_disagreeing(run) is None
    assert any_sign(run)


def test_zero_weights_leave_all_signs_undefined() -> None:
    run = Run(Experiment(**DIGITS, method="dfa", forward_init="zeros"), device="cpu")
    for layer in example(run, 0).layers:
        assert (layer.agreeing, layer.disagreeing) == (0, 0)
        assert layer.undefined == len(layer.units)
        assert not layer.signs.any()
    assert find_disagreeing(run) is None
    assert not any_sign(run)


@pytest.mark.parametrize("unit", [0, 5, 1234, 1999])
def test_a_unit_that_is_asked_for_is_listed(unit: int) -> None:
    run = run_of(1, network="fc:2000", batch_size=16)
    listed = example(run, 0, include=(0, unit)).layers[0].units
    assert unit in listed
    assert len(listed) == len(set(listed)) == inspection.UNITS
    assert listed.tolist() == sorted(listed)
    assert np.diff(listed).max() < 2 * 2000 / inspection.UNITS  # evenly spread


# ------------------------------------------------------------------------------------------------- units of wrong sign


def plainest(run: Run, index: int) -> DisagreeingUnit | None:
    """The unit of one image with the largest product of relative signals of opposite signs, unit by unit."""
    best, found = 0.0, None
    for number, layer in enumerate(example(run, index).layers):
        largest = np.abs(layer.true).max() * np.abs(layer.delivered).max()
        for unit, true, delivered in zip(layer.units, layer.true, layer.delivered, strict=True):
            if true * delivered < 0 and -true * delivered / largest > best:
                best, found = -true * delivered / largest, DisagreeingUnit(index=index, layer=number, unit=int(unit))
    return found


@pytest.mark.parametrize(("method", "outputs"), [("dfa", 1), ("fa", 3), ("mdfa", 2)])
def test_the_next_disagreeing_unit_is_found(method: str, outputs: int) -> None:
    run = run_of(**DIGITS, method=method, outputs=outputs)
    run.learner.feedback[0].mul_(1e-3)  # what is plain in a layer does not depend on the layer's scale
    examples = len(run.tasks[0].train)
    for after in (-1, 0, 41, examples - 1):
        found = find_disagreeing(run, after)
        expected = next(filter(None, (plainest(run, (after + 1 + k) % examples) for k in range(examples))))
        assert found == expected


def test_a_search_goes_through_all_images_and_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(**DIGITS, method="dfa")
    monkeypatch.setattr(search, "CHUNK", 7)
    seen: list[int] = []
    look = ErrorSignals.of_images

    def noted(run: Run, replica: int, indices: list[int]) -> Any:
        seen.extend(indices)
        made = look(run, replica, indices)
        made.delivered = made.true  # nothing disagrees
        return made

    monkeypatch.setattr(ErrorSignals, "of_images", noted)
    assert find_disagreeing(run, after=10) is None
    examples = len(run.tasks[0].train)
    assert seen == [*range(11, examples), *range(11)]
    seen.clear()
    monkeypatch.setattr(search, "SEARCHED", 20)
    find_disagreeing(run)
    assert seen == list(range(20))


# ------------------------------------------------------------------------------------------------------------- the rest


def test_a_snapshot_holds_what_is_wanted() -> None:
    run = run_of(**PLANE)
    stage = overview(run)
    nothing = snapshot(run, stage, SnapshotRequest())
    assert (nothing.boundary, nothing.histograms, nothing.filters, nothing.example) == (None,) * 4
    assert (nothing.step, nothing.epoch, nothing.overview) == (3, 1, stage)
    full = snapshot(run, stage, EVERYTHING)
    assert full.boundary is not None
    assert full.boundary.shape == (inspection.RESOLUTION,) * 2
    assert full.histograms is not None
    assert full.example is not None
    assert (full.example.index, full.unit) == (3, (0, 1))
    assert stage.layers == tuple(layer.name for layer in run.network.layers)
    assert stage.examples == len(run.tasks[0].train)


def test_a_replica_is_looked_at_as_if_it_were_alone() -> None:
    experiments = [Experiment(**PLANE, method="dfa", seed=seed, outputs=2) for seed in (4, 9)]
    together = Run(experiments, device="cpu")
    list(together.events(steps=3))
    for replica, experiment in enumerate(experiments):
        alone = run_of(**experiment.to_dict())
        ours = snapshot(together, overview(together, replica), EVERYTHING, replica)
        theirs = snapshot(alone, overview(alone), EVERYTHING)
        assert ours.boundary == pytest.approx(theirs.boundary, abs=1e-6)
        assert ours.overview.points is not None
        assert theirs.overview.points is not None
        assert np.array_equal(ours.overview.points.xy, theirs.overview.points.xy)
        for a, b in zip(ours.histograms or (), theirs.histograms or (), strict=True):
            assert np.abs(a.updates.counts - b.updates.counts).sum() <= 2
            assert np.abs(a.weights.counts - b.weights.counts).sum() <= 2
        assert ours.example is not None
        assert theirs.example is not None
        assert ours.example.layers[0].delivered == pytest.approx(theirs.example.layers[0].delivered, abs=1e-6)
        assert find_disagreeing(together, replica=replica) == find_disagreeing(alone)
    digits = Run([Experiment(**DIGITS, seed=seed) for seed in (4, 9)], device="cpu")
    second = filters(digits, 1)
    assert second is not None
    assert np.array_equal(second.weights.reshape(12, 64), digits.learner.parameters.weights[0][1].numpy())


def test_no_hidden_layer() -> None:
    run = run_of(network="fc:", batch_size=16, method="dfa")
    assert example(run, 0).layers == ()
    assert find_disagreeing(run) is None
    (output,) = histograms(run)
    assert output.activations is None


@pytest.mark.parametrize("settings", [PLANE, DIGITS, CONV], ids=["plane", "digits", "conv"])
def test_a_run_that_has_diverged_can_be_looked_at(settings: dict[str, Any]) -> None:
    run = run_of(**settings, method="dfa")
    for weight in run.learner.parameters.weights:
        weight.fill_(math.nan)
    taken = snapshot(run, overview(run), EVERYTHING)
    assert taken.example is not None
    assert all(layer.agreeing == layer.disagreeing == 0 for layer in taken.example.layers)
    assert not any(layer.signs.any() for layer in taken.example.layers)
    assert taken.histograms is not None
    assert all(layer.weights.counts.sum() == 0 for layer in taken.histograms)
    assert find_disagreeing(run) is None
    assert not any_sign(run)


def test_saturated_units_are_counted_as_the_probes_do() -> None:
    run = run_of(**DIGITS)
    for weight in run.learner.parameters.weights:
        weight.mul_(40)
    images, labels = run.batch(run.step)
    measured = run.learner.measure(run.learner.observe(images, labels)).saturation
    shares = [layer.saturated for layer in histograms(run)][:-1]
    assert shares == pytest.approx([layer[0] for layer in measured])
    assert all(share is not None and share > 0.3 for share in shares)
    assert probes.SATURATED == 0.01


@pytest.mark.parametrize("index", [-1, 10_000])
def test_an_image_that_is_not_there_is_refused(index: int) -> None:
    run = run_of(**DIGITS)
    last = len(run.tasks[0].train) - 1
    with pytest.raises(InvalidValue, match=f"there is no training image {index}: choose one from 0 to {last}"):
        example(run, index)


@pytest.mark.parametrize("unit", [-1, 12])
def test_a_unit_that_is_not_there_is_refused(unit: int) -> None:
    run = run_of(**DIGITS)
    with pytest.raises(InvalidValue, match=rf"layer 1 \(dense 12\) has no unit {unit}: choose one from 0 to 11"):
        example(run, 0, include=(0, unit))
