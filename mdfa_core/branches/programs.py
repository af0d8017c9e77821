"""Small deterministic programs whose branches are worth recording; each takes a seed that makes its input."""

from __future__ import annotations

import difflib
import io
import json
import json.scanner
import re
import tokenize
from collections.abc import Callable
from random import Random

from mdfa_core.registry import Table

WORDS = (
    "error",
    "signal",
    "of",
    "a",
    "hidden",
    "layer",
    "comes",
    "straight",
    "from",
    "the",
    "output",
    "through",
    "fixed",
    "random",
    "feedback",
    "weights",
)

PROGRAMS: Table[Callable[[int], object]] = Table("program")
"""Functions of a seed: `record(lambda: PROGRAMS["sort"](0))`. An own one is added with `PROGRAMS.add`."""


def quicksort(seed: int) -> list[int]:
    """Quicksort of 600 random numbers, in place, Lomuto's partition."""
    random = Random(seed)
    values = [random.randrange(10_000) for _ in range(600)]
    ranges = [(0, len(values) - 1)]
    while ranges:
        low, high = ranges.pop()
        if low >= high:
            continue
        pivot, place = values[high], low
        for i in range(low, high):
            if values[i] < pivot:
                values[i], values[place] = values[place], values[i]
                place += 1
        values[high], values[place] = values[place], values[high]
        ranges += [(low, place - 1), (place + 1, high)]
    return values


def queens(seed: int) -> int:
    """Number of ways to place seven queens, by backtracking, with the columns tried in a random order."""
    size = 7
    order = list(range(size))
    Random(seed).shuffle(order)

    def place(row: int, chosen: list[int]) -> int:
        if row == size:
            return 1
        ways = 0
        for column in order:
            for other, taken in enumerate(chosen):
                if taken == column or abs(taken - column) == row - other:
                    break
            else:
                ways += place(row + 1, [*chosen, column])
        return ways

    return place(0, [])


def sieve(seed: int) -> int:
    """Number of primes below a limit of about 3000, by the sieve of Eratosthenes."""
    limit = 3000 + seed
    composite = [False] * limit
    primes = 0
    for n in range(2, limit):
        if composite[n]:
            continue
        primes += 1
        multiple = n * n
        while multiple < limit:
            composite[multiple] = True
            multiple += n
    return primes


def compress(seed: int) -> list[tuple[int, int, str]]:
    """LZ77 with a window of 48 characters over a text of random words."""
    random = Random(seed)
    text = " ".join(random.choice(WORDS) for _ in range(60))
    coded, at = [], 0
    while at < len(text):
        best, distance = 0, 0
        for start in range(max(0, at - 48), at):
            length = 0
            while at + length < len(text) - 1 and text[start + length] == text[at + length]:
                length += 1
            if length > best:
                best, distance = length, at - start
        coded.append((distance, best, text[at + best]))
        at += best + 1
    return coded


def parse_json(seed: int) -> object:
    """A random document read by the standard library's JSON decoder, in its pure-Python form."""
    random = Random(seed)

    def value(depth: int) -> object:
        kind = random.randrange(5 if depth else 3)
        if kind == 3:
            return [value(depth - 1) for _ in range(random.randrange(6))]
        if kind == 4:
            return {random.choice(WORDS): value(depth - 1) for _ in range(random.randrange(6))}
        return (random.randrange(1000), random.choice(WORDS) + '\n"', None)[kind]

    text = json.dumps([value(4) for _ in range(160)], indent=1)
    decoder = json.JSONDecoder()
    decoder.parse_string = json.decoder.py_scanstring  # type: ignore[attr-defined]
    decoder.scan_once = json.scanner.py_make_scanner(decoder)  # type: ignore[attr-defined]
    return decoder.decode(text)


def compile_patterns(seed: int) -> list[re.Pattern[str]]:
    """Random regular expressions parsed and compiled by the standard library's `re`, which is written in Python."""
    random = Random(seed)

    def pattern(depth: int) -> str:
        if depth == 0:
            return random.choice(["[a-z]+", r"\d{2,4}", "x?", ".", r"\bend\b", "[^,;]*", random.choice(WORDS)])
        parts = [pattern(depth - 1) for _ in range(random.randrange(1, 4))]
        return random.choice(["(?:{})*", "({})", "(?={})", "{}"]).format(random.choice(["|", ""]).join(parts))

    re.purge()
    return [re.compile(pattern(3)) for _ in range(12)]


def tokens(seed: int) -> int:
    """Number of tokens that the standard library's `tokenize` finds in a random Python program."""
    random = Random(seed)
    lines = []
    for n in range(70):
        name, other = random.choice(WORDS), random.choice(WORDS)
        lines.append(f"def {name}_{n}({other}, *rest):  # {other}")
        lines += [f"    x{i} = [{other}, {random.random():.3f}, '{name}']" for i in range(random.randrange(3))]
        lines.append(f"    return ({other} +\n            {n})")
    return sum(1 for _ in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline))


def differences(seed: int) -> list[tuple[str, int, int, int, int]]:
    """What the standard library's `difflib`, which is written in Python, finds between two texts of random words."""
    random = Random(seed)
    before = [random.choice(WORDS) for _ in range(160)]
    after = [random.choice(WORDS) if random.random() < 0.2 else word for word in before]
    return list(difflib.SequenceMatcher(None, before, after).get_opcodes())


for _name, _program in {
    "sort": quicksort,
    "queens": queens,
    "sieve": sieve,
    "compress": compress,
    "json": parse_json,
    "regex": compile_patterns,
    "tokenize": tokens,
    "diff": differences,
}.items():
    PROGRAMS.add(_name, _program)
