"""The compiled step against the package's `Learner`, and what deep networks learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mdfa_core import METHODS
from mdfa_core.base.errors import InvalidValue
from mdfa_core.learning.learner import Learner
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.nets.initializers import Normal, ScaledUniform
from mdfa_core.studies.branch_prediction import (
    METHODS_COMPILED,
    BranchTrace,
    DeepPredictor,
    Tage,
    example,
    step_time,
)
from tests.studies.branch_prediction.test_predictors import correlated, late_errors

TRACE = example("python")[:400]


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("method", METHODS_COMPILED)
def test_a_step_is_the_learners_step_of_batch_size_one(method: str, layers: int) -> None:
    history, codes = 5, 7
    predictor = DeepPredictor(method, layers, 6, history=history, pc_inputs=codes, learning_rate=0.1, seed=3)
    made = predictor.predictions(TRACE)

    network, rule = predictor.network, METHODS[method]
    parameters = rule.initial_parameters(network, ScaledUniform(), seed=3, convention="paper", floor=1e-6)
    fixed = rule.initial_feedback(network, Normal(1.0), seed=3, convention="paper")
    learner = Learner(network, rule, OPTIMIZERS["sgd"], parameters, fixed, learning_rates=[0.1], seeds=[3])
    past = [-1.0] * history
    for n, (pc, taken) in enumerate(TRACE):
        x = torch.tensor([[[*past, *(float(pc % codes == k) for k in range(codes))]]])
        forward = network.forward(learner.parameters, network.inputs_from(x))
        z = forward.logits_RNC.item()
        assert made[n] == (z > 0) or abs(z) < 1e-4
        learner.learn(learner.observe_forward(forward, torch.tensor([[int(taken)]])))
        past = [1.0 if taken else -1.0, *past[:-1]]
    weights = [w[0].numpy() for w in learner.parameters.weights]

    np.testing.assert_allclose(predictor.coded[0].T, weights[0][:, history:], atol=2e-4)
    np.testing.assert_allclose(predictor.dense[0], weights[0][:, :history], atol=2e-4)
    for layer in range(layers - 1):
        np.testing.assert_allclose(predictor.hidden[0, layer], weights[layer + 1], atol=2e-4)
    if layers:
        np.testing.assert_allclose(predictor.out[0], weights[-1][0], atol=2e-4)
        for layer in range(layers):
            np.testing.assert_allclose(
                predictor.biases[0, layer], learner.parameters.biases[layer][0].numpy(), atol=2e-4
            )
    assert predictor.out_bias[0] == pytest.approx(learner.parameters.biases[-1].item(), abs=2e-4)


@pytest.mark.parametrize("method", METHODS_COMPILED)
def test_xor_of_two_branches_needs_a_hidden_layer(method: str) -> None:
    trace = correlated(lambda a, b: a != b)

    assert late_errors(DeepPredictor(method, 0, history=2, pc_inputs=4, learning_rate=0.1), trace, of=3) > 0.2
    assert late_errors(DeepPredictor(method, 2, 16, history=2, pc_inputs=4, learning_rate=0.1), trace, of=3) < 0.02


def test_a_trace_in_two_parts_gives_the_same_predictions() -> None:
    for bits in (32, 8):
        parts, whole = (DeepPredictor(rows=3, weight_bits=bits, width=8) for _ in range(2))
        made = np.concatenate([parts.predictions(TRACE[:111]), parts.predictions(TRACE[111:])])
        assert (made == whole.predictions(TRACE)).all()


def test_a_table_of_networks_is_one_network_for_each_remainder() -> None:
    table = DeepPredictor("mdfa", 1, 4, history=3, pc_inputs=4, rows=2)
    table.predictions(TRACE)
    start = DeepPredictor("mdfa", 1, 4, history=3, pc_inputs=4).dense[0]
    only_even = DeepPredictor("mdfa", 1, 4, history=3, pc_inputs=4, rows=2)
    even = BranchTrace(TRACE.pcs & ~np.uint64(1), TRACE.taken)
    only_even.predictions(even)

    assert not np.array_equal(table.dense[0], table.dense[1])
    assert np.array_equal(only_even.dense[1], start)  # no branch of its own, nothing learned


def test_weights_of_few_bits_stay_on_their_grid_and_learn() -> None:
    trace = correlated(lambda a, b: a or b)
    for bits in (8, 5):
        predictor = DeepPredictor("mdfa", 1, 8, history=2, pc_inputs=4, learning_rate=0.1, weight_bits=bits)
        assert late_errors(predictor, trace, of=3) < 0.1
        for weights in (predictor.coded, predictor.dense, predictor.out):
            levels = weights / predictor.step
            assert np.array_equal(levels, np.round(levels))
            assert levels.min() >= -(2 ** (bits - 1))
            assert levels.max() < 2 ** (bits - 1)
        assert predictor.out.min() >= 0


def test_mono_networks_keep_their_sign() -> None:
    predictor = DeepPredictor("mdfa", 3, 8, learning_rate=0.3)
    predictor.predictions(TRACE)

    assert predictor.hidden.min() >= np.float32(1e-6)
    assert predictor.out.min() >= np.float32(1e-6)
    assert predictor.dense.min() < 0


def test_an_arbiter_sees_what_tage_predicts() -> None:
    trace = example("sqlite")
    alone = Tage()
    wrong = (alone.predictions(trace) != trace.taken).mean()
    beside = DeepPredictor("mdfa", 1, 8, history=4, pc_inputs=4, arbiter=Tage())
    without = DeepPredictor("mdfa", 1, 8, history=4, pc_inputs=4)

    assert (beside.predictions(trace) != trace.taken).mean() < wrong + 0.02
    assert (without.predictions(trace) != trace.taken).mean() > wrong + 0.05
    assert beside.bits > alone.bits


def test_sizes() -> None:
    deep = DeepPredictor("mdfa", 2, 3, history=4, pc_inputs=5)
    assert deep.bits == 32 * (9 * 3 + 3 + 3 * 3 + 3 + 3 + 1 + 3 + 3) + 4
    table = DeepPredictor("bp", 1, 3, history=4, pc_inputs=5, rows=7, weight_bits=8)
    assert table.bits == 7 * (8 * (9 * 3 + 3) + 32 * (3 + 1)) + 4


@pytest.mark.slow  # two loops to compile
def test_a_step_takes_time() -> None:
    small, large = (step_time(DeepPredictor("bp", layers, 32), steps=200, repeats=3) for layers in (1, 16))

    assert 0 < small.forward < large.forward
    assert 0 < small.update < large.update


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "drtp"}, "the rule drtp has no compiled step: give mdfa, dfa, bp or fa"),
        ({"layers": -1}, "layers is -1: give at least 0"),
        ({"width": 0}, "width is 0: give at least 1"),
        ({"history": 0}, "history is 0"),
        ({"rows": 0}, "rows is 0"),
        ({"learning_rate": float("nan")}, "the learning rate is nan: give a number of at least 0"),
        ({"weight_bits": 3}, "weight_bits is 3: give 4 to 16, or 32 for floats"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        DeepPredictor(**options)
