"""Whatever is typed or read, the command prints one line and exits with 2, without a traceback."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mdfa_core.cli import main
from mdfa_core.cli.program import TRACEBACK_VARIABLE
from mdfa_core.runs.store import Store
from tests.support.commands import SMALL, Done, environment
from tests.support.synthetic_records import PROVENANCE, record

Call = Callable[..., Done]


def _assert_one_line(done: Done) -> str:
    assert done.code == 2
    assert done.err.startswith("mdfa: ")
    assert done.err.count("\n") == 1
    assert done.err.strip().isprintable()
    assert "program itself" not in done.err
    assert len(done.err) < 2000
    return done.err


REFUSED = [
    ("train", "--floor", "1e39"),
    ("train", "--l2", "1e39"),
    ("train", "--learning-rate", "4e38"),
    ("train", "--learning-rate", "1e400"),
    ("train", "--forward-init", "normal:1e39"),
    ("train", "--feedback-init", "uniform:1e308"),
    ("train", "--batch-size", "9" * 30),
    ("train", "--outputs", str(2**32)),
    ("train", "--image-size", str(2**63)),
    ("train", "--epochs", "9" * 5000),
    ("train", "--replicas", "999999999"),
    ("train", "--threads", "9" * 30),
    ("train", "--network", "fc:" + "9" * 5000),
    ("train", "--network", "fc:" + "9" * 20),
    ("train", "--data", "x" * 10**6),
    ("train", "--" + "x" * 10**6),
    ("train", "--data", "\x1b]0;title\x07"),
    ("train", "--data", "\udcff\udcfe"),
    ("train", "--save", "n" * 300),
    ("train", "--config", "\udcff"),
    ("train", "--config", "/dev/zero"),
    ("train", "--resume", "\udcff"),
    ("train", "--resume", "/dev/zero"),
    ("runs", "list", "--store", "\udcff"),
    ("runs", "list", "--where", "seed=" + "9" * 5000),
    ("runs", "show", "\x1b[2J"),
    ("runs", "merge", "/dev/null"),
    ("reproduce", "\x1b[2J"),
    ("reproduce", "--cluster", "\x1b[2J"),
    ("data", "check", "\x1b[2J"),
    ("\x1b[2J",),
]


@pytest.mark.parametrize("arguments", REFUSED, ids=range(len(REFUSED)))
def test_arguments_of_any_kind_are_refused_in_one_line(arguments: tuple[str, ...], mdfa: Call) -> None:
    _assert_one_line(mdfa(*arguments))


@pytest.mark.parametrize(
    "text",
    ["[" * 10**6, '{"floor":' * 10**5, "[]", "NaN", '{"floor": 1e39}', '{"floor": NaN}', '{"epochs": 1e400}',
     '{"data": ["digits"]}', '{"data": {}}', '{"network": [[1]]}', '{"\\ud800": 1}', '{"method": "\\u001b[2J"}',
     '{"batch_size": 18446744073709551616}', " " * 10**7, "\x00"],
    ids=range(15),
)  # fmt: skip
def test_configurations_of_any_kind_are_refused_in_one_line(text: str, mdfa: Call, folder: Path) -> None:
    (folder / "config.json").write_text(text)

    _assert_one_line(mdfa("train", "--config", "config.json"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "arguments",
    [("train", *SMALL, "--json"), ("runs", "list", "--store", "runs.sqlite")],
    ids=range(2),
)
def test_output_into_a_full_disk_is_one_line(arguments: tuple[str, ...], folder: Path) -> None:
    with Store(folder / "runs.sqlite") as store:
        store.add([record(1)])
    command = [sys.executable, "-m", "mdfa_core", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=120, env=environment()
        )

    assert "No space left" in _assert_one_line(Done(done.returncode, "", done.stderr))


def test_a_file_that_cannot_be_written_is_one_line(mdfa: Call, folder: Path) -> None:
    (folder / "file").write_text("")

    _assert_one_line(mdfa("reproduce", "theorem_2", "--out", "file/below"))
    _assert_one_line(mdfa("bench", "--json", "file/below.json"))


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device", "report.md"), MemoryError(), RecursionError()]
)
def test_errors_from_anywhere_are_one_line(error: BaseException, mdfa: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdfa_core.data.describe", mock.Mock(side_effect=error))

    done = mdfa("data", "list")

    assert (done.code, done.err.count("\n")) == (2, 1)
    if isinstance(error, RecursionError):  # a mistake of the program, which can be let through
        monkeypatch.setenv(TRACEBACK_VARIABLE, "1")
        with pytest.raises(RecursionError):
            main(["data", "list"])


# --------------------------------------------------------------------------------------------------- runs from others


def _imported(path: Path, text: str) -> str:
    """A store with a run whose texts are chosen by somebody else; returns the key."""
    made = replace(record(1), provenance=replace(PROVENANCE, machine=text, command=text, device=text))
    with Store(path) as store:
        store.add([made])
    return made.key


def test_control_characters_of_a_run_do_not_reach_the_terminal(mdfa: Call, folder: Path) -> None:
    key = _imported(folder / "runs.sqlite", "\x1b[31m\x07\x9b\r\n\u202e")

    for arguments in (("list",), ("show", key), ("show", key, "--json"), ("list", "--json")):
        done = mdfa("runs", *arguments)
        assert done.code == 0
        assert all(line.isprintable() for line in done.out.split("\n")), arguments
    assert "\\x1b[31m" in mdfa("runs", "show", key).out


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\n"])
def test_cells_of_a_csv_are_no_formulas(first: str, mdfa: Call, folder: Path) -> None:
    _imported(folder / "runs.sqlite", f"{first}cmd|' /C calc'!A0")

    assert mdfa("runs", "export", "runs.csv").code == 0

    with open(folder / "runs.csv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["machine"] == f"'{first}cmd|' /C calc'!A0"
    assert not [cell for cell in row.values() if cell[:1] in ("=", "+", "-", "@", "\t", "\r", "\n")]


def test_resuming_a_finished_run_prints_its_result(mdfa: Call) -> None:
    first = mdfa("train", *SMALL, "--save", "run.pt")
    first_json = mdfa("train", *SMALL, "--json")

    again = mdfa("train", "--resume", "run.pt")

    assert again.code == 0
    assert again.out.splitlines() == first.out.splitlines()[-1:]
    assert "nothing is left to train" in again.err
    assert mdfa("train", "--resume", "run.pt", "--json").out.splitlines() == first_json.out.splitlines()[-1:]


# ------------------------------------------------------------------------------------------------------------ anything

_ODD = st.sampled_from(
    ["", "0", "-1", "1", "2", "nan", "inf", "-inf", "1e39", "1e-50", "1e400", "9" * 30, "9" * 5000, "0x1", "1_0", "１",
     "none", "true", "a=b", "=", "seed=0", ",", ":", "fc:", "fc:2", "fc:-1", "conv:1/9/9", "normal:", "uniform:1e39",
     "\x1b[2J", "\udcff", "--", "-", "-h", "x" * 5000, "digits", "mdfa", "bp", "sgd", "run.pt", "runs.sqlite", "deep"]
)  # fmt: skip
_TEXT = st.text(st.characters(exclude_characters="\x00/"), max_size=20)
_VALUE = _ODD | _TEXT
_TRAIN = ["data", "outputs", "task-seed", "validation", "image-size", "activation", "forward-init", "convention"]
_TRAIN += ["precision", "method", "feedback-init", "floor", "optimizer", "learning-rate", "l2", "batch-size", "seed"]
_TRAIN += ["config", "replicas", "threads", "data-dir", "device", "probe", "save", "resume", "network"]
_RUNS = ["where", "data", "method", "network", "activation", "outputs", "store", "table", "json"]


def _options(names: list[str]) -> st.SearchStrategy[list[str]]:
    pair = st.tuples(st.sampled_from(names), _VALUE).map(lambda pair: [f"--{pair[0]}", pair[1]])
    return st.lists(pair | _VALUE.map(lambda text: [text]), max_size=4).map(lambda parts: list(itertools.chain(*parts)))


def _joined(parts: tuple[str, list[str]]) -> list[str]:
    return [parts[0], *parts[1]]


_COMMANDS = st.one_of(
    _options(_TRAIN).map(lambda rest: ["train", "--network", "fc:2", "--epochs", "1", *rest]),
    st.tuples(st.sampled_from(["list", "show", "export", "merge"]), _options(_RUNS)).map(
        lambda t: ["runs", t[0], *t[1]]
    ),
    st.tuples(st.sampled_from(["list", "check"]), _options(["data-dir", "json"])).map(lambda t: ["data", *_joined(t)]),
    _options(["profile", "methods", "seeds", "epochs", "out"]).map(lambda rest: ["reproduce", "--cluster", "?", *rest]),
    st.lists(_VALUE.filter(lambda text: text not in ("app", "bench")), max_size=3),
)


@pytest.mark.slow
@settings(
    max_examples=400,
    derandomize=True,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(arguments=_COMMANDS)
def test_whatever_is_typed_the_command_ends_in_order(arguments: list[str], folder: Path) -> None:
    (folder / "deep").write_text("[" * 10**5)
    if not (folder / "runs.sqlite").exists():
        _imported(folder / "runs.sqlite", "=1")
    out, err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as caught:
        main(arguments)
    code, said = caught.value.code, err.getvalue()
    assert code in (0, 2, 130), (arguments, said)
    assert "Traceback" not in said
    out.flush()
    if code == 2 and "Usage:" not in out.buffer.getvalue().decode():  # type: ignore[attr-defined]  # a bare group
        lines = [line for line in said.split("\n") if line]
        assert len(lines) == 1, (arguments, said)
        assert lines[0].startswith("mdfa: ")
        assert "program itself" not in said, (arguments, said)
