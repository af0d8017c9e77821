"""Published branch predictors, each with its update as published unless its docstring says otherwise.

All of them learn from a whole trace in one compiled loop, branch by branch. Indices and tags come from the address and
from a global history, the outcomes of all earlier branches. A long history is *folded*: written as a number with the
latest outcome as its lowest bit, cut into chunks of the wanted width, and these combined by XOR.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.registry import Registry
from mdfa_core.studies.branch_prediction.jit import compiled
from mdfa_core.studies.branch_prediction.traces import BranchTrace

_RING = 4096  # outcomes that a predictor remembers, a power of two


class Predictor(ABC):
    """A branch predictor: predicts every branch of a trace and then learns its outcome."""

    @property
    @abstractmethod
    def bits(self) -> int:
        """Size of its state, tables and history, in bits."""

    @abstractmethod
    def predictions(self, trace: BranchTrace) -> np.ndarray:
        """Predict and then learn every branch of a trace in order. The predictor keeps what it learned.

        Returns:
            Whether each branch was predicted as taken, before its outcome was learned; bool, shape (branches,).
        """


class AlwaysTaken(Predictor):
    """Predicts that every branch is taken (Smith 1981, strategy 1)."""

    bits = 0

    def predictions(self, trace: BranchTrace) -> np.ndarray:
        return np.ones(len(trace), np.bool_)


class GShare(Predictor):
    """Two-bit counters indexed by the address XOR the last h outcomes of all branches (McFarling 1993, section 7).

    A counter c ∈ 0 … 3 predicts taken if c ≥ 2. It moves by one towards every outcome and starts at 2, weakly taken.
    The latest outcome is the lowest bit of the history. A history shorter than the index is aligned with the highest
    bits of the address.

    Raises:
        InvalidValue: `index_bits` is not in 1 … 24, or `history` not in 0 … index_bits.
    """

    def __init__(self, index_bits: int = 18, history: int = 14) -> None:
        self.index_bits = _checked("index_bits", index_bits, 1, 24)
        self.history_length = _checked("history", history, 0, index_bits)
        self.counters = np.full(1 << index_bits, 2, np.int8)
        self.history = 0

    @property
    def bits(self) -> int:
        return (2 << self.index_bits) + self.history_length

    def predictions(self, trace: BranchTrace) -> np.ndarray:
        made = np.empty(len(trace), np.bool_)
        self.history = int(
            _gshare(
                _signed(trace), trace.taken, made, self.counters, self.index_bits, self.history_length, self.history
            )
        )
        return made


class Bimodal(GShare):
    """2ᵏ two-bit saturating counters, indexed by the low k bits of the address (Smith 1981, strategy 7).

    Raises:
        InvalidValue: `index_bits` is not in 1 … 24.
    """

    def __init__(self, index_bits: int = 18) -> None:
        super().__init__(index_bits, 0)


class Perceptron(Predictor):
    """A table of perceptrons over the last h outcomes, indexed by the address (Jiménez & Lin 2001).

    The output is y = w₀ + Σᵢ wᵢ xᵢ with xᵢ = ±1, and the prediction is taken if y ≥ 0. If the prediction was wrong or
    |y| ≤ θ, the update is wᵢ ← wᵢ + t xᵢ with outcome t = ±1, saturating. θ = ⌊1.93 h + 14⌋, and a weight is a two's
    complement number of 1 + ⌊log₂ θ⌋ bits (section 4.3).

    Raises:
        InvalidValue: `rows` or `history` is below 1.
    """

    def __init__(self, rows: int = 1248, history: int = 59) -> None:
        self.rows = _checked("rows", rows, 1, 1 << 24)
        self.threshold = math.floor(1.93 * _checked("history", history, 1, 4096) + 14)
        self.weight_bits = 1 + int(math.log2(self.threshold))
        self.weights = np.zeros((rows, history + 1), np.int32)
        self.inputs = np.array([1] + [-1] * history, np.int32)  # the bias, then the latest outcome first

    @property
    def bits(self) -> int:
        return self.rows * len(self.inputs) * self.weight_bits + len(self.inputs) - 1

    def predictions(self, trace: BranchTrace) -> np.ndarray:
        made = np.empty(len(trace), np.bool_)
        rows = (trace.pcs % np.uint64(self.rows)).astype(np.int64)
        highest = (1 << (self.weight_bits - 1)) - 1
        _perceptron(rows, trace.taken, made, self.weights, self.inputs, self.threshold, highest)
        return made


class Geometric(Predictor):
    """Tables of small weights, each indexed by the address and a history of its own length; their sum predicts.

    With 4-bit weights this is O-GEHL (Seznec 2005), and with 8-bit weights a hashed perceptron (Tarjan & Skadron 2005)
    with O-GEHL's threshold. A weight w counts as 2 w + 1, and the prediction is taken if the sum is at least 0. If the
    prediction was wrong or |sum| ≤ θ, every selected weight moves by one towards the outcome. θ rises by one after 64
    more mispredictions than correct predictions below θ, and falls after 64 fewer. O-GEHL's adaptive choice of history
    lengths is left out.

    Args:
        index_bits: log₂ of the weights of a table.
        weight_bits: bits of a weight, two's complement.
        histories: lengths, ascending; the first may be 0.

    Raises:
        InvalidValue: a number is out of range.
    """

    def __init__(
        self, index_bits: int = 14, weight_bits: int = 4, histories: Sequence[int] = (0, 3, 5, 9, 16, 32, 64, 128)
    ) -> None:
        self.index_bits = _checked("index_bits", index_bits, 1, 24)
        self.weight_bits = _checked("weight_bits", weight_bits, 2, 16)
        self.lengths = _lengths(histories, 0)
        tables = len(histories)
        self.weights = np.zeros((tables, 1 << index_bits), np.int32)
        self.folded = np.zeros(tables, np.int64)
        self.ring = np.zeros(_RING, np.int8)
        self.state = np.array([0, tables, 0], np.int64)  # position in the ring, θ, its counter

    @property
    def bits(self) -> int:
        return self.weights.size * self.weight_bits + int(self.lengths[-1]) + 16  # 16: θ and its counter

    def predictions(self, trace: BranchTrace) -> np.ndarray:
        made = np.empty(len(trace), np.bool_)
        highest = (1 << (self.weight_bits - 1)) - 1
        _geometric(
            _signed(trace),
            trace.taken,
            made,
            self.weights,
            self.lengths,
            self.index_bits,
            highest,
            self.folded,
            self.ring,
            self.state,
        )
        return made


class Tage(Predictor):
    """TAGE: a bimodal table and tagged tables with geometric history lengths (Seznec & Michaud 2006).

    - The *provider* is the matching table with the longest history, or the bimodal table. The *alternative* is the
      matching table with the next shorter history, or the bimodal table.
    - A provider with a weak counter and no useful bit may be new. `use_alt`, a 4-bit counter, then decides whether the
      alternative predicts.
    - The provider's 3-bit counter learns the outcome. Its 2-bit useful counter moves if provider and alternative
      disagree: up if the provider was right.
    - After a misprediction, one entry is allocated in a longer table whose entry there is not useful. Each such table
      but the last is passed over with probability ½. If there is none, all longer tables' useful counters fall by one.
    - Every 2¹⁸ branches, all useful counters lose their higher or their lower bit, alternately.
    - Indices and tags combine the address, the folded history, and a path history of 16 lowest address bits.

    Args:
        base_bits: log₂ of the counters of the bimodal table.
        index_bits: log₂ of the entries of a tagged table.
        tag_bits: bits of the tags of every tagged table.
        histories: lengths, ascending.

    Raises:
        InvalidValue: a number is out of range, or the tables have different numbers of tags and histories.
    """

    def __init__(
        self,
        base_bits: int = 15,
        index_bits: int = 11,
        tag_bits: Sequence[int] = (8, 8, 9, 10, 10, 11, 11, 12, 12, 13, 14, 15),
        histories: Sequence[int] = (4, 6, 10, 16, 25, 40, 64, 101, 160, 254, 403, 640),
    ) -> None:
        self.base_bits = _checked("base_bits", base_bits, 1, 24)
        self.index_bits = _checked("index_bits", index_bits, 1, 24)
        self.lengths = _lengths(histories, 1)
        if len(tag_bits) != len(histories):
            raise InvalidValue(
                f"{len(tag_bits)} tags and {len(histories)} histories were given: give one for each table"
            )
        self.tag_bits = np.array([_checked("tag_bits", bits, 2, 24) for bits in tag_bits], np.int64)
        shape = (len(histories), 1 << index_bits)
        self.base = np.full(1 << base_bits, 2, np.int8)
        self.counters, self.useful = np.zeros(shape, np.int8), np.zeros(shape, np.int8)
        self.tags = np.full(shape, -1, np.int32)
        self.folded = np.zeros((3, len(histories)), np.int64)
        self.ring = np.zeros(_RING, np.int8)
        self.state = np.array([0, 0, 0, 1, 0], np.int64)  # position, path, use_alt, random number, branches
        self.confidence = np.zeros(0, np.int8)

    @property
    def bits(self) -> int:
        tagged = sum(int(bits) + 3 + 2 for bits in self.tag_bits) << self.index_bits
        return (2 << self.base_bits) + tagged + int(self.lengths[-1]) + 16 + 4 + 32 + 18

    def predictions(self, trace: BranchTrace) -> np.ndarray:
        """As in `Predictor`; `confidence` then has the counter behind each prediction, −7 … 7, positive for taken."""
        made, self.confidence = np.empty(len(trace), np.bool_), np.empty(len(trace), np.int8)
        _tage(
            _signed(trace),
            trace.taken,
            made,
            self.confidence,
            self.base,
            self.counters,
            self.tags,
            self.useful,
            self.lengths,
            self.tag_bits,
            self.index_bits,
            self.folded,
            self.ring,
            self.state,
        )
        return made


@compiled
def _gshare(pcs, taken, made, counters, index_bits, length, history):  # type: ignore[no-untyped-def]
    mask, kept = (1 << index_bits) - 1, (1 << length) - 1
    for n in range(len(pcs)):
        index = (pcs[n] & mask) ^ (history << (index_bits - length))
        counter = counters[index]
        made[n] = counter >= 2
        if taken[n]:
            counters[index] = min(counter + 1, 3)
            history = (history << 1 | 1) & kept
        else:
            counters[index] = max(counter - 1, 0)
            history = history << 1 & kept
    return history


@compiled
def _perceptron(rows, taken, made, weights, inputs, threshold, highest):  # type: ignore[no-untyped-def]
    size = len(inputs)
    for n in range(len(rows)):
        w = weights[rows[n]]
        y = 0
        for i in range(size):
            y += w[i] * inputs[i]
        made[n] = y >= 0
        t = 1 if taken[n] else -1
        if (y >= 0) != taken[n] or abs(y) <= threshold:
            for i in range(size):
                w[i] = min(highest, max(-highest - 1, w[i] + t * inputs[i]))
        for i in range(size - 1, 1, -1):
            inputs[i] = inputs[i - 1]
        inputs[1] = t


@compiled
def _rotated(folded, newest, oldest, length, width):  # type: ignore[no-untyped-def]
    """A folded history after one more outcome; `oldest` is the outcome that leaves it."""
    folded = folded << 1 | newest
    folded ^= oldest << (length % width)
    folded ^= folded >> width
    return folded & ((1 << width) - 1)


@compiled
def _geometric(pcs, taken, made, weights, lengths, index_bits, highest, folded, ring, state):  # type: ignore[no-untyped-def]
    tables, mask = len(lengths), (1 << index_bits) - 1
    indices = np.zeros(tables, np.int64)
    for n in range(len(pcs)):
        pc = pcs[n]
        total = 0
        for i in range(tables):
            indices[i] = (pc ^ (pc >> (index_bits - i)) ^ folded[i]) & mask
            total += 2 * weights[i, indices[i]] + 1
        made[n] = total >= 0
        wrong = (total >= 0) != taken[n]
        unsure = abs(total) <= state[1]
        if wrong or unsure:
            for i in range(tables):
                w = weights[i, indices[i]]
                weights[i, indices[i]] = min(w + 1, highest) if taken[n] else max(w - 1, -highest - 1)
            state[2] += 1 if wrong else -1
            if state[2] >= 64:
                state[1] += 1
                state[2] = 0
            elif state[2] <= -64:
                state[1] = max(state[1] - 1, 0)
                state[2] = 0
        newest = 1 if taken[n] else 0
        position = state[0]
        for i in range(tables):
            if lengths[i] > 0:
                oldest = ring[(position - lengths[i]) & (len(ring) - 1)]
                folded[i] = _rotated(folded[i], newest, oldest, lengths[i], index_bits)
        ring[position] = newest
        state[0] = (position + 1) & (len(ring) - 1)


@compiled
def _random(state):  # type: ignore[no-untyped-def]
    """The next of Park and Miller's random numbers (1988), kept in state[3]."""
    state[3] = state[3] * 48271 % 2147483647
    return state[3]


@compiled
def _tage(  # type: ignore[no-untyped-def]
    pcs, taken, made, confidence, base, counters, tags, useful, lengths, tag_bits, index_bits, folded, ring, state
):
    tables, mask = len(lengths), (1 << index_bits) - 1
    indices, wanted = np.zeros(tables, np.int64), np.zeros(tables, np.int64)
    for n in range(len(pcs)):
        pc = pcs[n]
        outcome = 1 if taken[n] else 0
        hit = other = -1
        for i in range(tables):
            path = state[1] & ((1 << min(lengths[i], 16)) - 1)
            path ^= path >> index_bits
            indices[i] = (pc ^ (pc >> (abs(index_bits - i) + 1)) ^ folded[0, i] ^ path) & mask
            wanted[i] = (pc ^ folded[1, i] ^ (folded[2, i] << 1)) & ((1 << tag_bits[i]) - 1)
            if tags[i, indices[i]] == wanted[i]:
                other, hit = hit, i
        place = pc & (len(base) - 1)
        alternative = 1 if base[place] >= 2 else 0
        sure = 2 * base[place] - 3
        sure *= 2
        if other >= 0:
            alternative = 1 if counters[other, indices[other]] >= 0 else 0
            sure = 2 * counters[other, indices[other]] + 1
        prediction, own, new = alternative, alternative, False
        if hit >= 0:
            counter = counters[hit, indices[hit]]
            own = 1 if counter >= 0 else 0
            new = useful[hit, indices[hit]] == 0 and -1 <= counter <= 0
            if not (new and state[2] >= 0):
                prediction = own
                sure = 2 * counter + 1
        made[n] = prediction == 1
        confidence[n] = sure

        allocate = prediction != outcome and hit < tables - 1
        if hit >= 0:
            if new:
                if own == outcome:
                    allocate = False
                if own != alternative:
                    state[2] = min(state[2] + 1, 7) if alternative == outcome else max(state[2] - 1, -8)
            if own != alternative:
                u = useful[hit, indices[hit]]
                useful[hit, indices[hit]] = min(u + 1, 3) if own == outcome else max(u - 1, 0)
            counter = counters[hit, indices[hit]]
            counters[hit, indices[hit]] = min(counter + 1, 3) if outcome == 1 else max(counter - 1, -4)
        else:
            counter = base[place]
            base[place] = min(counter + 1, 3) if outcome == 1 else max(counter - 1, 0)
        if allocate:
            chosen = -1
            for i in range(hit + 1, tables):
                if useful[i, indices[i]] == 0:
                    chosen = i
                    if _random(state) & 64:  # a middle bit: the lowest ones are less random
                        break
            if chosen >= 0:
                tags[chosen, indices[chosen]] = wanted[chosen]
                counters[chosen, indices[chosen]] = 0 if outcome == 1 else -1
            else:
                for i in range(hit + 1, tables):
                    useful[i, indices[i]] -= 1
        state[4] += 1
        if state[4] % (1 << 18) == 0:
            keep = 1 if (state[4] >> 18) % 2 == 1 else 2
            for i in range(tables):
                for k in range(mask + 1):
                    useful[i, k] &= keep

        position = state[0]
        for i in range(tables):
            oldest = ring[(position - lengths[i]) & (len(ring) - 1)]
            folded[0, i] = _rotated(folded[0, i], outcome, oldest, lengths[i], index_bits)
            folded[1, i] = _rotated(folded[1, i], outcome, oldest, lengths[i], tag_bits[i])
            folded[2, i] = _rotated(folded[2, i], outcome, oldest, lengths[i], tag_bits[i] - 1)
        ring[position] = outcome
        state[0] = (position + 1) & (len(ring) - 1)
        state[1] = (state[1] << 1 | (pc & 1)) & 65535


def _signed(trace: BranchTrace) -> np.ndarray:
    """The addresses as signed numbers of 64 bits, which Numba combines with other integers without a float."""
    return trace.pcs.view(np.int64)


def _lengths(histories: Sequence[int], lowest: int) -> np.ndarray:
    if not histories or any(b <= a for a, b in zip((lowest - 1, *histories), histories, strict=False)):
        raise InvalidValue(f"the histories {tuple(histories)} were given: give at least one, each longer than the last")
    return np.array([_checked("a history", length, lowest, _RING - 1) for length in histories], np.int64)


def _checked(name: str, value: int, lowest: int, highest: int) -> int:
    if not lowest <= value <= highest:
        raise InvalidValue(f"{name} is {value}: give {lowest} to {highest}")
    return value


_SHORTER = (4, 6, 9, 14, 21, 32, 48, 72, 108, 163, 245, 368)
_OF_SUMS = (0, 3, 6, 11, 20, 36, 66, 120)

PREDICTORS: Registry[Callable[[], Predictor]] = Registry("predictor")
"""Functions that create a predictor; a name ends in the KiB of its tables, at most. Registers add a few bytes."""
PREDICTORS.add("always-taken", AlwaysTaken)
PREDICTORS.add("bimodal-32", lambda: Bimodal(17))
PREDICTORS.add("bimodal-64", lambda: Bimodal(18))
PREDICTORS.add("gshare-32", lambda: GShare(17, 12))
PREDICTORS.add("gshare-64", lambda: GShare(18, 12))
PREDICTORS.add("perceptron-32", lambda: Perceptron(624, 59))
PREDICTORS.add("perceptron-64", lambda: Perceptron(1248, 59))
PREDICTORS.add("hashed-perceptron-32", lambda: Geometric(12, 8, _OF_SUMS))
PREDICTORS.add("hashed-perceptron-64", lambda: Geometric(13, 8, _OF_SUMS))
PREDICTORS.add("o-gehl-32", lambda: Geometric(13, 4, _OF_SUMS))
PREDICTORS.add("o-gehl-64", lambda: Geometric(14, 4, _OF_SUMS))
PREDICTORS.add("tage-32", lambda: Tage(base_bits=14, index_bits=10, histories=_SHORTER))
PREDICTORS.add("tage-64", Tage)
PREDICTORS.add("tage-128", lambda: Tage(base_bits=16, index_bits=12))
