"""`mdfa reproduce`: what it runs, what it writes, what it refuses."""

from __future__ import annotations

import csv
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest

from mdfa_core.cli import main
from mdfa_core.runs import cluster
from mdfa_core.runs.notes import CellNote
from mdfa_core.runs.store import Store
from mdfa_core.studies import notebooks
from mdfa_core.studies.paper import from_texts, recipes
from mdfa_core.studies.paper.published import TABLES
from mdfa_core.studies.paper.recipes import CELLS, PROFILES
from tests.support.commands import environment, run_program


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["reproduce", *arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # papermill's client warns about itself
def test_a_table_end_to_end(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its notebook runs what was asked for and nothing else."""
    only = ("--networks", "fc", "--activations", "tanh", "--classes", "2,3")
    assert _run("1", "3", "report", "--methods", "mdfa,bp", *only, "--out", "done") == 0

    out, _ = capfd.readouterr()
    assert out.startswith("smoke: 4 cells, about ")
    assert "wrote done/report.html" in out
    with Store("runs.sqlite", read_only=True) as store:
        wanted = {f"smoke/table-{table}/fc/tanh/{method}" for table in ("1", "3") for method in ("mdfa", "bp")}
        assert {name.rpartition("/")[0] for name in store.notes(CellNote)} == wanted
        keys = store.notes(CellNote)["smoke/table-3/fc/tanh/mdfa/3"].chosen.keys
        accuracies = [store.named(key).test_accuracy for key in keys]  # type: ignore[union-attr]
    done = folder / "done"
    written = {path.name for path in done.iterdir()}
    tables = {f"table_{number}.{ending}" for number in TABLES for ending in ("md", "tex", "csv")}
    assert written == {
        "table_1.ipynb",
        "table_3.ipynb",
        "report.ipynb",
        "report.html",
        "report.md",
        "figures.csv",
        *tables,
    }
    for name in ("table_1.ipynb", "table_3.ipynb", "report.ipynb"):
        cells = nbformat.read(done / name, as_version=4).cells
        assert any(cell.get("outputs") for cell in cells)
    with (done / "figures.csv").open(encoding="utf-8", newline="") as file:
        found = [row for row in csv.DictReader(file) if row["mean"] and row["table"] == "3"]
        rows = {(row["method"], row["role"], row["quantity"]): row for row in found}
    assert {method for method, _, _ in rows} == {"mdfa", "bp"}
    assert {quantity for _, role, quantity in rows if role == "best fit"} >= {"train_best"}
    mean = sum(accuracies) / len(accuracies)
    assert float(rows["mdfa", "chosen", "test"]["mean"]) == pytest.approx(100 * mean)


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What each notebook would have been given; none is run, and nothing is trained."""
    given: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr(from_texts, "estimate", lambda *_, **__: "no time at all")
    monkeypatch.setattr(from_texts, "training_share", lambda *_, **__: 0.5)
    monkeypatch.setattr(from_texts, "fill", lambda *_, **__: None)
    monkeypatch.setattr(notebooks, "execute", lambda name, _, parameters, **__: given.setdefault(name, parameters))
    return given


def test_a_notebook_is_given_what_its_table_has(executed: dict[str, dict[str, Any]]) -> None:
    assert _run("1", "2", "3", "report", "--classes", "2,3", "--activations", "relu,tanh", "--image-size", "32") == 0

    kinds = ("classes", "activations", "networks")
    lists = {name: {kind: given[kind] for kind in kinds} for name, given in executed.items()}
    assert lists == {
        "table_1": {"classes": "2", "activations": "relu,tanh", "networks": ""},
        "table_2": {"classes": "2", "activations": "relu,tanh", "networks": ""},
        "table_3": {"classes": "3", "activations": "tanh", "networks": ""},
        "report": {"classes": "2,3", "activations": "relu,tanh", "networks": ""},
    }
    assert {given["image_size"] for given in executed.values()} == {32}


@pytest.mark.parametrize("table", TABLES)
def test_a_notebook_takes_all_that_narrows_its_table(table: int) -> None:
    """What it does not take it would run although it was left out."""
    narrowing = {"methods", "activations", "networks", "classes", "seeds", "epochs"}
    if any(cell.table == table and recipes.base(cell, PROFILES["quick"]).image_size for cell in CELLS.values()):
        narrowing.add("image_size")

    assert narrowing <= set(papermill.inspect_notebook(notebooks.folder() / f"{TABLES[table].notebook}.ipynb"))


def test_a_table_without_a_cell_that_was_asked_for_is_left_out(
    executed: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("1", "3", "--classes", "3") == 0

    assert list(executed) == ["table_3"]
    assert "table 1 has no cell with all of these choices: its notebook is not run\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("what", "writes"), [(["figure_1", "theorem_2"], False), (["report"], True), (["2", "figure_1"], True), ([], True)]
)
def test_a_report_is_written_only_if_something_of_it_was_asked_for(
    what: list[str], writes: bool, executed: dict[str, dict[str, Any]], folder: Path
) -> None:
    old = "of another plan"
    (folder / "out").mkdir()
    for name in ("report.html", "table_1.csv"):
        (folder / "out" / name).write_text(old, encoding="utf-8")

    assert _run(*what, "--out", "out") == 0

    assert set(executed) >= {name for name in what if not name.isdigit()}
    for name in ("report.html", "table_1.csv"):
        assert ((folder / "out" / name).read_text(encoding="utf-8") != old) is writes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["8"], "unknown table or notebook '8'"),
        (["1", "--profile", "huge"], "unknown profile 'huge'"),
        (["1", "--methods", "sgd"], "unknown method 'sgd'"),
        (["1", "--cluster", "local:none", "--methods", "bp"], "the cluster is 'local:none'"),
        (["figure_1", "--cluster", "everywhere"], "the cluster is 'everywhere'"),
        (["1", "--device", "tpu"], "tpu"),
        (["1", "--store", "no/such/runs.sqlite"], "does not exist"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(*arguments) == 2

    _, err = capsys.readouterr()
    assert message in err
    assert err.strip().count("\n") == 0


def test_a_scheduler_that_is_not_there_is_told_before_steps_are_timed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("distributed", reason="needs Dask: pip install -e '.[distributed]' in the clone")
    monkeypatch.setattr(cluster, "_PATIENCE", 0.5)
    monkeypatch.setattr(from_texts, "estimate", lambda *_given, **_more: pytest.fail("timed"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"

        assert _run("1", "--cluster", address) == 2
    out, err = capfd.readouterr()
    assert out == f"Connecting to {address}\n"
    assert err.startswith(f"mdfa: no scheduler answers at {address} ")
    assert err.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("", encoding="utf-8")

    assert _run("1", "--out", "file/folder") == 2
    assert "cannot be made" in capsys.readouterr().err


def test_without_papermill_the_extra_is_named_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    monkeypatch.setattr(notebooks, "find_spec", lambda name: None)

    assert _run("1") == 2
    assert capsys.readouterr().err == "mdfa: notebooks need papermill: run pip install 'mdfa-lab[notebooks]'\n"
    assert not list(folder.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits of a process")
def test_a_disk_that_fills_is_one_line_and_the_same_command_continues(folder: Path) -> None:
    arguments = ("reproduce", "1", "--networks", "fc", "--classes", "2", "--activations", "tanh", "--device", "cpu")
    limited = (
        "import resource, sys; from mdfa_core.cli import main; size = int(sys.argv[1]);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)); sys.exit(main(sys.argv[2:]))"
    )
    runs = 0
    for size in (20_000, 250_000):
        done = subprocess.run(
            [sys.executable, "-c", limited, str(size), *arguments],
            capture_output=True, text=True, check=False, timeout=300, cwd=folder, env=environment(),
        )  # fmt: skip
        said = [line for line in done.stderr.replace("\r", "\n").splitlines() if line.startswith("mdfa: ")]
        assert done.returncode == 2
        assert len(said) == 1
        assert "Traceback" not in done.stderr
        if size > 20_000:  # the size of an empty store
            with Store(folder / "runs.sqlite", read_only=True) as store:
                found = list(store.records())
            assert len(found) >= runs
            runs = len(found)
    assert runs > 0
    assert run_program(*arguments).code == 0
