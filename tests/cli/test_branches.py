"""`mdfa branches`: records a program and measures predictors; mistakes give one sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mdfa_core.studies.branch_prediction import Bimodal, example, prequential, read_trace, write_bt9, write_trace
from mdfa_core.studies.branch_prediction.recording import EMULATOR
from tests.studies.branch_prediction.test_recording import KNOWN, executable
from tests.support.commands import Done


@pytest.mark.skipif(shutil.which(EMULATOR) is None, reason=f"{EMULATOR} is not installed")
def test_a_program_is_recorded(mdfa: Callable[..., Done], tmp_path: Path) -> None:
    program = executable(tmp_path / "known")
    done = mdfa("branches", "record", "-o", str(tmp_path / "t"), "--branches", "22", "--skip", "2", str(program), "-x")

    assert done.code == 0
    assert done.err.endswith(f"{tmp_path / 't'}: 22 branches at 4 addresses, 68.2% taken, 54 instructions\n")
    assert list(read_trace(tmp_path / "t")) == KNOWN[2:]


def test_predictors_are_measured_on_both_kinds_of_files(mdfa: Callable[..., Done], tmp_path: Path) -> None:
    trace = example("gzip")[:2000]
    write_trace(trace, tmp_path / "a.npz")
    write_bt9(trace, tmp_path / "b.gz")
    done = mdfa("branches", "score", str(tmp_path / "a.npz"), str(tmp_path / "b.gz"), "--predictors", "bimodal-64")

    rate = f"{prequential(Bimodal(), trace).per_thousand:.2f}"
    assert (done.code, done.err) == (0, "")
    assert [line.split() for line in done.out.splitlines()] == [
        ["predictor", "KiB", "a.npz", "b.gz"],
        ["bimodal-64", "64.0", rate, rate],
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("record", "nothing-such"), "there is no program nothing-such: name an installed program or the path of one"),
        (
            ("record", "-o", "absent/t.npz", "true"),
            "absent/t.npz cannot be written: name a file in a folder that exists",
        ),
        (("score", "absent"), "absent cannot be read (No such file or directory): give a branch trace"),
        (("score", __file__), "is no branch trace: give a file of `mdfa branches record`, or of BT9 or CBP-2025"),
        (("score", "absent", "--predictors", "tage"), "unknown predictor 'tage'"),
    ],
)
def test_mistakes_are_one_sentence(mdfa: Callable[..., Done], words: tuple[str, ...], message: str) -> None:
    if words[0] == "record" and shutil.which(EMULATOR) is None:
        pytest.skip(f"{EMULATOR} is not installed")
    done = mdfa("branches", *words)

    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1
