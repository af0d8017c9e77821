"""Championship files (BT9): read and write branch traces as text.

A BT9 file ("BT9_SPA_TRACE_FORMAT", Championship Branch Prediction 2016) is text, often gzipped; `#` starts a comment.
A header of `key: value` lines is followed by three parts:

    BT9_NODES           NODE id virtual_address physical_address opcode size [class: C] [key: value …]
    BT9_EDGES           EDGE id source destination T|N virtual_target physical_target instructions [key: value …]
    BT9_EDGE_SEQUENCE   one edge id a line, to the end of the file or to a line EOF

A node is a branch instruction. An edge leads from an executed branch to the next one and tells whether the first was
taken. A class is JMP, CALL or RET, + DIR or IND, + CND or UCD; a trace keeps CND (conditional) branches only. Nodes of
size 0 are dummies at both ends. Numbers may be decimal, hexadecimal (0x…) or octal (0…), and `-` is a missing physical
address. Source: `bt9_reader.h`, the reader in the championship's kit.
"""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path

from mdfa_core.base.errors import DataError, InvalidValue
from mdfa_core.studies.branch_prediction.traces import BranchTrace

TITLE = "BT9_SPA_TRACE_FORMAT"
_GZIP = b"\x1f\x8b"
_KINDS = ({"JMP", "CALL", "RET"}, {"DIR", "IND"}, {"CND", "UCD"})


def read_bt9(path: str | Path, *, limit: int | None = None) -> BranchTrace:
    """Read the conditional branches of a championship trace file, gzipped or not.

    Args:
        path: the file.
        limit: number of conditional branches after which to stop; None reads all.

    Raises:
        DataError: the file is missing or damaged, is no BT9 file, or refers to a missing node or edge.
        InvalidValue: `limit` is below 1.
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
                raise DataError(f"{where} has an edge from node {source}, which is not in the file: download it again")
            _put(edges, key, (*nodes[source], outcome), "edge", where)
        elif part == "BT9_EDGE_SEQUENCE":
            if words[0] == "EOF" or (limit is not None and len(pcs) >= limit):
                break
            key = _number(words[0], "edge id", where)
            if key not in edges:
                raise DataError(f"{where} names edge {key}, which is not in the file: download it again")
            pc, conditional, outcome = edges[key]
            if conditional:
                pcs.append(pc)
                taken.append(outcome)
    if part != "BT9_EDGE_SEQUENCE":
        raise DataError(f"{path} ends in {part}, before BT9_EDGE_SEQUENCE: it is truncated, download it again")
    return BranchTrace(pcs, taken)


def write_bt9(trace: BranchTrace, path: str | Path) -> None:
    """Write a trace as a BT9 file, gzipped if its name ends in .gz. `read_bt9` reads it back.

    A `BranchTrace` lacks some fields, which get default values: opcode 0, size 4, 0 instructions per edge, and the next
    branch's address as target of a taken branch. Node 0 and the last node are dummies of size 0, as in the kit's files.

    Every (branch, next branch, outcome) becomes an edge. The championship's reader allows only one edge per (branch,
    target), so it may refuse such a file. `read_bt9` accepts it.

    Args:
        trace: the trace.
        path: the file.

    Raises:
        DataError: the file cannot be written.
    """
    ids = {pc: n for n, pc in enumerate(dict.fromkeys(trace.pcs.tolist()), 1)}
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
        # Without a time stamp in the gzip header, equal traces give equal files.
        Path(path).write_bytes(gzip.compress(text, mtime=0) if Path(path).suffix == ".gz" else text)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}): free some space or name another file"
        ) from None


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and words of every line after the title, without comments and empty lines."""
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
        raise DataError(f"{where} is not a node: give NODE id virtual_address physical_address opcode size")
    size = _number(words[5], "size", where)
    if size == 0:
        return _number(words[1], "node id", where), (0, False)
    rest = words[6:]
    fields = dict(zip(rest[::2], rest[1::2], strict=False))
    kinds = fields.get("class:", "").split("+")
    if len(kinds) != 3 or any(kind not in known for kind, known in zip(kinds, _KINDS, strict=True)):
        raise DataError(
            f"{where} has a branch of class {fields.get('class:', 'none')}: give a class such as JMP+DIR+CND, "
            f"which tells whether the branch is conditional"
        )
    return _number(words[1], "node id", where), (_number(words[2], "address", where), kinds[2] == "CND")


def _edge(words: list[str], where: str) -> tuple[int, int, bool]:
    if words[0] != "EDGE" or len(words) < 8 or words[4] not in ("T", "N"):
        raise DataError(
            f"{where} is not an edge: give EDGE id source destination T|N virtual_target physical_target instructions"
        )
    return _number(words[1], "edge id", where), _number(words[2], "node id", where), words[4] == "T"


def _put(table: dict[int, tuple], key: int, value: tuple, what: str, where: str) -> None:
    if key in table:
        raise DataError(f"{where} has {what} {key} a second time: give a file with every id once")
    table[key] = value


def _number(text: str, what: str, where: str) -> int:
    """Parse an integer of 64 bits as C's strtoull with base 0."""
    octal = len(text) > 1 and text[0] == "0" and text.isdigit()
    try:
        value = int(text, 8 if octal else 0)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64:
        raise DataError(f"{where} has the {what} {text!r}: give an integer of 0 to 2⁶⁴ − 1")
    return value
