"""Probes: counts by hand and by brute force, angles, norms and saturation by formula, nothing undefined counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mdfa_core.learning import probes
from mdfa_core.learning.learner import Batch, Learner
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.nets.initializers import Normal, Zeros
from mdfa_core.rules import METHODS, Signals
from tests.support.references import batch_of, learner_of, network_of

NETS = ["fc:", "fc:1", "fc:5,4", "conv:3/3/1,2/2/2", "conv:3/3/2+fc:4"]


def observed(method: str, architecture: str = "fc:5,4", *, replicas: int = 2, **of) -> tuple[Learner, Batch]:
    learner = learner_of(network_of(architecture, **of), method, rates=(0.1,) * replicas)
    return learner, learner.observe(*batch_of(learner.network, 6))


def measured(learner: Learner, batch: Batch, delivered: Signals | None = None) -> probes.Measurement:
    return probes.measure(learner.network, learner.parameters, batch.forward_pass, delivered or batch.signals)


def scaled(signals: Signals, factor: float) -> Signals:
    """Every hidden layer's signals times a factor; the output error stays."""
    return Signals(
        tuple(factor * e for e in signals.errors),
        (*(factor * d for d in signals.deltas[:-1]), signals.deltas[-1]),
    )


def stack(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------------- nothing


@pytest.mark.parametrize("architecture", NETS)
@pytest.mark.parametrize("method", METHODS)
def test_probes_change_nothing(method: str, architecture: str) -> None:
    learner, batch = observed(method, architecture)

    def everything() -> list[Tensor]:
        forward_pass, signals = batch.forward_pass, batch.signals
        held = (
            *learner.parameters.tensors(),
            *learner.feedback,
            *forward_pass.inputs,
            *forward_pass.saved,
            forward_pass.logits_RNC,
        )
        return [*held, *signals.errors, *signals.deltas]

    before = [tensor.clone() for tensor in everything()]
    first, second = measured(learner, batch), measured(learner, batch)

    assert all(torch.equal(a, b) for a, b in zip(everything(), before, strict=True))
    assert first == second


def test_training_with_and_without_probes_is_the_same() -> None:
    quiet, probed = (learner_of(network_of("conv:3/3/2+fc:4"), "mdfa", optimizer="adam") for _ in range(2))
    for step in range(4):
        inputs, labels = batch_of(quiet.network, 5, seed=step)
        quiet.step(inputs, labels)
        batch = probed.observe(inputs, labels)
        measured(probed, batch)
        probed.learn(batch)
    assert all(torch.equal(a, b) for a, b in zip(quiet.parameters.tensors(), probed.parameters.tensors(), strict=True))


# --------------------------------------------------------------------------------------------------------- sign counts


def test_sign_counts_by_hand() -> None:
    nan, inf = math.nan, math.inf
    ours = stack([1, -2, 3, 0, 0, nan, 1, -inf], [1, 1, 1, 1, 1, 1, 1, 1])
    true = stack([5, -1, -1, 0, 7, 1, nan, -1], [-1, 0, -1, 0, 1, 1, 1, 1])
    counts = probes.sign_counts(ours, true)

    assert counts.agree.tolist() == [3, 4]
    assert counts.defined.tolist() == [4, 6]
    assert counts.total == 8


def test_signs_of_the_smallest_numbers_count() -> None:
    tiny = torch.tensor([[1e-40, -1e-40, 1e-30]])
    assert probes.sign_counts(tiny, tiny).agree.tolist() == [3]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("architecture", ["fc:5,4", "fc:1", "conv:3/3/2+fc:4", "conv:2/3/1,3/2/2"])
@pytest.mark.parametrize("activation", ["tanh", "relu", "hard-tanh"])
def test_counting_in_dense_layers_equals_writing_every_update_out(
    architecture: str, activation: str, shared: bool
) -> None:
    learner = learner_of(network_of(architecture, activation=activation, outputs=2), "dfa", rates=(0.1, 0.1))
    inputs, labels = batch_of(learner.network, 5, replicas=1 if shared else 2)
    inputs[:, 1] = 0.0  # an example whose weights' updates are all undefined
    inputs[:, 2].flatten()[::2] = 0.0
    batch = learner.observe(inputs, labels)
    true = probes.true_signals(learner.network, learner.parameters, batch.forward_pass, batch.signals.deltas[-1])
    for number, layer in enumerate(learner.network.hidden):
        delivered = batch.signals.deltas[number].clone()
        delivered[0, 0] = 0.0
        delivered[1, 3] = math.nan
        arguments = (layer, batch.forward_pass.inputs[number], delivered, true.deltas[number])

        short, long = probes.example_sign_counts(*arguments), probes.written_out_sign_counts(*arguments)

        assert torch.equal(short.agree, long.agree)
        assert torch.equal(short.defined, long.defined)
        assert short.total == long.total


@pytest.mark.parametrize("architecture", ["fc:3,2", "conv:2/3/2+fc:3", "conv:2/3/3,2/2/1"])
@pytest.mark.parametrize("method", ["dfa", "bp"])
def test_single_example_agreement_is_that_of_batches_of_one(method: str, architecture: str) -> None:
    learner = learner_of(network_of(architecture), method, rates=(0.1, 0.1))
    inputs, labels = batch_of(learner.network, 4)
    found = measured(learner, learner.observe(inputs, labels)).example

    hidden = range(len(learner.network.hidden))
    agree, defined, total = ([[0, 0] for _ in hidden] for _ in range(3))
    for n in range(4):
        one = learner.observe(inputs[:, n : n + 1], labels[:, n : n + 1])
        true = probes.true_signals(learner.network, learner.parameters, one.forward_pass, one.signals.deltas[-1])
        ours = learner.updates(one)
        theirs = learner.network.updates(one.forward_pass, true.deltas)
        for layer in hidden:
            for r in range(2):
                for a, b in ((ours.weights, theirs.weights), (ours.biases, theirs.biases)):
                    signs = np.sign(a[layer][r].numpy()) * np.sign(b[layer][r].numpy())
                    agree[layer][r] += int((signs > 0).sum())
                    defined[layer][r] += int((signs != 0).sum())
                    total[layer][r] += signs.size

    for layer in hidden:
        for r in range(2):
            assert found.layers[layer][r] == pytest.approx(agree[layer][r] / defined[layer][r])
            assert found.undefined[layer][r] == pytest.approx(1 - defined[layer][r] / total[layer][r])
    for r in range(2):
        assert found.overall[r] == pytest.approx(sum(a[r] for a in agree) / sum(d[r] for d in defined))


@pytest.mark.parametrize("architecture", ["fc:5,4", "conv:3/3/2+fc:4"])
def test_unit_and_batch_agreement_by_plain_counting(architecture: str) -> None:
    learner, batch = observed("dfa", architecture)
    found = measured(learner, batch)
    true = probes.true_signals(learner.network, learner.parameters, batch.forward_pass, batch.signals.deltas[-1])
    ours, theirs = learner.updates(batch), learner.network.updates(batch.forward_pass, true.deltas)

    for r in range(2):
        agreed, counted = {"unit": 0, "batch": 0}, {"unit": 0, "batch": 0}
        for layer in range(len(learner.network.hidden)):
            pairs = {
                "unit": [(batch.signals.errors[layer], true.errors[layer])],
                "batch": [(ours.weights[layer], theirs.weights[layer]), (ours.biases[layer], theirs.biases[layer])],
            }
            for level, tensors in pairs.items():
                signs = np.concatenate([np.sign(a[r].numpy() * b[r].numpy()).ravel() for a, b in tensors])
                agreed[level] += (signs > 0).sum()
                counted[level] += len(signs)
                assert getattr(found, level).layers[layer][r] == pytest.approx((signs > 0).mean())
                assert getattr(found, level).undefined[layer][r] == 0.0
        for level in agreed:
            assert getattr(found, level).overall[r] == pytest.approx(agreed[level] / counted[level])
            assert 0 < getattr(found, level).overall[r] < 1


@pytest.mark.parametrize("architecture", ["fc:5,4", "conv:3/3/2+fc:4"])
def test_each_unit_is_counted_over_examples_and_positions(architecture: str) -> None:
    learner, batch = observed("dfa", architecture)
    true = probes.true_signals(learner.network, learner.parameters, batch.forward_pass, batch.signals.deltas[-1])
    for delivered, right in zip(batch.signals.errors, true.errors, strict=True):
        delivered = delivered.clone()
        delivered[0, 1] = 0.0
        delivered[1, 2] = math.nan
        counts = probes.unit_sign_counts(delivered, right)
        replicas, examples, units = right.shape[:3]
        assert counts.total == right[0, :, 0].numel()
        for r in range(replicas):
            for unit in range(units):
                agree = defined = 0
                for n in range(examples):
                    for a, b in zip(delivered[r, n, unit].reshape(-1), right[r, n, unit].reshape(-1), strict=True):
                        known = math.isfinite(a) and a != 0 and b != 0
                        defined += known
                        agree += known and (a > 0) == (b > 0)
                assert (int(counts.agree[r, unit]), int(counts.defined[r, unit])) == (agree, defined)


@pytest.mark.parametrize("units", [None, 2])
@pytest.mark.parametrize("method", ["dfa", "chl"])
def test_counts_of_updates_are_those_of_a_measurement(method: str, units: int | None) -> None:
    learner, batch = observed(method, "fc:5,4")
    true = probes.true_signals(learner.network, learner.parameters, batch.forward_pass, batch.signals.deltas[-1])
    counts = probes.update_sign_counts(learner.network, batch.forward_pass, batch.signals, true, units)
    sample = None if units is None else probes.Sample(units=units, examples=2)
    found = probes.measure(learner.network, learner.parameters, batch.forward_pass, batch.signals, sample).batch
    for layer, count in enumerate(counts):
        assert tuple((count.agree / count.defined).tolist()) == pytest.approx(found.layers[layer])
        assert tuple((1 - count.defined / count.total).tolist()) == pytest.approx(found.undefined[layer])


@pytest.mark.parametrize("architecture", NETS[1:])
def test_bp_agrees_with_itself_and_its_negative_with_nothing(architecture: str) -> None:
    learner, batch = observed("bp", architecture)
    same, opposite = measured(learner, batch), measured(learner, batch, scaled(batch.signals, -1.0))

    for level in probes.LEVELS:
        assert getattr(same, level).overall == (1.0, 1.0)
        assert getattr(opposite, level).overall == (0.0, 0.0)
    assert same.angle_overall == pytest.approx((0.0, 0.0), abs=1e-6)
    assert opposite.angle_overall == pytest.approx((180.0, 180.0), abs=1e-6)
    for layer in range(len(learner.network.hidden)):
        assert same.norm_ratio[layer] == opposite.norm_ratio[layer] == pytest.approx((1.0, 1.0))


def test_a_net_without_hidden_layers_has_nothing_to_measure() -> None:
    learner, batch = observed("mdfa", "fc:")
    found = measured(learner, batch)

    for level in probes.LEVELS:
        agreement = getattr(found, level)
        assert (agreement.layers, agreement.overall, agreement.undefined) == ((), (None, None), ())
    assert found.angle == found.norm_ratio == found.saturation == ()
    assert found.angle_overall == (None, None)


# ----------------------------------------------------------------------------------------------------------- undefined


@pytest.mark.parametrize("architecture", NETS[1:])
def test_a_net_of_zeros_has_no_true_sign_anywhere(architecture: str) -> None:
    network = network_of(architecture)
    method = METHODS["dfa"]
    learner = Learner(
        network,
        method,
        OPTIMIZERS["sgd"],
        method.initial_parameters(network, Zeros(), seed=0, convention="paper", floor=0.0),
        method.initial_feedback(network, Normal(1.0), seed=0, convention="paper"),
        learning_rates=[0.1],
    )
    found = measured(learner, learner.observe(*batch_of(network, 5)))

    for level in probes.LEVELS:
        agreement = getattr(found, level)
        assert agreement.overall == (None,)
        assert all(layer == (None,) for layer in agreement.layers)
        assert all(layer == (1.0,) for layer in agreement.undefined)
    assert found.angle_overall == (None,)
    assert all(layer == (None,) for layer in (*found.angle, *found.norm_ratio))


@pytest.mark.parametrize(("activation", "bias"), [("hard-tanh", 1e6), ("hard-tanh", -1e6), ("relu", -1e6)])
@pytest.mark.parametrize("method", ["dfa", "mdfa", "bp"])
def test_flat_units_leave_their_updates_undefined(method: str, activation: str, bias: float) -> None:
    learner, _ = observed(method, "fc:5", activation=activation)
    learner.parameters.biases[0].fill_(bias)
    found = measured(learner, learner.observe(*batch_of(learner.network, 6)))

    for level in ("example", "batch"):
        assert getattr(found, level).overall == (None, None)
        assert getattr(found, level).undefined == ((1.0, 1.0),)
    assert found.unit.undefined == ((0.0, 0.0),)  # the error signal itself is there
    assert found.angle == found.norm_ratio == ((None, None),)
    assert found.saturation == ((1.0, 1.0),)


def test_flat_units_are_left_out_of_the_ratio_and_counted_in_the_share() -> None:
    learner, _ = observed("mdfa", "fc:4", activation="relu", replicas=1)
    learner.parameters.biases[0][0, :3] = -1e6  # three of four units are dead
    learner.parameters.biases[0][0, 3] = 20.0  # and one is not, whatever it sees
    found = measured(learner, learner.observe(*batch_of(learner.network, 6)))

    assert found.example.overall == (1.0,)
    assert found.example.undefined == ((0.75,),)
    assert found.batch.undefined == ((0.75,),)
    assert found.saturation == ((0.75,),)


def test_inputs_of_zero_leave_weights_undefined_but_not_biases() -> None:
    learner = learner_of(network_of("fc:4", image=(1, 1, 3)), "mdfa")
    inputs, labels = batch_of(learner.network, 2)
    inputs[:] = 0.0
    found = measured(learner, learner.observe(inputs, labels))

    assert found.example.undefined == ((0.75,),)  # 12 weights of 16 parameters
    assert found.example.overall == (1.0,)


def test_not_a_number_is_undefined() -> None:
    learner, batch = observed("dfa", "fc:5,4", replicas=2)
    signals = scaled(batch.signals, 1.0)
    for tensor in (*signals.errors, *signals.deltas[:-1]):
        tensor[0] = math.nan
    found, plain = measured(learner, batch, signals), measured(learner, batch)

    for level in probes.LEVELS:
        assert getattr(found, level).overall == (None, getattr(plain, level).overall[1])
        assert all(layer[0] == 1.0 for layer in getattr(found, level).undefined)
    assert found.angle_overall == (None, plain.angle_overall[1])
    assert all(layer[0] is None for layer in (*found.angle, *found.norm_ratio))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_replica_does_not_disturb_the_others(value: float) -> None:
    learner, batch = observed("dfa", "conv:3/3/2+fc:4")
    plain = measured(learner, batch)
    for tensor in learner.parameters.tensors():
        tensor[0] = value
    found = measured(learner, learner.observe(*batch_of(learner.network, 6)))

    for level in probes.LEVELS:
        assert getattr(found, level).overall == (None, getattr(plain, level).overall[1])
    assert found.angle_overall == (None, plain.angle_overall[1])


# --------------------------------------------------------------------------------------------- angle, norm, saturation


def test_the_angle_is_arccos_over_all_tensors_together() -> None:
    rng = np.random.default_rng(0)
    pairs = [
        (rng.normal(size=(3, 4, 2)), rng.normal(size=(3, 4, 2))),
        (rng.normal(size=(3, 5)), rng.normal(size=(3, 5))),
    ]
    expected = []
    for r in range(3):
        a = np.concatenate([x[r].ravel() for x, _ in pairs])
        b = np.concatenate([y[r].ravel() for _, y in pairs])
        expected.append(math.degrees(math.acos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))))

    ours = probes.angle([(torch.from_numpy(x), torch.from_numpy(y)) for x, y in pairs])

    assert ours == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "degrees"),
    [
        ([1.0, 0.0], [0.0, 2.0], 90.0),
        ([1.0, 0.0], [3.0, 3.0], 45.0),
        ([2.0, 1.0], [4.0, 2.0], 0.0),
        ([2.0, 1.0], [-4.0, -2.0], 180.0),
        ([1.0, 0.0], [1.0, 1e-9], math.degrees(1e-9)),  # arccos would say 0
        ([1e-30, 0.0], [1e30, 1e30], 45.0),
        ([0.0, 0.0], [1.0, 0.0], None),
        ([1.0, 0.0], [0.0, 0.0], None),
        ([math.nan, 0.0], [1.0, 0.0], None),
    ],
)
def test_angles_by_hand(a: list[float], b: list[float], degrees: float | None) -> None:
    (ours,) = probes.angle([(stack(a), stack(b))])
    assert ours is None if degrees is None else ours == pytest.approx(degrees, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "ratio"),
    [
        ([3.0, 4.0], [0.0, 10.0], 0.5),
        ([0.0, 0.0], [1.0, 0.0], 0.0),
        ([1.0, 0.0], [0.0, 0.0], None),
        ([math.nan, 0.0], [1.0, 0.0], None),
        ([1.0, 0.0], [math.inf, 0.0], 0.0),
    ],
)
def test_norm_ratios_by_hand(a: list[float], b: list[float], ratio: float | None) -> None:
    assert probes.norm_ratio([(stack(a), stack(b))]) == (ratio,)


def test_the_norm_ratio_takes_all_tensors_together_each_replica_for_itself() -> None:
    pairs = [(stack([3.0], [1.0]), stack([1.0], [2.0])), (stack([4.0], [0.0]), stack([0.0], [0.0]))]
    assert probes.norm_ratio(pairs) == (5.0, 0.5)


def test_scaling_what_is_delivered_scales_the_ratio_and_nothing_else() -> None:
    learner, batch = observed("dfa")
    once, thrice = measured(learner, batch), measured(learner, batch, scaled(batch.signals, 3.0))

    assert (once.unit, once.example, once.batch) == (thrice.unit, thrice.example, thrice.batch)
    assert thrice.angle_overall == pytest.approx(once.angle_overall)
    for a, b in zip(once.norm_ratio, thrice.norm_ratio, strict=True):
        assert b == pytest.approx([3 * value for value in a])


def test_angle_and_ratio_of_a_layer_are_those_of_its_weights_and_biases() -> None:
    learner, batch = observed("dfa", "conv:3/3/2+fc:4")
    found = measured(learner, batch)
    true = probes.true_signals(learner.network, learner.parameters, batch.forward_pass, batch.signals.deltas[-1])
    ours, theirs = learner.updates(batch), learner.network.updates(batch.forward_pass, true.deltas)
    for r in range(2):
        vectors = []
        for layer in range(2):
            a = np.concatenate([ours.weights[layer][r].numpy().ravel(), ours.biases[layer][r].numpy()])
            b = np.concatenate([theirs.weights[layer][r].numpy().ravel(), theirs.biases[layer][r].numpy()])
            vectors.append((a, b))
        vectors.append(tuple(np.concatenate(both) for both in zip(*vectors, strict=True)))
        angles = [*(layer[r] for layer in found.angle), found.angle_overall[r]]
        for (a, b), degrees in zip(vectors, angles, strict=True):
            cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            assert degrees == pytest.approx(math.degrees(math.acos(cosine)), rel=1e-9)
        for (a, b), ratio in zip(vectors, found.norm_ratio, strict=False):
            assert ratio[r] == pytest.approx(np.linalg.norm(a) / np.linalg.norm(b), rel=1e-12)


@pytest.mark.parametrize(
    ("activation", "inputs", "share"),
    [
        ("tanh", [0.0, 2.9, -2.9, 3.1, -3.1, 9.0, 1.0, -1.0], 3 / 8),  # 1 − tanh² = 0.01 at 2.993
        ("hard-tanh", [0.0, 0.99, -0.99, 1.0, -1.0, 5.0, 0.5, 0.1], 3 / 8),
        ("relu", [0.0, 1.0, -1e-9, -5.0, 3.0, 4.0, 5.0, 6.0], 2 / 8),
        ("leaky-relu", [1.0, 2.0, -1.0, 3.0, 4.0, 5.0, 6.0, 7.0], 1 / 8),
        ("sigmoid", [0.0, 5.9, -5.9, 6.1, -6.1, 9.0, 1.0, -1.0], 3 / 8),  # σ(1 − σ) = 0.0025 at 5.989
        ("identity", [0.0, 1e9, -1e9, 3.0, 4.0, 5.0, 6.0, 7.0], 0.0),
    ],
)
def test_saturation_by_hand(activation: str, inputs: list[float], share: float) -> None:
    network = network_of("fc:1", activation=activation, image=(1, 1, 1))
    method = METHODS["bp"]
    learner = Learner(
        network,
        method,
        OPTIMIZERS["sgd"],
        network.parameters_from([np.ones((2, 1, 1)), np.ones((2, 1, 1))], [np.zeros((2, 1)), np.zeros((2, 1))]),
        learning_rates=[0.1, 0.1],
    )
    seen = network.inputs_from(torch.tensor(inputs, dtype=torch.float64).reshape(1, -1, 1, 1, 1))
    batch = learner.observe(seen, torch.zeros(1, len(inputs), dtype=torch.int64))

    assert measured(learner, batch).saturation == ((share, share),)


def test_a_measurement_is_of_plain_numbers() -> None:
    learner, batch = observed("mdfa", precision="float32")
    found = measured(learner, batch)
    for level in probes.LEVELS:
        assert all(type(value) is float for value in getattr(found, level).overall)
    assert all(
        type(value) is float for layer in (*found.angle, *found.norm_ratio, *found.saturation) for value in layer
    )


# --------------------------------------------------------------------------------------------------------- in parts


@pytest.mark.parametrize("architecture", ["fc:40,36", "conv:40/3/1,36/2/2"])
def test_a_sample_is_the_measurement_of_the_units_it_names(architecture: str) -> None:
    network = network_of(architecture)
    learner = learner_of(network, "dfa")
    batch = learner.observe(*batch_of(network, 6))
    sample = probes.Sample(units=8, examples=6)
    chosen = [[unit * size // 8 for unit in range(8)] for size in (40, 36)]

    true = probes.true_signals(network, learner.parameters, batch.forward_pass, batch.signals.deltas[-1])
    found = learner.measure(batch, sample)

    for layer, units in enumerate(chosen):
        own, right = batch.signals.errors[layer][:, :, units], true.errors[layer][:, :, units]
        defined = (own != 0) & (right != 0)  # a stride may leave the last row of units without an error
        assert found.unit.layers[layer][0] == ((own > 0) == (right > 0))[defined].double().mean().item()
        x = batch.forward_pass.inputs[layer]
        full = [network.layers[layer].update(x, signals.deltas[layer])[0] for signals in (batch.signals, true)]
        bias = [signals.deltas[layer].flatten(3).sum((1, 3)) for signals in (batch.signals, true)] if (
            "conv" in architecture
        ) else [signals.deltas[layer].sum(1) for signals in (batch.signals, true)]  # fmt: skip
        pairs = zip(
            *([w[:, units].flatten(), b[:, units].flatten()] for w, b in zip(full, bias, strict=True)), strict=True
        )
        counts = [probes.sign_counts(a[None], b[None]) for a, b in pairs]
        agree, defined = (sum(int(getattr(c, name)) for c in counts) for name in ("agree", "defined"))
        assert found.batch.layers[layer][0] == pytest.approx(agree / defined)


def test_a_sample_as_large_as_the_net_is_everything() -> None:
    network = network_of("conv:4/3/1+fc:5")
    learner = learner_of(network, "mdfa")
    batch = learner.observe(*batch_of(network, 6))

    assert learner.measure(batch, probes.Sample(units=5, examples=6)) == learner.measure(batch)
