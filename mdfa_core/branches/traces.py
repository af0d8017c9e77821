"""Branch traces: the outcomes of conditional branches in order, read from and written to championship (BT9) files.

A BT9 file ("BT9_SPA_TRACE_FORMAT", Championship Branch Prediction 2016) is text, often gzipped; `#` starts a comment.
A header of `key: value` lines is followed by three parts:

    BT9_NODES           NODE id virtual_address physical_address opcode size [class: C] [key: value …]
    BT9_EDGES           EDGE id source destination T|N virtual_target physical_target instructions [key: value …]
    BT9_EDGE_SEQUENCE   one edge id a line, to the end of the file or to a line EOF

A node is a branch instruction; an edge leads from one executed branch to the next one and says whether the first was
taken. A class is JMP, CALL or RET, + DIR or IND, + CND or UCD: only CND (conditional) branches are outcomes here. Nodes
of size 0 are the dummies at both ends. Numbers may be decimal, hexadecimal (0x…) or octal (0…); `-` is an absent
physical address. Source: the reader that came with the championship's kit, `bt9_reader.h`.
"""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mdfa_core.errors import DataError, InvalidValue

TITLE = "BT9_SPA_TRACE_FORMAT"
_GZIP = b"\x1f\x8b"
_KINDS = ({"JMP", "CALL", "RET"}, {"DIR", "IND"}, {"CND", "UCD"})


@dataclass(frozen=True)
class BranchTrace:
    """The conditional branches a program executed, in order.

    Attributes:
        pcs: address of every executed branch, a non-negative integer.
        taken: whether it was taken.

    Raises:
        InvalidValue: there are more addresses than outcomes or fewer, or an address is negative.
    """

    pcs: tuple[int, ...]
    taken: tuple[bool, ...]

    def __post_init__(self) -> None:
        if len(self.pcs) != len(self.taken):
            raise InvalidValue(
                f"a trace of {len(self.pcs)} addresses and {len(self.taken)} outcomes was given: give one outcome an "
                f"address"
            )
        if self.pcs and min(self.pcs) < 0:
            raise InvalidValue(f"a branch has the address {min(self.pcs)}: addresses must be at least 0")

    def __len__(self) -> int:
        return len(self.pcs)

    def __iter__(self) -> Iterator[tuple[int, bool]]:
        return zip(self.pcs, self.taken, strict=True)

    @property
    def branches(self) -> int:
        """Number of different branch instructions."""
        return len(set(self.pcs))

    @property
    def taken_share(self) -> float:
        """Share of taken outcomes; NaN for an empty trace."""
        return sum(self.taken) / len(self) if len(self) else float("nan")


def read_bt9(path: str | Path, *, limit: int | None = None) -> BranchTrace:
    """The conditional branches of a championship trace file, plain or gzipped.

    Args:
        path: the file.
        limit: number of conditional branches after which to stop.

    Raises:
        DataError: the file is missing, no BT9 file, damaged, or refers to a node or edge it does not have.
        InvalidValue: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise InvalidValue(f"the limit is {limit} branches: give at least 1, or None for all of them")
    nodes: dict[int, tuple[int, bool]] = {}
    edges: dict[int, tuple[int, bool, bool]] = {}
    pcs: list[int] = []
    taken: list[bool] = []
    part = "header"
    for number, words in _lines(Path(path)):
        where = f"line {number} of {path}"
        if words[0] in ("BT9_NODES", "BT9_EDGES", "BT9_EDGE_SEQUENCE"):
            before = {"BT9_NODES": "header", "BT9_EDGES": "BT9_NODES", "BT9_EDGE_SEQUENCE": "BT9_EDGES"}[words[0]]
            if part != before:
                raise DataError(f"{where} starts {words[0]} after {part}: give a file with its parts in order")
            part = words[0]
        elif part == "BT9_NODES":
            key, node = _node(words, where)
            _put(nodes, key, node, "node", where)
        elif part == "BT9_EDGES":
            key, source, outcome = _edge(words, where)
            if source not in nodes:
                raise DataError(f"{where} has an edge from node {source}, which is not in the file: fetch it again")
            _put(edges, key, (*nodes[source], outcome), "edge", where)
        elif part == "BT9_EDGE_SEQUENCE":
            if words[0] == "EOF" or (limit is not None and len(pcs) >= limit):
                break
            key = _number(words[0], "edge id", where)
            if key not in edges:
                raise DataError(f"{where} names edge {key}, which is not in the file: fetch it again")
            pc, conditional, outcome = edges[key]
            if conditional:
                pcs.append(pc)
                taken.append(outcome)
    if part != "BT9_EDGE_SEQUENCE":
        raise DataError(f"{path} ends in {part}, before BT9_EDGE_SEQUENCE: it is cut off, fetch it again")
    return BranchTrace(tuple(pcs), tuple(taken))


def write_bt9(trace: BranchTrace, path: str | Path) -> None:
    """Write a trace as a BT9 file, gzipped if the name ends in .gz; `read_bt9` gives it back.

    What a `BranchTrace` does not know is filled in: opcode 0, size 4, the target of a taken branch the next branch's
    address, and 0 instructions on every edge. Node 0 and the last node are dummies of size 0, as in the kit's files.

    An edge is written for every (branch, next branch, outcome). The championship's own reader takes only one edge for
    a (branch, target), so it may refuse such a file; the reader here does not.

    Raises:
        DataError: the file cannot be written.
    """
    ids = {pc: n for n, pc in enumerate(dict.fromkeys(trace.pcs), 1)}
    end = len(ids) + 1
    counts = {pc: [0, 0] for pc in ids}
    for pc, outcome in trace:
        counts[pc][outcome] += 1
    edges: dict[tuple[int, int, bool, int], int] = {}
    sequence = []
    walk = [(0, False, 0), *((ids[pc], outcome, pc) for pc, outcome in trace), (end, False, 0)]
    for (source, outcome, _), (destination, _, target) in itertools.pairwise(walk):
        edge = (source, destination, outcome, target if outcome else 0)
        sequence.append(edges.setdefault(edge, len(edges)))
    lines = [TITLE, "bt9_minor_version: 0", "has_physical_address: 0", "BT9_NODES", "NODE 0 0x0 - 0x0 0"]
    lines += [
        f"NODE {n} {pc:#x} - 0x0 4 class: JMP+DIR+CND taken_cnt: {counts[pc][1]} not_taken_cnt: {counts[pc][0]}"
        for pc, n in ids.items()
    ]
    lines += [f"NODE {end} 0x0 - 0x0 0", "BT9_EDGES"]
    lines += [f"EDGE {n} {s} {d} {'NT'[t]} {target:#x} - 0" for (s, d, t, target), n in edges.items()]
    lines += ["BT9_EDGE_SEQUENCE", *(str(edge) for edge in sequence), "EOF", ""]
    text = "\n".join(lines).encode()
    try:
        # No time in the gzip header: one trace gives one file.
        Path(path).write_bytes(gzip.compress(text, mtime=0) if Path(path).suffix == ".gz" else text)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}): free some space or name another file"
        ) from None


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and words of every line that is more than a comment, after the title."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        with gzip.open(path, "rt", encoding="utf-8") if packed else path.open(encoding="utf-8") as lines:
            if lines.readline().split("#")[0].split()[:1] != [TITLE]:
                raise DataError(f"{path} does not begin with {TITLE}: give a branch trace in the BT9 format")
            for number, line in enumerate(lines, 2):
                words = line.split("#")[0].split()
                if words:
                    yield number, words
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise DataError(f"{path} cannot be read as a branch trace ({error}): give an undamaged BT9 file") from error


def _node(words: list[str], where: str) -> tuple[int, tuple[int, bool]]:
    if words[0] != "NODE" or len(words) < 6:
        raise DataError(f"{where} is no node: give NODE id virtual_address physical_address opcode size")
    size = _number(words[5], "size", where)
    if size == 0:
        return _number(words[1], "node id", where), (0, False)
    rest = words[6:]
    fields = dict(zip(rest[::2], rest[1::2], strict=False))
    kinds = fields.get("class:", "").split("+")
    if len(kinds) != 3 or any(kind not in known for kind, known in zip(kinds, _KINDS, strict=True)):
        raise DataError(
            f"{where} has a branch of the class {fields.get('class:', 'none')}: it must be like JMP+DIR+CND, or nobody "
            f"knows whether the branch is conditional"
        )
    return _number(words[1], "node id", where), (_number(words[2], "address", where), kinds[2] == "CND")


def _edge(words: list[str], where: str) -> tuple[int, int, bool]:
    if words[0] != "EDGE" or len(words) < 8 or words[4] not in ("T", "N"):
        raise DataError(
            f"{where} is no edge: give EDGE id source destination T|N virtual_target physical_target instructions"
        )
    return _number(words[1], "edge id", where), _number(words[2], "node id", where), words[4] == "T"


def _put(table: dict[int, tuple], key: int, value: tuple, what: str, where: str) -> None:
    if key in table:
        raise DataError(f"{where} has {what} {key} a second time: give a file with every id once")
    table[key] = value


def _number(text: str, what: str, where: str) -> int:
    """A non-negative integer as C's strtoull with base 0 reads it."""
    octal = len(text) > 1 and text[0] == "0" and text.isdigit()
    try:
        value = int(text, 8 if octal else 0)
    except ValueError:
        value = -1
    if value < 0:
        raise DataError(f"{where} has the {what} {text!r}: it must be a non-negative integer")
    return value
