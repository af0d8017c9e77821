"""Published branch predictors: always-taken, bimodal, gshare, perceptron, and a simplified TAGE; sizes in bits."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mdfa_core.errors import InvalidValue
from mdfa_core.registry import Table


class Predictor(ABC):
    """Predicts whether a branch is taken, and learns from what it did; the two are called in turns."""

    @property
    @abstractmethod
    def bits(self) -> int:
        """State it keeps, in bits: tables and history."""

    @abstractmethod
    def predict(self, pc: int) -> bool:
        """Whether the branch at address `pc` will be taken; nothing changes that a later prediction depends on."""

    @abstractmethod
    def update(self, pc: int, taken: bool) -> None:
        """Learn that the branch just predicted was `taken`."""


class AlwaysTaken(Predictor):
    """Every branch is taken (Smith 1981, strategy 1)."""

    bits = 0

    def predict(self, pc: int) -> bool:
        return True

    def update(self, pc: int, taken: bool) -> None:
        return None


class Bimodal(Predictor):
    """2ᵏ two-bit saturating counters, chosen by the low k bits of the address (Smith 1981, strategy 7).

    A counter c ∈ 0 … 3 predicts taken where c ≥ 2, moves by one towards every outcome and starts at 2, weakly taken.

    Raises:
        InvalidValue: `index_bits` is not in 1 … 24.
    """

    def __init__(self, index_bits: int = 12) -> None:
        self.index_bits = _checked("index_bits", index_bits, 1, 24)
        self.counters = bytearray([2]) * (1 << index_bits)

    @property
    def bits(self) -> int:
        return 2 << self.index_bits

    def predict(self, pc: int) -> bool:
        return self.counters[self._index(pc)] >= 2

    def update(self, pc: int, taken: bool) -> None:
        index = self._index(pc)
        self.counters[index] = _moved(self.counters[index], taken, 0, 3)

    def _index(self, pc: int) -> int:
        return pc & ((1 << self.index_bits) - 1)


class GShare(Bimodal):
    """As bimodal, the index being address XOR the last h outcomes of all branches (McFarling 1993, section 7).

    The latest outcome is the history's lowest bit; a history shorter than the index meets the address's highest bits.

    Raises:
        InvalidValue: `index_bits` is not in 1 … 24, or `history` not in 0 … index_bits.
    """

    def __init__(self, index_bits: int = 12, history: int = 12) -> None:
        super().__init__(index_bits)
        self.history_length = _checked("history", history, 0, index_bits)
        self.history = 0

    @property
    def bits(self) -> int:
        return super().bits + self.history_length

    def update(self, pc: int, taken: bool) -> None:
        super().update(pc, taken)
        self.history = (self.history << 1 | taken) & ((1 << self.history_length) - 1)

    def _index(self, pc: int) -> int:
        return super()._index(pc) ^ self.history << (self.index_bits - self.history_length)


class Perceptron(Predictor):
    """A table of perceptrons over the last h outcomes, chosen by address (Jiménez & Lin 2001).

    y = w₀ + Σᵢ wᵢ xᵢ with xᵢ = ±1; taken where y ≥ 0. If that was wrong or |y| ≤ θ, then wᵢ ← wᵢ + t xᵢ with t = ±1 the
    outcome, saturating. θ = ⌊1.93 h + 14⌋, and a weight has 1 + ⌊log₂ θ⌋ bits (section 4.3), two's complement.

    Raises:
        InvalidValue: `rows` or `history` is below 1.
    """

    def __init__(self, rows: int = 128, history: int = 16) -> None:
        self.rows = _checked("rows", rows, 1, 1 << 24)
        self.threshold = math.floor(1.93 * _checked("history", history, 1, 4096) + 14)
        self.weight_bits = 1 + int(math.log2(self.threshold))
        self.weights = [[0] * (history + 1) for _ in range(rows)]
        self.inputs = [1] + [-1] * history  # the bias, then the latest outcome first

    @property
    def bits(self) -> int:
        return self.rows * len(self.inputs) * self.weight_bits + len(self.inputs) - 1

    def output(self, pc: int) -> int:
        """y."""
        return sum(w * x for w, x in zip(self.weights[pc % self.rows], self.inputs, strict=True))

    def predict(self, pc: int) -> bool:
        return self.output(pc) >= 0

    def update(self, pc: int, taken: bool) -> None:
        y, t = self.output(pc), 1 if taken else -1
        if (y >= 0) != taken or abs(y) <= self.threshold:
            highest = (1 << (self.weight_bits - 1)) - 1
            row = self.weights[pc % self.rows]
            row[:] = [min(highest, max(-highest - 1, w + t * x)) for w, x in zip(row, self.inputs, strict=True)]
        self.inputs[1:] = [t, *self.inputs[1:-1]]


@dataclass
class _Entry:
    """One line of a tagged table: its tag, a counter −4 … 3 that predicts taken where ≥ 0, and how useful it was."""

    tag: int = -1
    counter: int = 0
    useful: int = 0


class TaggedGeometric(Predictor):
    """A simplified TAGE (Seznec & Michaud 2006): a bimodal table and tagged tables over ever longer histories.

    The hit with the longest history provides the prediction; the next longer hit, or bimodal, is the alternative. The
    provider's 3-bit counter learns the outcome; where the two differed, its 2-bit usefulness moves up if it was right
    and down if not. After a wrong prediction one line is allocated in the shortest longer table whose line has
    usefulness 0; if there is none, all of those lose one.

    Simplified against the publication: a fresh line is trusted at once (no USE_ALT_ON_NA), usefulness is never reset
    by the clock, a line is allocated in the first free table instead of a random one, and the history is folded for
    index and tag when needed instead of in circular registers.

    Raises:
        InvalidValue: a size is outside its range, or the histories do not grow.
    """

    def __init__(
        self,
        base_bits: int = 10,
        index_bits: int = 7,
        tag_bits: int = 8,
        histories: Sequence[int] = (4, 8, 16, 32),
    ) -> None:
        self.base = Bimodal(base_bits)
        self.index_bits = _checked("index_bits", index_bits, 1, 24)
        self.tag_bits = _checked("tag_bits", tag_bits, 2, 24)
        self.histories = tuple(histories)
        if not histories or any(b <= a for a, b in zip((0, *histories), histories, strict=False)):
            raise InvalidValue(
                f"the histories {self.histories} were given: give at least one, each longer than the last"
            )
        self.tables = [[_Entry() for _ in range(1 << index_bits)] for _ in histories]
        self.history = 0

    @property
    def bits(self) -> int:
        lines = len(self.tables) << self.index_bits
        return self.base.bits + lines * (self.tag_bits + 3 + 2 + 1) + self.histories[-1]  # 1: whether it is in use

    def predict(self, pc: int) -> bool:
        return self._opinions(pc, self._lines(pc))[-1][1]

    def update(self, pc: int, taken: bool) -> None:
        lines = self._lines(pc)
        opinions = self._opinions(pc, lines)
        provider, prediction = opinions[-1]
        if provider < 0:
            self.base.update(pc, taken)
        else:
            entry, alternative = lines[provider][0], opinions[-2][1]
            entry.counter = _moved(entry.counter, taken, -4, 3)
            if prediction != alternative:
                entry.useful = _moved(entry.useful, prediction == taken, 0, 3)
        if prediction != taken:
            self._allocate(lines[provider + 1 :], taken)
        self.history = (self.history << 1 | taken) & ((1 << self.histories[-1]) - 1)

    def _allocate(self, longer: Sequence[tuple[_Entry, int]], taken: bool) -> None:
        for entry, tag in longer:
            if entry.useful == 0:
                entry.tag, entry.counter = tag, 0 if taken else -1
                return
        for entry, _ in longer:
            entry.useful -= 1

    def _opinions(self, pc: int, lines: Sequence[tuple[_Entry, int]]) -> list[tuple[int, bool]]:
        """(table, prediction) of bimodal, table −1, and of every table with a hit, shortest history first."""
        hits = [(n, entry.counter >= 0) for n, (entry, tag) in enumerate(lines) if entry.tag == tag]
        return [(-1, self.base.predict(pc)), *hits]

    def _lines(self, pc: int) -> list[tuple[_Entry, int]]:
        """The line of every table that this address and history lead to, with the tag that would be a hit."""
        found = []
        for length, table in zip(self.histories, self.tables, strict=True):
            history = self.history & ((1 << length) - 1)
            index = _folded(pc, self.index_bits) ^ _folded(history, self.index_bits)
            # Folded to two widths, so that histories that share an index rarely share the tag too.
            tag = (
                _folded(pc, self.tag_bits) ^ _folded(history, self.tag_bits) ^ _folded(history, self.tag_bits - 1) << 1
            )
            found.append((table[index], tag & ((1 << self.tag_bits) - 1)))
        return found


def _moved(counter: int, up: bool, lowest: int, highest: int) -> int:
    """A saturating counter after one step."""
    return min(counter + 1, highest) if up else max(counter - 1, lowest)


def _folded(value: int, width: int) -> int:
    """XOR of a number's parts of `width` bits."""
    result = 0
    while value:
        result ^= value & ((1 << width) - 1)
        value >>= width
    return result


def _checked(name: str, value: int, lowest: int, highest: int) -> int:
    if not lowest <= value <= highest:
        raise InvalidValue(f"{name} is {value}: give {lowest} to {highest}")
    return value


PREDICTORS: Table[Callable[[], Predictor]] = Table("predictor")
"""Functions that make a fresh predictor; the sizes of the defaults are near 10,000 bits where a size can be chosen."""
PREDICTORS.add("always-taken", AlwaysTaken)
PREDICTORS.add("bimodal", Bimodal)
PREDICTORS.add("gshare", GShare)
PREDICTORS.add("perceptron", lambda: Perceptron(rows=96, history=16))
PREDICTORS.add("tage-like", TaggedGeometric)
