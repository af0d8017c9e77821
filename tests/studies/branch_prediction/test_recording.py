"""Recorded outcomes against a program whose branches are known by hand, and against logs written by hand."""

from __future__ import annotations

import shutil
import struct
import sys
from pathlib import Path

import pytest

from mdfa_core.base.errors import DataError, InvalidValue
from mdfa_core.studies.branch_prediction import BranchTrace, record
from mdfa_core.studies.branch_prediction.recording import EMULATOR, block_of, parse_log

START = 0x401000
CODE = bytes.fromhex(
    "b90a000000"  # 401000  mov ecx, 10
    "31db"  # 401005  xor ebx, ebx
    "f7c101000000"  # 401007  test ecx, 1
    "7402"  # 40100d  je 401011
    "ffc3"  # 40100f  inc ebx
    "ffc9"  # 401011  dec ecx
    "75f2"  # 401013  jne 401007
    "b904000000"  # 401015  mov ecx, 4
    "fc"  # 40101a  cld
    "488d3513000000"  # 40101b  lea rsi, [401035]
    "488dbc24f8feffff"  # 401022  lea rdi, [rsp - 264]
    "f3a4"  # 40102a  rep movsb: a block that repeats itself, no branch
    "b903000000"  # 40102c  mov ecx, 3
    "e2fe"  # 401031  loop 401031
    "e301"  # 401033  jrcxz 401036
    "90"  # 401035  nop
    "b83c000000"  # 401036  mov eax, 60
    "31ff"  # 40103b  xor edi, edi
    "0f05"  # 40103d  syscall
)
KNOWN = [
    *(branch for n in range(10, 0, -1) for branch in ((0x40100D, n % 2 == 0), (0x401013, n > 1))),
    (0x401031, True),
    (0x401031, True),
    (0x401031, False),
    (0x401033, True),
]

needs_emulator = pytest.mark.skipif(shutil.which(EMULATOR) is None, reason=f"{EMULATOR} is not installed")


def executable(path: Path, *, machine: int = 62) -> Path:
    """An ELF file of one segment, made by hand."""
    head = struct.pack(
        "<4s5B7xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 0, 2, machine, 1, START, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0x1000, START, START, len(CODE), len(CODE), 0x1000)
    path.write_bytes((head + segment).ljust(0x1000, b"\0") + CODE)
    path.chmod(0o755)
    return path


def executed(pc: int, *, thread: int = 0, place: int = 0) -> bytes:
    return f"Trace {thread}: {0x7F0000000000 + 64 * (pc + place):#x} [00/{pc:016x}/0040c0b3/00000200] name\n".encode()


def block(pc: int, *instructions: str) -> list[bytes]:
    lines = ["-" * 16, "IN: name"]
    for code in instructions:
        data = bytes.fromhex(code)
        lines.append(f"0x{pc:08x}:  {data[:8].hex(' ') + ' ':24} mnemonic operands")
        if data[8:]:
            lines.append(f"0x{pc + 8:08x}:  {data[8:].hex(' ') + ' '}")
        pc += len(data)
    return [(line + "\n").encode() for line in [*lines, ""]]


def outcomes(log: list[bytes], **options: int) -> list[tuple[int, bool]]:
    found = parse_log(log, **({"limit": 99} | options))
    return list(zip(found.pcs, found.taken, strict=True))


@needs_emulator
def test_a_program_with_known_branches(tmp_path: Path) -> None:
    trace = record([str(executable(tmp_path / "known"))])

    assert list(trace) == KNOWN
    assert trace.command.endswith("/known")


@needs_emulator
def test_a_recording_starts_and_ends_where_it_is_told(tmp_path: Path) -> None:
    path = str(executable(tmp_path / "known"))

    assert list(record([path], limit=5)) == KNOWN[:5]
    assert list(record([path], skip=7, limit=9)) == KNOWN[7:16]
    with pytest.raises(DataError, match="no conditional branch after 24 skipped ones: skip fewer"):
        record([path], skip=24)


@pytest.mark.parametrize(
    ("code", "target"),
    [
        ("75f2", 0x1000 + 2 - 14),
        ("2e7410", 0x1000 + 3 + 16),  # with a prefix
        ("0f8500010000", 0x1000 + 6 + 256),
        ("0f8f00ffffff", 0x1000 + 6 - 256),
        ("e2fe", 0x1000),
        ("67e304", 0x1000 + 3 + 4),
    ],
)
def test_conditional_branches_are_known_by_their_code(code: str, target: int) -> None:
    found = block_of(block(0x1000, code))

    assert found is not None
    assert (found.branch, found.target, found.otherwise) == (0x1000, target, 0x1000 + len(code) // 2)


@pytest.mark.parametrize(
    "code",
    [
        "eb05",  # jmp
        "e900000000",
        "ffe0",
        "c3",
        "0f05",
        "0f94c0",  # sete
        "0f440510",  # cmove
        "f3a4",
        "7400",  # to the next instruction: no observable outcome
        "48b87400000000007400",  # its second line looks like je
    ],
)
def test_other_instructions_are_no_branches(code: str) -> None:
    found = block_of(block(0x1000, "90", code))

    assert found is not None
    assert (found.branch, found.instructions) == (-1, 2)


def test_a_block_that_ends_without_a_branch_has_no_outcome() -> None:
    log = [*block(0x10, "90"), executed(0x10), *block(0x11, "7510"), executed(0x11), *block(0x13, "c3"), executed(0x13)]

    assert outcomes(log) == [(0x11, False)]
    assert parse_log(log, limit=9).instructions == 3


def test_a_signal_leaves_the_branch_without_an_outcome() -> None:
    log = [
        *block(0x10, "7510"),
        executed(0x10),
        *block(0x100, "c3"),
        executed(0x100),
        *block(0x22, "c3"),
        executed(0x22),
    ]

    assert outcomes(log) == []
    assert parse_log(log, limit=9).unknown == 1


def test_a_block_that_was_stopped_before_it_began_is_not_counted_twice() -> None:
    stopped = b"Stopped execution of TB chain before 0x7f [0000000000000010] name\n"
    log = [*block(0x10, "75fe"), executed(0x10), stopped, executed(0x10), *block(0x12, "c3"), executed(0x12)]

    assert outcomes(log) == [(0x10, False)]


def test_code_that_changes_is_followed() -> None:
    first = [*block(0x10, "7510"), executed(0x10), *block(0x22, "c3"), executed(0x22)]
    # At the same address, now another branch; then the earlier block once more, at its own place.
    second = [*block(0x10, "90", "7520"), executed(0x10, place=1), *block(0x33, "c3"), executed(0x33)]

    assert outcomes([*first, *second, executed(0x10), executed(0x22)]) == [(0x10, True), (0x11, True), (0x10, True)]


def test_threads_are_followed_separately() -> None:
    log = [
        *block(0x10, "7510"),
        executed(0x10, thread=0),
        executed(0x10, thread=1),
        *block(0x22, "c3"),
        executed(0x22, thread=1),
        *block(0x12, "c3"),
        executed(0x12, thread=0),
    ]

    assert outcomes(log) == [(0x10, True), (0x10, False)]


def test_what_is_no_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    other = executable(tmp_path / "other", machine=183)
    monkeypatch.setattr("shutil.which", lambda name: name if name in (EMULATOR, str(script), str(other)) else None)

    for command, options, message in (
        ([str(script)], {}, "is no x86-64 program, perhaps a script: name the program that runs the script"),
        ([str(other)], {}, "is no x86-64 program"),
        (["nothing-such"], {}, "there is no program nothing-such"),
        ([], {}, "no program was named"),
        ([sys.executable], {"limit": 0}, "the limit is 0 branches: give at least 1"),
        ([sys.executable], {"skip": -1}, "-1 branches are to be skipped: give 0 or more"),
    ):
        with pytest.raises(InvalidValue, match=message):
            record(command, **options)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(DataError, match="is not installed: install QEMU's user-mode emulation"):
        record([sys.executable])


def test_the_known_branches_fit_the_program() -> None:
    """The test's own table: each branch is where its code is."""
    assert {pc for pc, _ in KNOWN} == {0x40100D, 0x401013, 0x401031, 0x401033}
    assert [CODE[pc - START] for pc in (0x40100D, 0x401013, 0x401031, 0x401033)] == [0x74, 0x75, 0xE2, 0xE3]
    assert BranchTrace([pc for pc, _ in KNOWN], [t for _, t in KNOWN]).branches == 4
