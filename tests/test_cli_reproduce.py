"""`mdfa reproduce`: what it runs, what it writes, what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest

from mdfa_core import batch, cli
from mdfa_core.cli import main
from mdfa_core.paper import recipes
from mdfa_core.paper.recipes import CELLS, PROFILES
from mdfa_core.store import STORE_VARIABLE, Store


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(STORE_VARIABLE, raising=False)


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["reproduce", *arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # papermill's client warns about itself
def test_a_table_end_to_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its notebook runs what was asked for and nothing else."""
    only = ("--networks", "fc", "--activations", "tanh", "--classes", "2,3")
    assert _run("1", "3", "report", "--methods", "mdfa,bp", *only, "--out", "done") == 0

    out, _ = capfd.readouterr()
    assert out.startswith("smoke: 4 cells, about ")
    assert "wrote done/report.html" in out
    with Store("runs.sqlite", read_only=True) as store:
        wanted = {f"smoke/table-{table}/fc/tanh/{method}" for table in ("1", "3") for method in ("mdfa", "bp")}
        assert {name.rpartition("/")[0] for name in store.notes("cell")} == wanted
        keys = store.notes("cell")["smoke/table-3/fc/tanh/mdfa/3"]["keys"]
        accuracies = [store.named(key).test_accuracy for key in keys]  # type: ignore[union-attr]
    done = tmp_path / "done"
    written = {path.name for path in done.iterdir()}
    tables = {f"table_{number}.{ending}" for number in range(1, 7) for ending in ("md", "tex", "csv")}
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
        rows = {(row["method"], row["split"]): row for row in found}
    assert set(rows) == {(method, split) for method in ("mdfa", "bp") for split in ("train", "test")}
    mean = sum(accuracies) / len(accuracies)
    assert float(rows["mdfa", "test"]["mean"]) == pytest.approx(100 * mean)


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What each notebook would have been given; none is run, and nothing is trained."""
    given: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr(cli.running, "estimate", lambda *_, **__: "no time at all")
    monkeypatch.setattr(cli.running, "fill", lambda *_, **__: None)
    monkeypatch.setattr(cli.batch, "execute", lambda name, _, parameters, **__: given.setdefault(name, parameters))
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


@pytest.mark.parametrize("table", range(1, 7))
def test_a_notebook_takes_all_that_narrows_its_table(table: int) -> None:
    """What it does not take it would run although it was left out."""
    narrowing = {"methods", "activations", "networks", "classes", "seeds", "epochs"}
    if any(cell.table == table and recipes.base(cell, PROFILES["quick"]).image_size for cell in CELLS.values()):
        narrowing.add("image_size")

    assert narrowing <= set(papermill.inspect_notebook(batch.folder() / f"table_{table}.ipynb"))


def test_a_table_without_a_cell_that_was_asked_for_is_left_out(
    executed: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("1", "3", "--classes", "3") == 0

    assert list(executed) == ["table_3"]
    assert "table 1 has no cell with all that was asked for: its notebook is left out\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("what", "writes"), [(["figure_1", "theorem_2"], False), (["report"], True), (["2", "figure_1"], True), ([], True)]
)
def test_a_report_is_written_only_if_something_of_it_was_asked_for(
    what: list[str], writes: bool, executed: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    old = "of another plan"
    (tmp_path / "out").mkdir()
    for name in ("report.html", "table_1.csv"):
        (tmp_path / "out" / name).write_text(old, encoding="utf-8")

    assert _run(*what, "--out", "out") == 0

    assert set(executed) >= {name for name in what if not name.isdigit()}
    for name in ("report.html", "table_1.csv"):
        assert ((tmp_path / "out" / name).read_text(encoding="utf-8") != old) is writes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["8"], "unknown table or notebook 'table_8'"),
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


def test_a_folder_that_cannot_be_made_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("", encoding="utf-8")

    assert _run("1", "--out", "file/folder") == 2
    assert "cannot be made" in capsys.readouterr().err
