"""The neighbouring rules against their published equations, their fixed points, and the limits in which they are BP."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mdfa_core import kernels, probes
from mdfa_core.activations import ACTIVATIONS
from mdfa_core.errors import UnknownName
from mdfa_core.experiment import Experiment
from mdfa_core.learner import Learner
from mdfa_core.methods import METHODS, MONO, Method, sign_guarantee
from mdfa_core.neighbours import ContrastiveHebbian, SignSymmetric, TargetPropagation
from mdfa_core.optimizers import OPTIMIZERS
from mdfa_core.training import Run
from mdfa_core.transports import Moment
from tests.references import batch_of, learner_of, network_of, one_thread, reference_of, relative  # noqa: F401

PAPER = ("bp", "fa", "dfa", "mdfa")
NEIGHBOURS = [name for name in METHODS if name not in PAPER]
NETS = ["fc:5", "fc:5,4,3", "conv:3/3/2,2/2/1", "conv:3/3/2+fc:4"]
LEARNED = [name for name in METHODS if METHODS[name].transport.learns_feedback]
DRAWN = ["brsf", "dtp"]  # what draws something at every step


def assert_same_updates(ours: Learner, theirs: Learner, batch: tuple[Tensor, Tensor], within: float) -> None:
    made, wanted = (learner.updates(learner.observe(*batch)).tensors() for learner in (ours, theirs))
    for a, b in zip(made, wanted, strict=True):
        assert relative(a, b) < within


def backprop(of: Learner) -> Learner:
    """BP with the same weights."""
    rates = of.descent.rates
    return Learner(of.network, METHODS["bp"], OPTIMIZERS["sgd"], of.parameters.clone(), learning_rates=rates)


def with_transport(transport: SignSymmetric | TargetPropagation | ContrastiveHebbian) -> Method:
    return Method(title="T", description="", transport=transport)


# ------------------------------------------------------------------------------------------------------- sign-symmetry


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("architecture", NETS)
def test_with_the_sizes_of_the_weights_sign_symmetry_is_bp(architecture: str, outputs: int) -> None:
    network = network_of(architecture, outputs=outputs)
    learner = learner_of(network, "frsf")
    for b, w in zip(learner.feedback, learner.parameters.weights[1:], strict=True):
        b.copy_(-w)  # only its size counts
    assert_same_updates(learner, backprop(learner), batch_of(network, 6), 1e-13)


@pytest.mark.parametrize("method", ["usf", "brsf", "frsf"])
@pytest.mark.parametrize("architecture", NETS)
def test_sign_symmetry_is_feedback_alignment_through_sign_w_times_m(method: str, architecture: str) -> None:
    network = network_of(architecture, outputs=2)
    learner = learner_of(network, method)
    inputs, labels = batch_of(network, 4)
    batch = learner.observe(inputs, labels)
    sizes = {
        "usf": [torch.ones_like(w) for w in learner.parameters.weights[1:]],
        "frsf": [b.abs() for b in learner.feedback],
        "brsf": [
            Moment(labels).drawn(torch.rand, "feedback magnitudes", n, w)
            for n, w in enumerate(learner.parameters.weights[1:])
        ],
    }[method]
    reference = reference_of(learner, "fa", "tanh")
    reference.feedback = [
        (torch.where(w > 0, m, -m))[0].numpy() for w, m in zip(learner.parameters.weights[1:], sizes, strict=True)
    ]
    reference.forward(inputs[0].numpy())
    errors, deltas = reference.signals(labels[0].tolist())

    for ours, theirs in zip((*batch.signals.errors, *batch.signals.deltas), (*errors, *deltas), strict=True):
        assert relative(ours[0], torch.from_numpy(theirs)) < 1e-13


def test_batch_random_sizes_are_new_at_every_step_and_in_every_replica() -> None:
    network = network_of("fc:5,4")
    learner = learner_of(network, "brsf", rates=(0.0, 0.0))
    learner.seeds = (3, 4)
    rule = METHODS["brsf"].transport
    assert isinstance(rule, SignSymmetric)
    seen = []
    for _ in range(2):
        moment = Moment(torch.zeros(1, 1), learner.descent.step, learner.seeds)
        matrices = rule.matrices(learner.parameters, (), moment)
        assert all(
            torch.equal(m.sign(), w.sign()) for m, w in zip(matrices, learner.parameters.weights[1:], strict=True)
        )
        assert all(m.abs().min() > 0 and m.abs().max() < 1 for m in matrices)
        assert all(map(torch.equal, matrices, rule.matrices(learner.parameters, (), moment)))
        seen.append(matrices[0])
        learner.step(*batch_of(network, 4))
    sizes = [m[r].abs() for m in seen for r in range(2)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(sizes, 2))


def test_a_weight_of_zero_carries_nothing() -> None:
    network = network_of("fc:3", image=(1, 1, 2))
    learner = learner_of(network, "usf")
    learner.parameters.weights[1].copy_(torch.tensor([[[0.0, -2.0, 0.1]]]))
    batch = learner.observe(*batch_of(network, 1))
    e = batch.signals.deltas[-1].item()
    assert batch.signals.errors[0].flatten().tolist() == pytest.approx([0.0, -e, e])


def test_unknown_magnitudes_are_refused() -> None:
    with pytest.raises(UnknownName, match="unknown kind of magnitudes 'huge': choose one of batch, fixed, uniform"):
        SignSymmetric("huge")


# -------------------------------------------------------------------------------------------------------------- direct


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("architecture", NETS)
@pytest.mark.parametrize("method", ["sdfa", "drtp"])
def test_direct_rules_send_the_published_vector(method: str, architecture: str, outputs: int) -> None:
    network = network_of(architecture, outputs=outputs)
    learner = learner_of(network, method)
    inputs, labels = batch_of(network, 5)
    batch = learner.observe(inputs, labels)

    p = torch.sigmoid(batch.trace.logits_RNC) if outputs == 1 else torch.softmax(batch.trace.logits_RNC, 2)
    y = torch.zeros_like(p)
    for n, label in enumerate(labels[0].tolist()):
        if outputs == 1:
            y[0, n, 0] = label
        else:
            y[0, n, label] = 1
    sent = torch.sign(p - y) if method == "sdfa" else -y
    for epsilon, b in zip(batch.signals.errors, learner.feedback, strict=True):
        expected = torch.einsum("rnc,rcu->rnu", sent / 5, b.flatten(2))
        assert relative(epsilon.flatten(2), expected) < 1e-14
    assert relative(batch.signals.deltas[-1], (p - y) / 5) < 1e-14  # the output layer learns by its error


def test_with_one_output_sdfa_is_told_the_label_and_drtp_nothing_of_class_0() -> None:
    network = network_of("fc:5,4")
    labels = torch.tensor([[0, 1, 1, 0, 1]])
    for seed in (0, 1):  # whatever the weights are
        signed, targets = (learner_of(network, name, seed=seed) for name in ("sdfa", "drtp"))
        inputs, _ = batch_of(network, 5)
        for number in range(2):
            coded = (1 - 2 * labels).double().unsqueeze(2) / 5 * signed.feedback[number]
            assert relative(signed.observe(inputs, labels).signals.errors[number], coded) < 1e-14
            delivered = targets.observe(inputs, labels).signals.errors[number]
            assert not delivered[labels == 0].any()
            assert delivered[labels == 1].all()


# -------------------------------------------------------------------------------------------------------- Kolen-Pollack


@pytest.mark.parametrize("architecture", NETS)
@pytest.mark.parametrize("penalty", [0.0, 2.0])
def test_kolen_pollack_feedback_approaches_the_weights_by_the_published_factor(
    penalty: float, architecture: str
) -> None:
    network = network_of(architecture, outputs=3)
    learner = learner_of(network, "kp", rates=(0.1, 0.05), l2=(penalty, penalty))
    pairs = list(zip(learner.parameters.weights[1:], learner.feedback, strict=True))
    start = [w - b for w, b in pairs]
    for step in range(20):
        learner.step(*batch_of(network, 6, seed=step))
    for r, rate in enumerate((0.1, 0.05)):
        for (w, b), difference in zip(pairs, start, strict=True):
            assert relative((w - b)[r], (1 - rate * penalty) ** 20 * difference[r]) < 1e-12


def test_kolen_pollack_becomes_bp() -> None:
    network = network_of("fc:6,5", outputs=2)
    learner = learner_of(network, "kp", rates=(0.1,), l2=(0.5,))
    angles = []
    for step in range(400):
        batch = learner.observe(*batch_of(network, 8, seed=step))
        if step in (0, 399):
            found = probes.measure(network, learner.parameters, batch.trace, batch.signals)
            angles.append(found.angle_overall[0])
        learner.learn(batch)
    assert angles[0] > 10
    assert angles[1] < 1e-3


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_once_equal_kolen_pollack_stays_bp(optimizer: str) -> None:
    network = network_of("conv:3/3/2+fc:4", outputs=3)
    learner = learner_of(network, "kp", optimizer=optimizer, rates=(0.01,), l2=(0.1,))
    for b, w in zip(learner.feedback, learner.parameters.weights[1:], strict=True):
        b.copy_(w)
    twin = learner_of(network, "bp", optimizer=optimizer, rates=(0.01,), l2=(0.1,))
    for step in range(5):
        for each in (learner, twin):
            each.step(*batch_of(network, 6, seed=step))
    for ours, theirs in zip(learner.parameters.tensors(), twin.parameters.tensors(), strict=True):
        assert relative(ours, theirs) < 1e-12
    for b, w in zip(learner.feedback, learner.parameters.weights[1:], strict=True):
        assert relative(b, w) < 1e-12


# ----------------------------------------------------------------------------------------------------target propagation


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("architecture", ["fc:", "fc:5", "conv:3/3/2"])
def test_with_one_hidden_layer_target_propagation_is_bp(architecture: str, outputs: int) -> None:
    learner = learner_of(network_of(architecture, outputs=outputs), "dtp")
    assert_same_updates(learner, backprop(learner), batch_of(learner.network, 6), 1e-13)


def square_net(*, orthogonal: bool) -> Learner:
    """A linear net of square layers whose inverses are exact."""
    network = network_of("fc:6,6,6", activation="identity", outputs=3)
    learner = learner_of(network, "dtp")
    for number, v in enumerate(learner.feedback):
        w = learner.parameters.weights[number + 1]
        if orthogonal:
            w.copy_(torch.linalg.qr(w[0])[0])
        v.copy_(torch.linalg.inv(w[0]).mT)  # h V = h W⁻ᵀ undoes h Wᵀ
    return learner


def test_with_orthogonal_weights_and_exact_inverses_target_propagation_is_bp() -> None:
    learner = square_net(orthogonal=True)
    assert_same_updates(learner, backprop(learner), batch_of(learner.network, 6), 1e-11)


def test_with_exact_inverses_a_target_below_reaches_the_target_above() -> None:
    """The Gauss-Newton direction: h − ε below moves what is above by exactly −ε there, whatever W is."""
    learner = square_net(orthogonal=False)
    batch = learner.observe(*batch_of(learner.network, 6))
    true = probes.true_signals(learner.network, learner.parameters, batch.trace, batch.signals.deltas[-1])
    for below in (0, 1):
        w = learner.parameters.weights[below + 1]
        assert relative(batch.signals.errors[below] @ w.mT, batch.signals.errors[below + 1]) < 1e-11
        assert relative(batch.signals.errors[below], true.errors[below]) > 0.1
    assert relative(batch.signals.errors[2], true.errors[2]) < 1e-13


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
@pytest.mark.parametrize("architecture", ["fc:5,4,3", "conv:3/3/1,2/2/2", "conv:3/3/2+fc:4"])
def test_the_inverses_follow_the_gradient_of_their_reconstruction(architecture: str, activation: str) -> None:
    network = network_of(architecture, activation=activation)
    learner = learner_of(network, "dtp")
    inputs, labels = batch_of(network, 4)
    batch = learner.observe(inputs, labels)
    updates = batch.signals.feedback
    assert len(updates) == len(network.hidden) - 1
    for number, update in enumerate(updates):
        v = learner.feedback[number].clone().requires_grad_()
        h = batch.trace.inputs[number + 1].reshape(1, 4, *network.hidden[number].output_shape)
        noisy = h + 0.1 * Moment(labels).drawn(torch.randn, "noise of targets", number, h)
        layer, f = network.layers[number + 1], network.activation.function
        up = f(
            layer.activations(
                noisy.reshape(1, 4, *layer.input_shape),
                learner.parameters.weights[number + 1],
                learner.parameters.biases[number + 1],
                None,
            )
        )
        if len(layer.weight_shape) == 4:
            back = torch.nn.functional.conv_transpose2d(
                up[0],
                v[0],
                stride=layer.stride,
                output_padding=[
                    size - ((out - 1) * layer.stride + layer.kernel)
                    for size, out in zip(layer.input_shape[1:], layer.output_shape[1:], strict=True)
                ],
            )
        else:
            back = (up[0] @ v[0]).reshape(4, *network.hidden[number].output_shape)
        loss = (f(back) - noisy[0]).square().sum() / 2 / 4
        (expected,) = torch.autograd.grad(loss, v)
        assert relative(update, expected) < 1e-12


def test_the_inverses_get_better() -> None:
    network = network_of("fc:8,8", activation="tanh")
    learner = learner_of(network, "dtp", rates=(0.1,), scale=0.3)
    missed = []
    for step in range(300):
        batch = learner.observe(*batch_of(network, 8, seed=step % 5))
        h, up = batch.trace.inputs[1], batch.trace.inputs[2]
        missed.append((torch.tanh(up @ learner.feedback[0]) - h).square().mean().item())
        learner.learn(batch)
    assert np.mean(missed[-5:]) < 0.3 * np.mean(missed[:5])


# ----------------------------------------------------------------------------------------- contrastive Hebbian learning


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("architecture", ["fc:", *NETS])
def test_contrastive_hebbian_learning_is_bp_in_the_limit_of_weak_feedback(architecture: str, outputs: int) -> None:
    network = network_of(architecture, outputs=outputs)
    distances = []
    for gamma in (1e-2, 1e-3):
        learner = learner_of(network, with_transport(ContrastiveHebbian(gamma=gamma)), scale=0.3)
        batch = batch_of(network, 5)
        ours, theirs = (each.updates(each.observe(*batch)).tensors() for each in (learner, backprop(learner)))
        distances.append(max(relative(a, b) for a, b in zip(ours, theirs, strict=True)))
    if architecture == "fc:":
        assert max(distances) < 1e-13
        return
    coarse, fine = distances
    assert fine < 1e-2
    assert 8 < coarse / fine < 12.5  # the difference is of the order of γ


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("gamma", [0.02, 0.1])
def test_contrastive_hebbian_updates_are_the_difference_of_two_phases(gamma: float, outputs: int) -> None:
    network = network_of("fc:5,4", outputs=outputs)
    learner = learner_of(network, with_transport(ContrastiveHebbian(gamma=gamma, sweeps=60)), scale=0.4)
    inputs, labels = batch_of(network, 3)
    ours = learner.updates(learner.observe(inputs, labels))

    (w1, w2, w3), (b1, b2, b3) = (
        [tensor[0].numpy() for tensor in tensors] for tensors in (learner.parameters.weights, learner.parameters.biases)
    )
    expected = [np.zeros_like(w) for w in (w1, w2, w3)]
    biases = [np.zeros_like(b) for b in (b1, b2, b3)]
    for x, label in zip(inputs[0].numpy(), labels[0].tolist(), strict=True):
        phases = []
        for held in (False, True):
            h1, h2, y = np.zeros(5), np.zeros(4), np.zeros(outputs)
            for _ in range(500):
                z = w3 @ h2 + b3
                y = 1 / (1 + np.exp(-z)) if outputs == 1 else np.exp(z) / np.exp(z).sum()
                if held:
                    y = np.array([label]) if outputs == 1 else np.eye(outputs)[label]
                h1, h2 = np.tanh(w1 @ x + b1 + gamma * w2.T @ h2), np.tanh(w2 @ h1 + b2 + gamma * w3.T @ y)
            phases.append([x, h1, h2, y])
        free, clamped = phases
        for k in (1, 2, 3):
            factor = gamma ** (k - 3) / 3
            expected[k - 1] -= factor * (np.outer(clamped[k], clamped[k - 1]) - np.outer(free[k], free[k - 1]))
            biases[k - 1] -= factor * (clamped[k] - free[k])

    for made, wanted in zip((*ours.weights, *ours.biases), (*expected, *biases), strict=True):
        assert relative(made[0], torch.from_numpy(wanted)) < 1e-9


@pytest.mark.parametrize("architecture", ["fc:5,4", "conv:3/3/2,2/2/1"])
def test_single_example_updates_of_two_phases_are_counted_as_they_are(architecture: str) -> None:
    network = network_of(architecture, outputs=3)
    learner = learner_of(network, with_transport(ContrastiveHebbian(gamma=0.3)), scale=0.5)
    inputs, labels = batch_of(network, 5)
    batch = learner.observe(inputs, labels)
    found = probes.measure(network, learner.parameters, batch.trace, batch.signals)

    agree, defined = 0, 0
    for n in range(5):
        one = (inputs[:, n : n + 1], labels[:, n : n + 1])
        ours, theirs = (each.updates(each.observe(*one)) for each in (learner, backprop(learner)))
        for number in range(len(network.hidden)):
            for a, b in ((ours.weights, theirs.weights), (ours.biases, theirs.biases)):
                counts = probes.sign_counts(a[number], b[number])
                agree, defined = agree + int(counts.agree), defined + int(counts.defined)
    assert found.example.overall[0] == pytest.approx(agree / defined)
    assert found.example.overall[0] < 1


# --------------------------------------------------------------------------------------------- what all have in common


def test_which_rules_are_held_to_what() -> None:
    assert all(METHODS[name].constraint.first_layer is None for name in NEIGHBOURS)
    assert not any(METHODS[name].constraint.feedback for name in NEIGHBOURS)
    assert LEARNED == ["kp", "dtp"]


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("method", NEIGHBOURS)
def test_no_neighbour_is_promised_signs_and_each_says_why(method: str, outputs: int) -> None:
    told = sign_guarantee(METHODS[method], ACTIVATIONS["tanh"], outputs)
    assert not told.holds
    assert told.reason.startswith(f"{METHODS[method].title} ")
    assert told.reason.endswith(".")


@pytest.mark.parametrize("activation", ["tanh", "hard-tanh"])
@pytest.mark.parametrize("architecture", ["fc:6,5,4", "conv:3/3/2+fc:4"])
@pytest.mark.parametrize("method", [name for name in NEIGHBOURS if METHODS[name].transport.keeps_signs])
def test_in_a_mono_net_those_that_keep_signs_keep_them(method: str, architecture: str, activation: str) -> None:
    held = dataclasses.replace(METHODS[method], title=f"mono {method}", constraint=MONO)
    network = network_of(architecture, activation=activation)
    learner = learner_of(network, held, rates=(0.3,), l2=(0.01,))
    assert sign_guarantee(held, network.activation, 1).holds
    for step in range(10):
        batch = learner.observe(*batch_of(network, 6, seed=step))
        found = probes.measure(network, learner.parameters, batch.trace, batch.signals)
        assert found.unit.overall == (1.0,)
        learner.learn(batch)
    assert all((b >= 0).all() for b in learner.feedback)


@pytest.mark.parametrize("method", [name for name in NEIGHBOURS if not METHODS[name].transport.keeps_signs])
def test_the_others_are_not_promised_them_in_a_mono_net_either(method: str) -> None:
    held = dataclasses.replace(METHODS[method], constraint=MONO)
    assert not sign_guarantee(held, ACTIVATIONS["tanh"], 1).holds


@pytest.mark.parametrize("method", ["usf", "brsf", "frsf"])
def test_sign_symmetry_is_sure_of_the_layer_below_one_output_and_of_no_other(method: str) -> None:
    network = network_of("fc:20,20")
    learner = learner_of(network, method)
    batch = learner.observe(*batch_of(network, 20))
    found = probes.measure(network, learner.parameters, batch.trace, batch.signals)
    assert found.unit.layers[1] == (1.0,)
    assert found.unit.layers[0][0] < 1


@pytest.mark.parametrize("architecture", ["fc:32,16,32", "conv:16/3/2,16/2/1", "conv:16/3/2+fc:32"])
@pytest.mark.parametrize("method", ["kp", "dtp", "brsf", "chl"])
def test_a_replica_alone_equals_itself_in_the_stack_feedback_and_chance_included(
    method: str, architecture: str
) -> None:
    network = network_of(architecture, outputs=3, precision="float32")
    rates, l2, seeds = (0.1, 0.003, 0.02), (0.0, 0.01, 0.1), (5, 6, 7)
    made = learner_of(network, method, optimizer="adam", rates=rates, l2=l2, scale=0.3)
    stack = Learner(
        network,
        made.method,
        OPTIMIZERS["adam"],
        made.parameters,
        made.feedback,
        learning_rates=rates,
        l2=l2,
        seeds=seeds,
    )
    singles = [
        Learner(
            network,
            made.method,
            OPTIMIZERS["adam"],
            stack.parameters.replica(r).clone(),
            [kernels.stack([b[r]]) for b in stack.feedback],
            learning_rates=rates[r : r + 1],
            l2=l2[r : r + 1],
            seeds=seeds[r : r + 1],
        )
        for r in range(3)
    ]
    for step in range(4):
        inputs, labels = batch_of(network, 32, replicas=3, seed=step)
        stack.step(inputs, labels)
        for r, single in enumerate(singles):
            single.step(inputs[r : r + 1], labels[r : r + 1])
    for r, single in enumerate(singles):
        for own, tensor in zip(
            (*single.parameters.tensors(), *single.feedback),
            (*stack.parameters.tensors(), *stack.feedback),
            strict=True,
        ):
            assert torch.equal(own[0], tensor[r])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rprop"])
@pytest.mark.parametrize("method", [*LEARNED, "brsf"])
def test_a_run_that_is_saved_goes_on_bit_for_bit(method: str, optimizer: str, tmp_path: Path) -> None:
    experiments = [
        Experiment(method=method, network="fc:8,6", optimizer=optimizer, epochs=2, batch_size=32, seed=s, l2=0.01)
        for s in (0, 1)
    ]
    whole, first = Run(experiments, device="cpu"), Run(experiments, device="cpu")
    list(whole.events())
    list(first.events(steps=5))
    first.save(tmp_path / "run.pt")
    resumed = Run.load(tmp_path / "run.pt", device="cpu")
    list(resumed.events())

    def state(run: Run) -> list[Tensor]:
        slots = [slot for slots in run.learner.descent.slots for slot in slots]
        return [*run.learner.parameters.tensors(), *run.learner.feedback, *slots]

    assert all(map(torch.equal, state(whole), state(resumed)))
    start = Run(experiments, device="cpu").learner.feedback
    assert method not in LEARNED or not any(map(torch.equal, start, whole.learner.feedback))


def test_a_run_goes_from_rule_to_rule_and_back_with_what_the_optimizer_remembers() -> None:
    run = Run(Experiment(method="bp", network="fc:8,6", optimizer="adam", epochs=9, batch_size=32), device="cpu")
    learned = len(run.learner.parameters.tensors())
    for method in (*METHODS, "kp", "bp"):
        list(run.events(steps=1))
        kept = [[slot.clone() for slot in slots] for slots in run.learner.descent.slots[:learned]]
        run.set_method(method)
        assert all(map(torch.equal, itertools.chain(*kept), itertools.chain(*run.learner.descent.slots[:learned])))
        rule = METHODS[method].transport
        extra = len(run.learner.feedback) if rule.learns_feedback else 0
        assert len(run.learner.descent.slots) == learned + extra
        assert run.learner.descent.step == run.step
    list(run.events(steps=1))
    assert all(tensor.isfinite().all() for tensor in run.learner.parameters.tensors())


@pytest.mark.parametrize("method", DRAWN)
def test_what_is_drawn_depends_on_seed_and_step_and_not_on_the_precision(method: str) -> None:
    like = torch.empty(2, 3, 4)
    draw = torch.rand if method == "brsf" else torch.randn

    def drawn(step: int, seeds: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        return Moment(torch.zeros(1, 1), step, seeds).drawn(draw, method, 0, like.to(dtype))

    assert torch.equal(drawn(1, (3, 4))[1], drawn(1, (4,))[0])
    assert torch.equal(drawn(1, (3,)).double(), drawn(1, (3,), torch.float64))
    assert not torch.equal(drawn(1, (3,)), drawn(2, (3,)))
