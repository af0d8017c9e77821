"""Every predictor against a slow, obvious reference or worked by hand, and on patterns whose outcome is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from mdfa_core.branches import (
    PREDICTORS,
    AlwaysTaken,
    Bimodal,
    BranchTrace,
    DeepPredictor,
    GShare,
    Perceptron,
    Predictor,
    TaggedGeometric,
    prequential,
)
from mdfa_core.errors import DataError, InvalidValue, UnknownName


def trace_of(outcomes: list[tuple[int, bool]]) -> BranchTrace:
    return BranchTrace(tuple(pc for pc, _ in outcomes), tuple(bool(taken) for _, taken in outcomes))


def predictions(predictor: Predictor, trace: BranchTrace) -> list[bool]:
    made = []
    for pc, taken in trace:
        made.append(predictor.predict(pc))
        predictor.update(pc, taken)
    return made


def late_errors(predictor: Predictor, trace: BranchTrace, of: int | None = None) -> float:
    """Share of mispredictions in a trace's second half, of one branch if `of` names it."""
    late = [
        made != taken
        for n, (made, (pc, taken)) in enumerate(zip(predictions(predictor, trace), trace, strict=True))
        if n >= len(trace) / 2 and of in (None, pc)
    ]
    return sum(late) / len(late)


def random_trace(seed: int, length: int = 600) -> BranchTrace:
    random = np.random.default_rng(seed)
    pcs = random.integers(0, 40, length)
    return trace_of([(int(pc), bool(random.random() < (0.9 if pc % 3 else 0.3))) for pc in pcs])


def pattern(*outcomes: bool, times: int = 400) -> BranchTrace:
    return trace_of([(5, taken) for _ in range(times) for taken in outcomes])


def correlated(function, length: int = 1500, seed: int = 0) -> BranchTrace:  # type: ignore[no-untyped-def]
    """Branches 1 and 2 are coins, branch 3 is a function of the two."""
    coins = np.random.default_rng(seed).integers(0, 2, (length, 2)).astype(bool)
    return trace_of([branch for a, b in coins for branch in ((1, a), (2, b), (3, function(a, b)))])


# ---------------------------------------------------------------------------------------------- references and by hand


def test_always_taken_is_wrong_where_a_branch_is_not_taken() -> None:
    outcome = prequential(AlwaysTaken(), trace_of([(1, True), (2, False), (1, False), (3, True), (1, True)]))

    assert (outcome.branches, outcome.wrong, outcome.rate) == (5, 2, 0.4)
    assert outcome.updates_per_second > 0


def test_every_branch_is_predicted_once_before_it_is_learned() -> None:
    class LastOutcome(Predictor):
        bits, calls, last = 1, "", False

        def predict(self, pc: int) -> bool:
            self.calls += f"p{pc} "
            return self.last

        def update(self, pc: int, taken: bool) -> None:
            self.calls += f"u{pc} "
            self.last = taken

    predictor = LastOutcome()

    assert prequential(predictor, trace_of([(4, True), (7, False), (4, False)])).wrong == 2
    assert predictor.calls == "p4 u4 p7 u7 p4 u4 "


def test_a_two_bit_counter_by_hand() -> None:
    # 2 → taken 3 → not 2 → not 1 → not 0 → not 0 → taken 1 → taken 2
    outcomes = [True, False, False, False, False, True, True, True]
    made = predictions(Bimodal(4), trace_of([(3, taken) for taken in outcomes]))

    assert made == [True, True, True, False, False, False, False, True]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("history", [0, 3, 5])
def test_gshare_and_bimodal_equal_a_dictionary_of_counters(seed: int, history: int) -> None:
    trace = random_trace(seed)
    counters: dict[int, int] = {}
    expected = []
    for n, (pc, taken) in enumerate(trace):
        key = pc % 32
        for age in range(history):  # the outcome of `age` branches ago flips one bit of the index
            if n - 1 - age >= 0 and trace.taken[n - 1 - age]:
                key ^= 1 << (5 - history + age)
        counter = counters.get(key, 2)
        expected.append(counter >= 2)
        counters[key] = min(3, counter + 1) if taken else max(0, counter - 1)

    assert predictions(GShare(5, history), trace) == expected
    if history == 0:
        assert predictions(Bimodal(5), trace) == expected


@pytest.mark.parametrize("seed", range(3))
def test_the_perceptron_equals_its_formula(seed: int) -> None:
    rows, history = 8, 6
    theta = math.floor(1.93 * history + 14)
    weights = np.zeros((rows, history + 1), int)
    past = np.full(history, -1)
    expected = []
    trace = random_trace(seed, 1500)
    for pc, taken in trace:
        x, t = np.concatenate([[1], past]), 1 if taken else -1
        y = int(weights[pc % rows] @ x)
        expected.append(y >= 0)
        if expected[-1] != taken or abs(y) <= theta:
            weights[pc % rows] = np.clip(weights[pc % rows] + t * x, -16, 15)  # θ = 25: 1 + 4 bits
        past = np.concatenate([[t], past[:-1]])
    predictor = Perceptron(rows, history)

    assert predictions(predictor, trace) == expected
    assert predictor.weights == weights.tolist()


def test_the_published_thresholds_and_sizes() -> None:
    assert [Perceptron(1, h).threshold for h in (12, 28, 62)] == [37, 68, 133]
    assert Perceptron(100, 12).bits == 100 * 13 * 6 + 12
    assert Bimodal(10).bits == 2048
    assert GShare(10, 8).bits == 2048 + 8
    assert TaggedGeometric(10, 7, 8, (4, 8)).bits == 2048 + 2 * 128 * 14 + 8
    assert AlwaysTaken().bits == 0
    deep = DeepPredictor("mdfa", "fc:3,2", history=4, pc_inputs=5)
    assert deep.bits == 32 * (9 * 3 + 3 + 3 * 2 + 2 + 2 + 1 + 3 + 2) + 4


def test_a_tagged_line_is_allocated_by_an_error_and_then_provides() -> None:
    predictor = TaggedGeometric(4, 3, 4, (2, 4))
    assert predictor.predict(6) is True  # bimodal, weakly taken
    predictor.update(6, False)
    in_use = [[entry for entry in table if entry.tag >= 0] for table in predictor.tables]

    assert [len(entries) for entries in in_use] == [1, 0]  # the shorter table, and only one
    assert (in_use[0][0].counter, in_use[0][0].useful) == (-1, 0)
    assert predictor.predict(6) is False  # same history again: now the line provides
    predictor.base.counters[6] = 3  # bimodal thinks otherwise …
    predictor.update(6, False)
    assert (in_use[0][0].counter, in_use[0][0].useful) == (-2, 1)  # … and is wrong: the line was useful
    assert predictor.base.counters[6] == 3  # the provider alone learns


def test_useful_lines_are_worn_down_before_they_are_replaced() -> None:
    predictor = TaggedGeometric(4, 1, 2, (2, 4))
    for table in predictor.tables:
        for entry in table:
            entry.tag, entry.useful = 99, 1  # never a hit
    predictor.update(0, False)

    assert sorted(entry.useful for table in predictor.tables for entry in table) == [0, 0, 1, 1]
    assert all(entry.tag == 99 for table in predictor.tables for entry in table)


# ------------------------------------------------------------------------------------------------------------ patterns


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_prediction_changes_nothing(name: str) -> None:
    trace = random_trace(0, 300)
    asked_often = PREDICTORS[name]()
    made = []
    for pc, taken in trace:
        for other in (pc + 1, pc, pc):
            asked_often.predict(other)
        made.append(asked_often.predict(pc))
        asked_often.update(pc, taken)

    assert made == predictions(PREDICTORS[name](), trace)


@pytest.mark.parametrize("name", [name for name in PREDICTORS if name != "always-taken"])
def test_a_branch_that_never_changes_is_learned(name: str) -> None:
    assert late_errors(PREDICTORS[name](), pattern(False)) == 0


@pytest.mark.parametrize("period", [3, 5, 8])
def test_a_loop_costs_bimodal_one_error_a_round_and_history_none(period: int) -> None:
    loop = pattern(*[True] * (period - 1), False)

    assert late_errors(Bimodal(), loop) == pytest.approx(1 / period)
    for predictor in (GShare(), Perceptron(), TaggedGeometric()):
        assert late_errors(predictor, loop) == 0


def test_alternating_outcomes_defeat_bimodal_only() -> None:
    assert late_errors(Bimodal(), pattern(True, False)) == 0.5
    for predictor in (GShare(), Perceptron(), TaggedGeometric(), DeepPredictor("mdfa", "fc:8", history=4)):
        assert late_errors(predictor, pattern(True, False)) == 0


@pytest.mark.parametrize("method", ["mdfa", "dfa", "bp"])
def test_xor_of_two_branches_needs_a_table_or_a_hidden_layer(method: str) -> None:
    trace = correlated(lambda a, b: a != b)
    net = {"history": 2, "pc_inputs": 4, "learning_rate": 0.1}

    assert late_errors(Bimodal(), trace, of=3) > 0.35
    # A linear function errs on one of the four cases at least.
    assert late_errors(Perceptron(16, 2), trace, of=3) > 0.2
    assert late_errors(DeepPredictor(method, "fc:", **net), trace, of=3) > 0.2  # type: ignore[arg-type]
    assert late_errors(GShare(8, 2), trace, of=3) == 0
    assert late_errors(DeepPredictor(method, "fc:16,16", **net), trace, of=3) < 0.02  # type: ignore[arg-type]


def test_the_perceptron_learns_what_is_linearly_separable() -> None:
    for function in (lambda a, b: a and b, lambda a, b: a or not b, lambda a, b: not a):
        assert late_errors(Perceptron(16, 2), correlated(function), of=3) == 0


# ----------------------------------------------------------------------------------------------------------- deep nets


def test_one_step_without_hidden_layers_is_logistic_regression() -> None:
    predictor = DeepPredictor("bp", "fc:", history=2, pc_code="bits", pc_inputs=3, learning_rate=0.5, seed=4)
    w, b = predictor.learner.parameters.weights[0][0, 0].double().numpy().copy(), 0.0
    past = [-1.0, -1.0]
    for pc, taken in random_trace(1, 50):
        x = np.array([*past, *(1.0 if pc // 2**bit % 2 else -1.0 for bit in range(3))])
        z = float(w @ x + b)
        assert predictor.predict(pc) == (z > 0)
        predictor.update(pc, taken)
        e = 1 / (1 + math.exp(-z)) - taken
        w, b = w - 0.5 * e * x, b - 0.5 * e
        past = [1.0 if taken else -1.0, past[0]]

    np.testing.assert_allclose(predictor.learner.parameters.weights[0][0, 0].numpy(), w, atol=1e-5)
    assert predictor.learner.parameters.biases[0].item() == pytest.approx(b, abs=1e-5)


@pytest.mark.parametrize("method", ["mdfa", "dfa", "fa", "bp"])
def test_an_update_is_the_learners_step_of_batch_size_one(method: str) -> None:
    import torch

    one, other = (DeepPredictor(method, "fc:6,5", history=3, pc_inputs=4, seed=2) for _ in range(2))
    past = [-1.0] * 3
    for pc, taken in random_trace(2, 30):
        one.predict(pc)
        one.update(pc, taken)
        code = [1.0 if pc % 4 == n else 0.0 for n in range(4)]
        other.learner.step(torch.tensor([[past + code]]), torch.tensor([[int(taken)]]))
        past = [1.0 if taken else -1.0, *past[:2]]

    for a, b in zip(one.learner.parameters.tensors(), other.learner.parameters.tensors(), strict=True):
        assert torch.equal(a, b)


def test_mono_nets_stay_mono_and_seeds_repeat() -> None:
    trace = random_trace(3, 400)
    nets = [DeepPredictor("mdfa", "fc:8,8", seed=seed, learning_rate=0.5) for seed in (0, 0, 1)]
    made = [predictions(net, trace) for net in nets]

    assert made[0] == made[1] != made[2]
    assert all(float(w.min()) > 0 for w in nets[0].learner.parameters.weights[1:])
    assert float(nets[0].learner.parameters.weights[0].min()) < 0


def test_an_update_without_its_prediction_asks_the_right_branch() -> None:
    one, other = DeepPredictor("mdfa", "fc:4"), DeepPredictor("mdfa", "fc:4")
    one.predict(9)
    for predictor in (one, other):
        predictor.update(3, True)

    for a, b in itertools.product([5, 3], [one, other]):
        assert b.predict(a) == one.predict(a)
    assert one.learner.parameters.weights[0].equal(other.learner.parameters.weights[0])


# ------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bimodal(0), "index_bits is 0: give 1 to 24"),
        (lambda: GShare(4, 5), "history is 5: give 0 to 4"),
        (lambda: Perceptron(0), "rows is 0"),
        (lambda: Perceptron(4, 0), "history is 0"),
        (lambda: TaggedGeometric(histories=(4, 4)), "each longer than the last"),
        (lambda: TaggedGeometric(histories=()), "at least one"),
        (lambda: DeepPredictor(history=0, pc_inputs=0), "1 in all"),
        (lambda: DeepPredictor(learning_rate=float("nan")), "the learning rate is nan: give a number of at least 0"),
        (lambda: DeepPredictor(learning_rate=-0.1), "the learning rate is -0.1: give"),
        (lambda: DeepPredictor(learning_rate=float("inf")), "the learning rate is inf: give"),
    ],
)
def test_sizes_out_of_range_are_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidValue, match=message):
        make()


def test_an_unknown_code_and_an_empty_trace_are_refused() -> None:
    with pytest.raises(UnknownName, match="unknown code of an address 'hash': choose one of bits, one-hot"):
        DeepPredictor(pc_code="hash")
    with pytest.raises(DataError, match="no conditional branch"):
        prequential(AlwaysTaken(), BranchTrace((), ()))
