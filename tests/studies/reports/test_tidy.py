from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mdfa_core.base.errors import InvalidValue
from mdfa_core.runs.store import Store
from mdfa_core.studies.paper.measures import printed
from mdfa_core.studies.paper.published import CELLS
from mdfa_core.studies.reports import select, tidy
from mdfa_core.studies.reports.results import CellResult, evidence, results
from tests.studies.reports.made_up import fill, note_of, record_of, search_of


@pytest.fixture(scope="module")
def table(filled: Store, found: tuple[CellResult, ...]) -> pd.DataFrame:
    return tidy.frame(filled, found)


def test_one_line_reads_the_file(table: pd.DataFrame, tmp_path: Path) -> None:
    for name in ("results.csv", "results.csv.gz", "results.parquet"):
        tidy.write(table, tmp_path / name)
    for read in (pd.read_csv(tmp_path / "results.csv.gz"), pd.read_csv(tmp_path / "results.csv")):
        assert list(read) == list(tidy.COLUMNS)
        assert read["value"].tolist() == table["value"].tolist()  # all digits
    assert pd.read_parquet(tmp_path / "results.parquet").equals(table)
    before = (tmp_path / "results.csv.gz").read_bytes()
    tidy.write(table, tmp_path / "results.csv.gz")
    assert (tmp_path / "results.csv.gz").read_bytes() == before


def test_accuracies_are_those_of_the_results(table: pd.DataFrame, found: tuple[CellResult, ...]) -> None:
    tested, trained = select.tested(table).groupby("cell")["value"], select.best(table).groupby("cell")["value"]
    for result in found:
        for split in result.cell.splits:
            scores = result.scores(printed(split))
            values = trained if split == "train" else tested
            if scores is None:
                assert result.cell.name not in values.groups
            elif min(scores.tasks.values()) > 50:  # made-up curves begin at 50 %
                assert values.get_group(result.cell.name).tolist() == pytest.approx(list(scores.tasks.values()))


def test_every_quantity_of_a_run_has_its_rows(table: pd.DataFrame, found: tuple[CellResult, ...]) -> None:
    result = next(result for result in found if result.cell.name == "table-1/fc/tanh/mdfa/2")
    record = next(iter(result.chosen.records))
    rows = table[(table["run"] == record.key[:12]) & (table["role"] == "chosen")]
    assert set(rows["quantity"]) <= set(tidy.QUANTITIES)
    at = rows.set_index(["quantity", "epoch"])["value"]
    assert at["train"].tolist() == pytest.approx([100 * point.train_accuracy for point in record.curve])
    assert at["agreement_unit"].tolist() == [100 * (probe.unit or 0) for probe in record.probes]
    assert at["test", record.best_validation_epoch] == pytest.approx(100 * (record.test_accuracy or 0))


def test_the_papers_figures_are_in_it(table: pd.DataFrame) -> None:
    rows = table[table["role"] == "paper"].set_index(["cell", "quantity"])["value"]
    for cell in CELLS.values():
        for split, figure in cell.published.items():
            quantity = "train" if split == "train" else "test"
            assert (rows[cell.name, quantity], rows[cell.name, f"{quantity}_std"]) == (figure.mean, figure.std)


@pytest.mark.parametrize(("fitted", "role", "best"), [(0.9, "best fit", 90), (0.7, "fit tried", 80)])
def test_roles(fitted: float, role: str, best: float, tmp_path: Path) -> None:
    """Chosen, what fitted best in the search, the runs of the search, and another evaluation of the test images."""
    cell = CELLS["table-1/fc/tanh/mdfa/2"]
    with Store(tmp_path / "runs.sqlite") as store:
        fill(store, [cell], tasks=2)
        search = next(result.search for result in results(store) if result.search is not None)
        chosen = [record_of(cell, task, 0.8, 0.7, checksum="chosen" * 4) for task in range(2)]
        better = [record_of(cell, task, fitted, None, sealed=True, checksum="fit" * 4) for task in range(2)]
        tried = record_of(cell, 0, 0.6, None, sealed=True)
        settings = search.trials[0].settings
        tried = record_of(
            cell, 0, 0.6, None, sealed=True,
            experiment=tried.experiment.replace(**settings, epochs=search.rungs[0].epochs), curve=tried.curve[:2],
            best_validation_epoch=2,
        )  # fmt: skip
        other = record_of(cell, 0, 0.5, 0.4, checksum="another" * 4)
        store.add([*chosen, *better, tried, other])
        note = note_of(cell, chosen)
        store.put(note_of(cell, chosen, fit=type(note.chosen)(settings={}, keys=tuple(r.key for r in better))))
        table = tidy.frame(store, results(store))
    runs = table[table["cell"] == cell.name].drop_duplicates(["role", "run"]).groupby("role")["run"].apply(set)
    assert runs[role] == {record.key[:12] for record in better}
    assert len({"best fit", "fit tried"} & set(runs.index)) == 1
    assert tried.key[:12] in runs["search"]
    assert other.key[:12] in runs["besides"]
    assert select.best(table)["value"].tolist() == pytest.approx([best, best])
    assert select.best(table, "chosen")["value"].max() < 90


def test_the_runs_of_a_search_on_chosen_tasks_are_found(tmp_path: Path) -> None:
    cell, changed = CELLS["table-1/fc/tanh/mdfa/2"], "seeds=4,6"
    search = replace(search_of(cell), name=f"full/{cell.name}@{changed}")
    with Store(tmp_path / "runs.sqlite") as store:
        chosen = [record_of(cell, task, 0.8, 0.7) for task in (4, 6)]
        tried = [
            replace(
                (made := record_of(cell, task, 0.6, None, sealed=True, checksum=f"{n}{task}" * 32)),
                experiment=made.experiment.replace(**trial.settings, epochs=search.rungs[trial.rung].epochs),
                curve=made.curve[:2],
                best_validation_epoch=2,
            )
            for n, trial in enumerate(search.trials)
            for task in (4, 6)[: search.rungs[trial.rung].tasks]
        ]
        store.add([*chosen, *tried])
        store.put(search)
        store.put(note_of(cell, chosen, f"full@{changed}", search=search.name))
        table = tidy.frame(store, results(store))
    rows = table[table["role"] == "search"].drop_duplicates("run")
    assert set(rows["run"]) == {record.key[:12] for record in tried}
    assert sorted(rows["task"]) == [4, 4, 4, 4, 4, 6]


def test_a_task_with_several_seeds_counts_as_their_mean(table: pd.DataFrame) -> None:
    cell = "table-1/fc/tanh/mdfa/2"
    first = table[(table["cell"] == cell) & (table["task"] == 0)]
    other = first.assign(run="another seed", seed=1000, value=first["value"] / 2)
    for values in (select.tested, select.best):
        before, after = (values(t)[lambda rows: rows["cell"] == cell] for t in (table, pd.concat([table, other])))
        assert after["value"].tolist() == pytest.approx([0.75 * before["value"].iloc[0], *before["value"].iloc[1:]])


def test_verdicts_are_recomputed_from_the_table(table: pd.DataFrame, found: tuple[CellResult, ...]) -> None:
    ours, theirs = select.evidence(table), evidence(found)
    assert ours.borrowed == theirs.borrowed
    assert ours.scores.keys() == theirs.scores.keys()
    for cell, curves in theirs.curves.items():
        assert ours.curves[cell] == curves
    for cell, values in theirs.agreement.items():
        assert ours.agreement[cell] == pytest.approx(values)
    assert not select.evidence(table.assign(data="digits")).scores


def test_another_ending(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match=r"has an unknown ending: use \.csv, \.csv\.gz or \.parquet"):
        tidy.write(table, tmp_path / "results.xlsx")
    with pytest.raises(InvalidValue, match="cannot be written"):
        tidy.write(table, tmp_path / "no folder" / "results.csv")
