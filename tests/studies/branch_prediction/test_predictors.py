"""Every predictor against a slow, obvious reference, and on patterns with known outcomes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mdfa_core.base.errors import DataError, InvalidValue
from mdfa_core.studies.branch_prediction import (
    PREDICTORS,
    AlwaysTaken,
    Bimodal,
    BranchTrace,
    Geometric,
    GShare,
    Perceptron,
    Predictor,
    Tage,
    example,
    prequential,
)

TRACE = example("python")[:3000]


def trace_of(outcomes: list[tuple[int, bool]]) -> BranchTrace:
    return BranchTrace([pc for pc, _ in outcomes], [bool(taken) for _, taken in outcomes])


def late_errors(predictor: Predictor, trace: BranchTrace, of: int | None = None) -> float:
    """Share of mispredictions in a trace's second half, of one branch if `of` names it."""
    wrong = predictor.predictions(trace) != trace.taken
    late = np.arange(len(trace)) >= len(trace) / 2
    return float(wrong[late & (trace.pcs == of if of is not None else True)].mean())


def pattern(*outcomes: bool, times: int = 400) -> BranchTrace:
    return trace_of([(5, taken) for _ in range(times) for taken in outcomes])


def correlated(function, length: int = 1500, seed: int = 0) -> BranchTrace:  # type: ignore[no-untyped-def]
    """Branches 1 and 2 are coins, branch 3 is a function of the two."""
    coins = np.random.default_rng(seed).integers(0, 2, (length, 2)).astype(bool)
    return trace_of([branch for a, b in coins for branch in ((1, a), (2, b), (3, function(a, b)))])


# ----------------------------------------------------------------------------------------------------------- references


def folded(past: list[int], length: int, width: int) -> int:
    """The last `length` outcomes, latest in the lowest bit, as XOR of chunks of `width` bits."""
    value = sum(bit << age for age, bit in enumerate(reversed(past[-length:]))) if length else 0
    result = 0
    while value:
        result ^= value % 2**width
        value >>= width
    return result


@pytest.mark.parametrize("history", [0, 3, 5])
def test_gshare_and_bimodal_equal_a_dictionary_of_counters(history: int) -> None:
    counters: dict[int, int] = {}
    expected = []
    for n, (pc, taken) in enumerate(TRACE):
        key = pc % 32
        for age in range(history):  # the outcome of `age` branches ago flips one bit of the index
            if n - 1 - age >= 0 and TRACE.taken[n - 1 - age]:
                key ^= 1 << (5 - history + age)
        counter = counters.get(key, 2)
        expected.append(counter >= 2)
        counters[key] = min(3, counter + 1) if taken else max(0, counter - 1)

    assert GShare(5, history).predictions(TRACE).tolist() == expected
    if history == 0:
        assert Bimodal(5).predictions(TRACE).tolist() == expected


def test_the_perceptron_equals_its_formula() -> None:
    rows, history = 8, 6
    theta = math.floor(1.93 * history + 14)
    weights = np.zeros((rows, history + 1), int)
    past = np.full(history, -1)
    expected = []
    for pc, taken in TRACE:
        x, t = np.concatenate([[1], past]), 1 if taken else -1
        y = int(weights[pc % rows] @ x)
        expected.append(y >= 0)
        if expected[-1] != taken or abs(y) <= theta:
            weights[pc % rows] = np.clip(weights[pc % rows] + t * x, -16, 15)  # θ = 25: 1 + 4 bits
        past = np.concatenate([[t], past[:-1]])
    predictor = Perceptron(rows, history)

    assert predictor.predictions(TRACE).tolist() == expected
    assert predictor.weights.tolist() == weights.tolist()


@pytest.mark.parametrize("weight_bits", [4, 8])
def test_sums_of_weights_equal_their_formula(weight_bits: int) -> None:
    lengths, bits = (0, 2, 5, 11), 6
    tables: list[dict[int, int]] = [{} for _ in lengths]
    past: list[int] = []
    theta, balance, expected = len(lengths), 0, []
    for pc, taken in TRACE:
        keys = [(pc ^ pc >> (bits - i) ^ folded(past, length, bits)) % 2**bits for i, length in enumerate(lengths)]
        total = sum(2 * table.get(key, 0) + 1 for table, key in zip(tables, keys, strict=True))
        expected.append(total >= 0)
        wrong = expected[-1] != taken
        if wrong or abs(total) <= theta:
            for table, key in zip(tables, keys, strict=True):
                moved = table.get(key, 0) + (1 if taken else -1)
                table[key] = max(-(2 ** (weight_bits - 1)), min(2 ** (weight_bits - 1) - 1, moved))
            balance += 1 if wrong else -1
            if abs(balance) == 64:
                theta, balance = max(theta + balance // 64, 0), 0
        past.append(int(taken))
    predictor = Geometric(bits, weight_bits, lengths)

    assert predictor.predictions(TRACE).tolist() == expected
    assert predictor.state[1] == theta


class SlowTage:
    """TAGE with dictionaries and the whole history, after the paper's text."""

    def __init__(self, base_bits: int, index_bits: int, tag_bits: tuple[int, ...], lengths: tuple[int, ...]) -> None:
        self.base_bits, self.index_bits, self.tag_bits, self.lengths = base_bits, index_bits, tag_bits, lengths
        self.base: dict[int, int] = {}
        self.tables: list[dict[int, dict[str, int]]] = [{} for _ in lengths]
        self.past: list[int] = []
        self.path: list[int] = []
        self.use_alt, self.random, self.branches = 0, 1, 0

    def step(self, pc: int, taken: bool) -> bool:
        found, hits = [], []
        for i, (length, tag_bits, table) in enumerate(zip(self.lengths, self.tag_bits, self.tables, strict=True)):
            path = sum(bit << age for age, bit in enumerate(reversed(self.path[-min(length, 16) :])))
            path ^= path >> self.index_bits
            key = pc ^ pc >> (abs(self.index_bits - i) + 1) ^ folded(self.past, length, self.index_bits) ^ path
            tag = pc ^ folded(self.past, length, tag_bits) ^ 2 * folded(self.past, length, tag_bits - 1)
            found.append((key % 2**self.index_bits, tag % 2**tag_bits))
            entry = table.get(found[-1][0])
            if entry is not None and entry["tag"] == found[-1][1]:
                hits.append((i, entry))
        place = pc % 2**self.base_bits
        choices = [self.base.get(place, 2) >= 2, *(entry["counter"] >= 0 for _, entry in hits)]
        prediction, allocate = choices[-1], True
        if hits:
            entry, alternative, own = hits[-1][1], choices[-2], choices[-1]
            new = entry["useful"] == 0 and entry["counter"] in (-1, 0)
            if new and self.use_alt >= 0:
                prediction = alternative
            if new:
                allocate = own != taken
                if own != alternative:
                    self.use_alt = max(-8, min(7, self.use_alt + (1 if alternative == taken else -1)))
            if own != alternative:
                entry["useful"] = max(0, min(3, entry["useful"] + (1 if own == taken else -1)))
            entry["counter"] = max(-4, min(3, entry["counter"] + (1 if taken else -1)))
        else:
            self.base[place] = max(0, min(3, self.base.get(place, 2) + (1 if taken else -1)))
        if prediction != taken and allocate:
            self.allocate(hits[-1][0] + 1 if hits else 0, found, taken)
        self.past.append(int(taken))
        self.path.append(pc % 2)
        return prediction

    def allocate(self, first: int, found: list[tuple[int, int]], taken: bool) -> None:
        longer = range(first, len(self.tables))
        free = [i for i in longer if self.tables[i].get(found[i][0], {"useful": 0})["useful"] == 0]
        for i in longer if not free else ():
            self.tables[i][found[i][0]]["useful"] -= 1
        for i in free:
            self.random = self.random * 48271 % (2**31 - 1)
            if self.random & 64 or i == free[-1]:
                self.tables[i][found[i][0]] = {"tag": found[i][1], "counter": 0 if taken else -1, "useful": 0}
                return


def test_tage_equals_a_slow_reference() -> None:
    shape = (5, 4, (5, 6, 7, 8), (3, 7, 19, 40))
    slow, fast = SlowTage(*shape), Tage(*shape)
    expected = [slow.step(pc, taken) for pc, taken in TRACE]

    assert fast.predictions(TRACE).tolist() == expected
    assert (np.sign(fast.confidence) > 0).tolist() == expected
    assert slow.use_alt == fast.state[2]
    assert any(entry["useful"] for table in slow.tables for entry in table.values())


def test_useful_counters_lose_a_bit_from_time_to_time() -> None:
    predictor = Tage(4, 3, (4, 5), (2, 4))
    for period, kept in ((1, 1), (2, 0)):
        predictor.useful[:] = 3 if period == 1 else 1
        predictor.tags[:] = -1  # no hit
        predictor.state[4] = period * (1 << 18) - 1
        predictor.predictions(trace_of([(0, True)]))
        assert (predictor.useful == kept).all()


def test_sizes() -> None:
    assert Perceptron(100, 12).bits == 100 * 13 * 6 + 12
    assert [Perceptron(1, h).threshold for h in (12, 28, 62)] == [37, 68, 133]
    assert Bimodal(10).bits == 2048
    assert GShare(10, 8).bits == 2048 + 8
    assert Geometric(10, 4, (0, 3, 7)).bits == 3 * 1024 * 4 + 7 + 16
    assert Tage(10, 7, (8, 9), (4, 8)).bits == 2048 + 128 * (13 + 14) + 8 + 16 + 4 + 32 + 18
    for name, make in PREDICTORS.items():
        if "-" in name and name != "always-taken":
            assert 0.8 < make().bits / (8192 * int(name.rsplit("-", 1)[1])) < 1.001, name


# ------------------------------------------------------------------------------------------------------------- patterns


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_trace_in_two_parts_gives_the_same_predictions(name: str) -> None:
    parts = PREDICTORS[name]()
    made = np.concatenate([parts.predictions(TRACE[:1111]), parts.predictions(TRACE[1111:])])

    assert (made == PREDICTORS[name]().predictions(TRACE)).all()


@pytest.mark.parametrize("name", [name for name in PREDICTORS if name.endswith("32")])
def test_what_can_be_learned_is_learned_and_coins_are_not(name: str) -> None:
    coins = np.random.default_rng(1).random(6000) < 0.5

    assert late_errors(PREDICTORS[name](), pattern(False)) == 0
    assert late_errors(PREDICTORS[name](), trace_of([(9, taken) for taken in coins])) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("period", [2, 5, 8])
def test_a_loop_costs_bimodal_one_error_a_round_and_history_none(period: int) -> None:
    loop = pattern(*[True] * (period - 1), False)

    assert late_errors(Bimodal(), loop) == pytest.approx(1 / period)
    for name in ("gshare-32", "perceptron-32", "hashed-perceptron-32", "o-gehl-32", "tage-32"):
        assert late_errors(PREDICTORS[name](), loop) == 0, name


def test_a_loop_longer_than_other_histories_is_learned_by_tage() -> None:
    loop = pattern(*[True] * 99, False, times=200)

    assert late_errors(Tage(), loop) == 0
    assert late_errors(GShare(18, 14), loop) > 0.005


def test_xor_of_two_branches_needs_a_table() -> None:
    trace = correlated(lambda a, b: a != b)

    assert late_errors(Bimodal(), trace, of=3) > 0.35
    assert late_errors(Perceptron(16, 2), trace, of=3) > 0.2  # a linear function errs on one of the four cases at least
    assert late_errors(GShare(8, 2), trace, of=3) == 0
    assert late_errors(Tage(), trace, of=3) < 0.02


def test_the_perceptron_learns_what_is_linearly_separable() -> None:
    for function in (lambda a, b: a and b, lambda a, b: a or not b, lambda a, b: not a):
        assert late_errors(Perceptron(16, 2), correlated(function), of=3) == 0


def test_longer_histories_pay_on_a_real_trace() -> None:
    trace = example("sqlite")
    rates = [prequential(PREDICTORS[name](), trace).per_thousand for name in ("bimodal-64", "gshare-64", "tage-64")]

    assert rates == sorted(rates, reverse=True)


# ---------------------------------------------------------------------------------------------------- scores and errors


def test_scores_count_what_was_wrong() -> None:
    score = prequential(AlwaysTaken(), trace_of([(1, True), (2, False), (1, False), (3, True), (1, True)]))

    assert (score.wrong.tolist(), score.per_thousand) == ([False, True, True, False, False], 400)
    assert score.curve(2).tolist() == pytest.approx([2000 / 3, 0])
    assert len(score.curve(99)) == 5
    with pytest.raises(DataError, match="no conditional branch"):
        prequential(AlwaysTaken(), BranchTrace((), ()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bimodal(0), "index_bits is 0: give 1 to 24"),
        (lambda: GShare(4, 5), "history is 5: give 0 to 4"),
        (lambda: Perceptron(0), "rows is 0"),
        (lambda: Geometric(4, 1), "weight_bits is 1: give 2 to 16"),
        (lambda: Geometric(4, 4, (3, 3)), r"the histories \(3, 3\) were given: give at least one, each longer"),
        (lambda: Tage(histories=()), r"the histories \(\) were given"),
        (lambda: Tage(tag_bits=(8,), histories=(4, 9)), "1 tags and 2 histories were given: give one for each table"),
        (lambda: Tage(tag_bits=(8,), histories=(5000,)), "a history is 5000: give 1 to 4095"),
    ],
)
def test_sizes_out_of_range_are_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidValue, match=message):
        make()
