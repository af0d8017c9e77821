"""The pages of the branch study agree with its measurements."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "docs" / "results"


def decimals(page: str) -> set[str]:
    """The numbers with a decimal point in a page's text, without sign, table names and code."""
    return set(re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\])", re.sub(r"```.*?```", "", page, flags=re.DOTALL)))


def test_the_tables_are_those_of_the_measurements() -> None:
    pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install 'mdfa-lab[results]'")
    page = runpy.run_path(str(ROOT / "studies" / "branch_figures.py"))["page"]

    assert page() == (RESULTS / "branch_tables.md").read_text(encoding="utf-8"), "run python studies/branch_figures.py"


def test_rows_of_several_days_and_machines_are_all_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install 'mdfa-lab[results]'")
    monkeypatch.syspath_prepend(str(ROOT / "studies"))
    study = runpy.run_path(str(ROOT / "studies" / "branch_study.py"))
    first = study["here"]() | {"date": "2026-01-02", "machine": "another"}
    found = study["places"]({"a": 1, "b": 2, "c": 3, "threads": {}, "measured": {"a": first, "b": study["here"]()}})

    assert [place["rows"] for place in found] == [["a"], ["b"], ["c"]]
    assert found[0] == {**first, "rows": ["a"]}
    assert found[2]["machine"] == "not recorded"
    figures = runpy.run_path(str(ROOT / "studies" / "branch_figures.py"))
    assert figures["measured"]() == ""
    figures["STUDY"]["measured"] = found
    assert "2026-01-02, another, Python" in figures["measured"]()
    assert "not recorded, not recorded, Python not recorded" in figures["page"]()


def test_the_verdict_quotes_mispredictions_from_the_tables() -> None:
    verdict, method, tables = (
        (RESULTS / f"{name}.md").read_text(encoding="utf-8") for name in ("branches", "branch_method", "branch_tables")
    )
    mispredictions = verdict.split("## Mispredictions")[1].split("##")[0]

    assert len(decimals(mispredictions)) > 10
    assert decimals(mispredictions) <= decimals(tables) | decimals(method)
