"""`mdfa reproduce`: what it runs, what it writes, what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path

import nbformat
import pytest

from mdfa_core.cli import main
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
    assert _run("3", "report", "--methods", "mdfa,bp", "--classes", "3", "--out", "done") == 0

    out, _ = capfd.readouterr()
    assert out.startswith("smoke: 2 cells, at most ")
    assert "wrote done/report.html" in out
    with Store("runs.sqlite", read_only=True) as store:
        assert set(store.notes("cell")) == {"smoke/table-3/fc/tanh/mdfa/3", "smoke/table-3/fc/tanh/bp/3"}
        keys = store.notes("cell")["smoke/table-3/fc/tanh/mdfa/3"]["keys"]
        accuracies = [store.named(key).test_accuracy for key in keys]  # type: ignore[union-attr]
    done = tmp_path / "done"
    written = {path.name for path in done.iterdir()}
    tables = {f"table_{number}.{ending}" for number in range(1, 7) for ending in ("md", "tex", "csv")}
    assert written == {"table_3.ipynb", "report.ipynb", "report.html", "report.md", "figures.csv", *tables}
    for name in ("table_3.ipynb", "report.ipynb"):
        cells = nbformat.read(done / name, as_version=4).cells
        assert any(cell.get("outputs") for cell in cells)
    with (done / "figures.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["method"], row["split"]): row for row in csv.DictReader(file) if row["mean"]}
    assert set(rows) == {(method, split) for method in ("mdfa", "bp") for split in ("train", "test")}
    mean = sum(accuracies) / len(accuracies)
    assert float(rows["mdfa", "test"]["mean"]) == pytest.approx(100 * mean)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["8"], "unknown table or notebook 'table_8'"),
        (["1", "--profile", "huge"], "unknown profile 'huge'"),
        (["1", "--methods", "sgd"], "unknown method 'sgd'"),
        (["1", "--cluster", "local:none", "--methods", "bp"], "the cluster is 'local:none'"),
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
