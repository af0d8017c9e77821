"""Compiled steps equal the engine's: any dense network, the paper's methods, mini-batches and single examples."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from mdfa_core import Every, Run
from mdfa_core.base.errors import GeometryError, InvalidValue
from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.learning.compiled import ACTIVATION_NAMES, CompiledSteps
from mdfa_core.learning.learner import Learner, Sums
from mdfa_core.training.experiment import Experiment
from mdfa_core.training.online import OnlineLearner
from tests.support.references import batch_of, learner_of, network_of, relative

METHODS = ("bp", "fa", "dfa", "mdfa")
WIDTHS = st.lists(st.integers(1, 21), max_size=3).map(lambda widths: "fc:" + ",".join(map(str, widths)))


def _learner(architecture: str, activation: str, outputs: int, method: str, *, replicas: int, l2: float) -> Learner:
    network = network_of(architecture, activation=activation, outputs=outputs, image=(1, 3, 3), precision="float32")
    return learner_of(network, method, rates=(0.1,) * replicas, l2=(l2,) * replicas)


def _assert_equal(ours: Learner, theirs: Learner) -> None:
    for a, b in zip(ours.parameters.tensors(), theirs.parameters.tensors(), strict=True):
        assert a.shape == b.shape
        assert relative(a, b) < 1e-5


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    architecture=WIDTHS,
    activation=st.sampled_from(ACTIVATION_NAMES),
    outputs=st.integers(1, 6),
    method=st.sampled_from(METHODS),
    examples=st.integers(1, 9),
    replicas=st.integers(1, 2),
    l2=st.sampled_from([0.0, 0.1]),
)
def test_compiled_steps_equal_the_engine(
    architecture: str, activation: str, outputs: int, method: str, examples: int, replicas: int, l2: float
) -> None:
    ours, theirs = (_learner(architecture, activation, outputs, method, replicas=replicas, l2=l2) for _ in range(2))
    steps = CompiledSteps(ours)
    _assert_equal(ours, theirs)
    sums, expected = (Sums.zeros(replicas, torch.device("cpu")) for _ in range(2))
    for seed in range(3):
        inputs, labels = batch_of(ours.network, examples, replicas=replicas, seed=seed)
        steps.step(inputs, labels, sums)
        expected.add_(theirs.score(theirs.step(inputs, labels), labels), examples)
    _assert_equal(ours, theirs)
    assert ours.optimizer_state.step == 3
    assert relative(sums.loss, expected.loss) < 1e-5
    assert torch.equal(sums.correct, expected.correct)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_a_stream_is_predicted_and_learnt_example_by_example(method: str, outputs: int) -> None:
    ours, theirs = (_learner("fc:7,6", "tanh", outputs, method, replicas=1, l2=0.0) for _ in range(2))
    online = OnlineLearner(ours)
    inputs, labels = batch_of(ours.network, 20)
    inputs[0, :, 5:] = 0
    hot = np.random.default_rng(0).integers(5, 9, (20, 1))
    inputs[0, np.arange(20), hot[:, 0]] = 1
    expected = []
    for t in range(20):
        batch = theirs.step(inputs[:, t : t + 1], labels[:, t : t + 1])
        z = batch.forward_pass.logits_RNC[0, 0]
        expected.append(int(z > 0) if outputs == 1 else int(z.argmax()))
    xs, ys = inputs[0, :, :5].numpy(), labels[0].numpy()
    first = online.predict(xs[0], hot[0])
    online.learn(xs[0], int(ys[0]), hot[0])
    assert [first, *online.run(xs[1:], ys[1:], hot[1:])] == expected
    _assert_equal(ours, theirs)
    assert ours.optimizer_state.step == 20


def test_a_change_of_the_weights_counts_at_once() -> None:
    online = OnlineLearner(_learner("fc:4", "tanh", 1, "mdfa", replicas=1, l2=0.0))
    online.learner.parameters.weights[1].fill_(0.0)
    for bias, expected in ((-1.0, 0), (1.0, 1)):
        online.learner.parameters.biases[1].fill_(bias)
        assert online.predict(np.ones(9)) == expected


def test_a_run_by_the_compiled_engine_is_that_of_pytorch_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    experiment = Experiment(network="fc:8", epochs=2, method="dfa", engine="compiled")
    whole, parts, theirs = Run(experiment), Run(experiment), Run(experiment.replace(engine="torch"))
    for run in (whole, theirs):
        _ = list(run.events(probe=Every(epochs=1)))
    assert whole.result is not None
    for ours, other in zip(whole.learner.parameters.tensors(), theirs.learner.parameters.tensors(), strict=True):
        assert relative(ours, other) < 1e-5
    _ = list(parts.events(steps=whole.steps_per_epoch + 3))
    parts.save(tmp_path / "run.pt")
    later = Run.load(tmp_path / "run.pt")
    _ = list(later.events())
    assert later.result == whole.result
    for a, b in zip(later.learner.parameters.tensors(), whole.learner.parameters.tensors(), strict=True):
        assert torch.equal(a, b)


def test_a_run_keeps_the_compiled_engine_when_the_rule_changes() -> None:
    run = Run(Experiment(network="fc:8", epochs=1, method="bp", engine="compiled"))
    _ = list(run.events(steps=2))
    run.set_method("mdfa")
    with pytest.raises(InvalidValue, match="no KP"):
        run.set_method("kp")
    assert run.learner.method.title == "mDFA"
    before = run.learner.parameters.clone()
    _ = list(run.events(steps=1))
    assert not torch.equal(before.weights[0], run.learner.parameters.weights[0])
    assert bool((run.learner.parameters.weights[1] >= run.learner.floor).all())


def test_numbers_that_are_not_finite_stay() -> None:
    learner = _learner("fc:4", "tanh", 1, "mdfa", replicas=1, l2=0.0)
    sums = Sums.zeros(1, torch.device("cpu"))
    inputs, labels = batch_of(learner.network, 4)
    CompiledSteps(learner).step(torch.full_like(inputs, torch.nan), labels, sums)
    assert torch.isnan(sums.loss).all()
    assert torch.isnan(learner.parameters.weights[1]).all()
    assert sums.correct.item() == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "kp"}, "no KP: use one of bp, fa, dfa, mdfa"),
        ({"optimizer": "adam"}, "no Adam: use sgd"),
        ({"activation": "softplus"}, "no softplus: use one of tanh, hard-tanh, relu"),
        *(({"precision": name}, "they compute in float32 only") for name in PRECISIONS if name != "float32"),
    ],
)
def test_what_cannot_be_compiled_is_refused(settings: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidValue, match=words):
        OnlineLearner(Experiment(network="fc:4", **settings), inputs=3)  # type: ignore[arg-type]


def test_arrays_of_other_shapes_are_refused() -> None:
    online = OnlineLearner(Experiment(network="fc:4"), inputs=3)
    with pytest.raises(GeometryError, match=r"the shape \(1, 4\): give 1 examples of at most 3 numbers"):
        online.run(np.zeros((1, 4)), [0])
    with pytest.raises(GeometryError, match="outside 2 to 2"):
        online.run(np.zeros((1, 2)), [0], [[3]])
    with pytest.raises(InvalidValue, match="a label is outside 0 to 1"):
        online.run(np.zeros((1, 2)), [2])
    with pytest.raises(InvalidValue, match="inputs is None"):
        OnlineLearner(Experiment(network="fc:4"))
