"""The compiled step against the package's `Learner`, and what deep networks learn."""

from __future__ import annotations

import threading

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
from mdfa_core.training.online import OnlineLearner
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

    for ours, theirs in zip(predictor.learner.parameters.tensors(), learner.parameters.tensors(), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=2e-4)


def test_an_online_learner_makes_the_same_predictions() -> None:
    predictor, other = (DeepPredictor("mdfa", 2, 8, history=6, pc_inputs=16) for _ in range(2))
    online = OnlineLearner(other.learner)
    taken = np.concatenate([np.full(6, -1), np.where(TRACE.taken, 1, -1)])
    xs = np.stack([taken[n : n + 6][::-1] for n in range(len(TRACE))])
    made = online.run(xs, TRACE.taken, 6 + (TRACE.pcs % np.uint64(16))[:, None].astype(int))

    assert (predictor.predictions(TRACE) == made).all()


@pytest.mark.parametrize("method", METHODS_COMPILED)
def test_xor_of_two_branches_needs_a_hidden_layer(method: str) -> None:
    trace = correlated(lambda a, b: a != b)

    assert late_errors(DeepPredictor(method, 0, history=2, pc_inputs=4, learning_rate=0.1), trace, of=3) > 0.2
    assert late_errors(DeepPredictor(method, 2, 16, history=2, pc_inputs=4, learning_rate=0.1), trace, of=3) < 0.02


def test_a_trace_in_parts_gives_the_same_predictions() -> None:
    for bits in (32, 8):
        parts, whole = (DeepPredictor(rows=3, weight_bits=bits, width=8, paths=(2, 9), path_inputs=32) for _ in "pw")
        made = np.concatenate([parts.predictions(TRACE[a:b]) for a, b in ((0, 3), (3, 3), (3, 111), (111, 400))])
        assert (made == whole.predictions(TRACE)).all()


def test_a_path_separates_what_address_and_outcomes_do_not() -> None:
    """Branch 3 goes the way of the branch that came two branches before it, whatever their outcomes."""
    rng = np.random.default_rng(0)
    branches = []
    for first in rng.integers(0, 2, 1500):
        branches += [(10 + int(first), bool(rng.integers(2))), (2, True), (3, bool(first))]
    trace = BranchTrace([pc for pc, _ in branches], [taken for _, taken in branches])
    shape = {"history": 1, "pc_inputs": 4, "learning_rate": 0.1}

    assert late_errors(DeepPredictor("mdfa", 1, 8, **shape), trace, of=3) > 0.3
    assert late_errors(DeepPredictor("mdfa", 1, 8, paths=(2,), path_inputs=64, **shape), trace, of=3) < 0.02


def test_hashes_are_those_of_a_plain_sum() -> None:
    predictor = DeepPredictor(paths=(1, 3))
    odd = 0x9E3779B97F4A7C15
    executed = [0] * 3 + [2 * pc + taken for pc, taken in TRACE]
    for length, hashes in zip((1, 3), predictor._hashes(TRACE), strict=True):
        for n, (pc, _) in enumerate(TRACE):
            total = sum(odd**age * executed[3 + n - age] for age in range(1, length + 1)) % 2**64
            assert hashes[n] == ((total ^ pc) * odd) % 2**64 >> 32


def test_a_table_of_networks_is_one_network_for_each_remainder() -> None:
    table = DeepPredictor("mdfa", 1, 4, history=3, pc_inputs=4, rows=2)
    table.predictions(TRACE)
    start = DeepPredictor("mdfa", 1, 4, history=3, pc_inputs=4).steps.w[0]
    only_even = DeepPredictor("mdfa", 1, 4, history=3, pc_inputs=4, rows=2)
    even = BranchTrace(TRACE.pcs & ~np.uint64(1), TRACE.taken)
    only_even.predictions(even)

    assert not np.array_equal(table.steps.w[0], table.steps.w[1])
    assert np.array_equal(only_even.steps.w[1], start)  # no branch of its own, nothing learned


def test_weights_of_few_bits_stay_on_their_grid_and_learn() -> None:
    trace = correlated(lambda a, b: a or b)
    for bits in (8, 5):
        predictor = DeepPredictor("mdfa", 1, 8, history=2, pc_inputs=4, learning_rate=0.1, weight_bits=bits)
        assert late_errors(predictor, trace, of=3) < 0.1
        levels = predictor.steps.w * 2 ** (bits - 3)
        assert np.array_equal(levels, np.round(levels))
        assert levels.min() >= -(2 ** (bits - 1))
        assert levels.max() < 2 ** (bits - 1)
        assert predictor.learner.parameters.weights[-1].min() >= 0


def test_rounding_keeps_the_mean() -> None:
    code, drawn = pytest.importorskip("mdfa_core.compute.compiled"), np.zeros(1, np.uint32)
    for weight in (0.3, -1.99, 2.5):
        w = np.full(20_000, weight, np.float32)
        sizes, hot, floors = np.array([20_000, 1], np.uint64), np.zeros(0, np.int64), np.full(1, -np.inf, np.float32)
        code.round_weights(sizes, sizes[0], hot, w, floors, np.float32(1), np.float32(4), drawn)
        assert set(np.unique(w)) <= {np.floor(weight), np.ceil(weight)}
        assert w.mean() == pytest.approx(weight, abs=0.02)
        assert abs(np.corrcoef(w[1:], w[:-1])[0, 1]) < 0.03
    assert drawn[0] == 60_000


def test_mono_networks_keep_their_sign() -> None:
    predictor = DeepPredictor("mdfa", 3, 8, learning_rate=0.3)
    predictor.predictions(TRACE)

    first, *later = predictor.learner.parameters.weights
    assert min(float(w.min()) for w in later) >= np.float32(1e-6)
    assert first.min() < 0


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
    hashed = DeepPredictor("bp", 0, history=4, pc_inputs=5, paths=(3, 9), path_inputs=7)
    assert hashed.bits == 32 * (4 + 5 + 2 * 7 + 1) + 9


@pytest.mark.slow  # two loops to compile
def test_a_step_takes_time() -> None:
    small, large = (step_time(DeepPredictor("bp", layers, 32), steps=200, repeats=3) for layers in (1, 16))

    assert 0 < small.forward < large.forward
    assert 0 < small.update < large.update
    assert small.step > small.update
    two = step_time(DeepPredictor("bp", 2, 32), steps=20, repeats=2, threads=2)
    assert min(two.forward, two.update, two.step) > 0


@pytest.mark.slow  # loops to compile
@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.parametrize("method", METHODS_COMPILED)
def test_two_threads_make_the_updates_of_one(method: str, layers: int) -> None:
    loops = pytest.importorskip("mdfa_core.studies.branch_prediction.loops")
    for predict in (False, True):
        weights = []
        for threads in (1, 2):
            predictor = DeepPredictor(method, layers, 6, history=5, pc_inputs=7)
            net = (*loops.net_of(predictor)[:9], np.float32(0.1), *loops.net_of(predictor)[10:])
            start = predictor.steps.w.copy()
            loops.forwards(1, net)
            net[0][0] = -1
            if threads == 1:
                loops.updates(9, net, predict)
            else:
                lower, upper = loops.halves(net)
                flags = np.zeros(loops.FLAGS, np.int64)
                helper = threading.Thread(target=loops.serve, args=(net, upper, predict, flags), daemon=True)
                helper.start()
                loops.shared_updates(9, net, lower, predict, flags)
                loops.stop(flags)
                helper.join()
            weights.append(np.append(predictor.steps.w, predictor.steps.b))
        assert np.array_equal(*weights)
        assert np.abs(predictor.steps.w - start).max() > 0.001


def test_two_threads_need_a_layer_each() -> None:
    with pytest.raises(InvalidValue, match="give at least one hidden layer"):
        step_time(DeepPredictor("bp", 0), steps=1, repeats=1, threads=2)
    with pytest.raises(InvalidValue, match="3 threads were given: give 1 or 2"):
        step_time(DeepPredictor("bp", 1), threads=3)
    with pytest.raises(InvalidValue, match="0 steps and 100 repeats were given: give at least 1 of each"):
        step_time(DeepPredictor("bp", 1), steps=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "drtp"}, "the rule drtp has no compiled step: give mdfa, dfa, bp or fa"),
        ({"layers": -1}, "layers is -1: give at least 0"),
        ({"width": 0}, "width is 0: give at least 1"),
        ({"history": 0}, "history is 0"),
        ({"rows": 0}, "rows is 0"),
        ({"paths": (3, 0)}, "a path is 0: give at least 1"),
        ({"path_inputs": 0}, "path_inputs is 0: give at least 1"),
        ({"learning_rate": float("nan")}, "the learning rate is nan: give a number of at least 0"),
        ({"weight_bits": 3}, "weight_bits is 3: give 4 to 16, or 32 for floats"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        DeepPredictor(**options)
