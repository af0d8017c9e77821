"""Record the conditional branches of an x86-64 program with QEMU's user-mode emulator (Debian package qemu-user).

`qemu-x86_64 -d in_asm,exec,nochain` logs the code of every new block of instructions, and then one line for every
executed block. A block's last instruction is its only branch. If that instruction is a conditional branch, then the
address of the next executed block shows whether the branch was taken:

    IN:
    0x40011d:  48 ff c9                 decq     %rcx
    0x400120:  75 f8                    jne      0x40011a

    Trace 0: 0x7f01c0000340 [0000000000000000/000000000040011a/0040c0b3/00000200]

The log goes through a pipe, so it needs no disk space.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from mdfa_core.base.errors import DataError, InvalidValue
from mdfa_core.studies.branch_prediction.traces import BranchTrace

EMULATOR = "qemu-x86_64"

_INSTRUCTION = re.compile(rb"0x([0-9a-f]+):  ((?:[0-9a-f]{2} )+) *(\S.*)?$")
_EXECUTED = re.compile(rb"Trace (\d+): (0x[0-9a-f]+ \[[0-9a-f]+/([0-9a-f]+)/[0-9a-f]+/[0-9a-f]+\])")
_PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF2, 0xF3, *range(0x40, 0x50)))
_SHORT = frozenset((*range(0x70, 0x80), *range(0xE0, 0xE4)))  # Jcc rel8; LOOPNE, LOOPE, LOOP, JRCXZ
_NEAR = frozenset(range(0x80, 0x90))  # 0F 8x: Jcc rel32
_X86_64 = b"\x3e\x00"  # e_machine at offset 18 of an ELF file


class Block(NamedTuple):
    """A block of instructions; the last three are −1 unless it ends in a conditional branch.

    Attributes:
        start: address of its first instruction.
        instructions: number of its instructions.
        branch: address of the conditional branch.
        target: address of the next instruction if the branch is taken.
        otherwise: address of the next instruction if the branch is not taken.
    """

    start: int
    instructions: int
    branch: int = -1
    target: int = -1
    otherwise: int = -1


def block_of(lines: Sequence[bytes]) -> Block | None:
    """The block that a disassembly shows; None without instructions.

    An instruction of more than eight bytes continues on a line of its own without a mnemonic. A branch has at most
    eight bytes, so a block whose last line continues an instruction has no branch. A conditional branch to the next
    instruction has no observable outcome and counts as none.
    """
    found = [match for line in lines if (match := _INSTRUCTION.match(line))]
    if not found:
        return None
    start, count = int(found[0][1], 16), sum(match[3] is not None for match in found)
    last = found[-1]
    if last[3] is None:
        return Block(start, count)
    code, address = bytes.fromhex(last[2].decode()), int(last[1], 16)
    at = 0
    while at < len(code) - 1 and code[at] in _PREFIXES:
        at += 1
    end = address + len(code)
    if code[at] in _SHORT and len(code) == at + 2:
        offset = int.from_bytes(code[at + 1 :], "little", signed=True)
    elif code[at] == 0x0F and len(code) == at + 6 and code[at + 1] in _NEAR:
        offset = int.from_bytes(code[at + 2 :], "little", signed=True)
    else:
        return Block(start, count)
    return Block(start, count, address, (end + offset) % (1 << 64), end) if offset else Block(start, count)


@dataclass
class Outcomes:
    """What a log shows.

    Attributes:
        pcs: address of every executed conditional branch.
        taken: its outcome.
        instructions: number of executed instructions after the skipped outcomes, in whole blocks. Each repetition of a
            string instruction counts.
        unknown: conditional branches without an outcome, because a signal's handler came next.
    """

    pcs: list[int] = field(default_factory=list)
    taken: list[bool] = field(default_factory=list)
    instructions: int = 0
    unknown: int = 0


def parse_log(log: Iterable[bytes], *, limit: int, skip: int = 0) -> Outcomes:
    """The outcomes of the conditional branches in a log of QEMU, in order.

    Every thread's blocks are followed separately. A block that is translated again replaces the earlier one. A branch
    has no outcome if the next block begins at neither of its two successors, for example in a signal's handler.

    Args:
        log: lines.
        limit: number of outcomes after which to stop.
        skip: number of outcomes to leave out first.
    """
    found = Outcomes()
    known: dict[bytes, tuple[int, Block]] = {}  # line → thread and block, for speed
    blocks: dict[bytes, Block] = {}  # place of a block's translation and its address → block
    translated: dict[int, Block] = {}  # not executed yet
    waiting: dict[int, Block] = {}  # by thread: the block whose branch awaits its outcome
    listing: list[bytes] | None = None
    for line in log:
        entry = known.get(line) if not translated else None
        if entry is None:
            if listing is not None:
                if line.strip():
                    listing.append(line)
                else:
                    if block := block_of(listing):
                        translated[block.start] = block
                    listing = None
                continue
            if line.startswith(b"IN:"):
                listing = []
                continue
            if line.startswith(b"Stopped execution"):  # the block above was not executed after all
                waiting.clear()
                continue
            if not (executed := _EXECUTED.match(line)):
                continue
            start = int(executed[3], 16)
            if new := translated.pop(start, None):
                if executed[2] in blocks:
                    known.clear()
                blocks[executed[2]] = new
            entry = known[line] = (int(executed[1]), blocks.get(executed[2]) or Block(start, 0))
        thread, block = entry
        before = waiting.pop(thread, None)
        if before is not None:
            if block.start == before.target or block.start == before.otherwise:
                if skip:
                    skip -= 1
                    found.instructions = 0
                else:
                    found.pcs.append(before.branch)
                    found.taken.append(block.start == before.target)
                    if len(found.pcs) >= limit:
                        return found
            else:
                found.unknown += 1
        if block.branch >= 0:
            waiting[thread] = block
        found.instructions += block.instructions
    return found


def record(
    command: Sequence[str],
    *,
    limit: int = 1_000_000,
    skip: int = 0,
    stdin: int | IO | None = None,
    stdout: int | IO | None = None,
) -> BranchTrace:
    """Run an x86-64 program under QEMU and record its conditional branches, those of its libraries included.

    The program is stopped after `limit` branches. Programs that it starts are not recorded. A process that it forks
    would write to the same log, so record a program that does its work in one process. Threads are recorded in the
    order in which they run. The kernel's branches are not recorded.

    Args:
        command: the program and its arguments.
        limit: largest number of branches.
        skip: number of branches to leave out first, such as those of the dynamic linker.
        stdin: as in `subprocess.Popen`.
        stdout: likewise.

    Raises:
        InvalidValue: `limit` is below 1, `skip` is negative, or the program is missing or not for x86-64.
        DataError: QEMU is missing, or the program executed no conditional branch after the skipped branches.
    """
    if limit < 1:
        raise InvalidValue(f"the limit is {limit} branches: give at least 1")
    if skip < 0:
        raise InvalidValue(f"{skip} branches are to be skipped: give 0 or more")
    emulator = shutil.which(EMULATOR)
    if emulator is None:
        raise DataError(f"{EMULATOR} is not installed: install QEMU's user-mode emulation (Debian: qemu-user)")
    program = _program(command)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=1 << 20) as log:
        try:
            process = subprocess.Popen(
                [emulator, "-d", "in_asm,exec,nochain", "-D", f"/dev/fd/{writing}", program, *command[1:]],
                pass_fds=(writing,),
                stdin=stdin,
                stdout=stdout,
            )
        finally:
            os.close(writing)
        try:
            found = parse_log(log, limit=limit, skip=skip)
        finally:
            process.kill()
            process.wait()
    text = shlex.join(command)
    if not found.pcs:
        raise DataError(f"{text} executed no conditional branch after {skip} skipped ones: skip fewer")
    return BranchTrace(found.pcs, found.taken, instructions=found.instructions, command=text)


def _program(command: Sequence[str]) -> str:
    """The path of the program."""
    if not command:
        raise InvalidValue("no program was named: give a program and its arguments")
    path = shutil.which(command[0])
    if path is None:
        raise InvalidValue(f"there is no program {command[0]}: name an installed program or the path of one")
    with Path(path).open("rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF" or head[18:] != _X86_64:
        raise InvalidValue(f"{path} is no x86-64 program, perhaps a script: name the program that runs the script")
    return path
