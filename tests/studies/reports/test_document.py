from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mdfa_core.base.errors import InvalidValue
from mdfa_core.runs.records import Record
from mdfa_core.runs.store import Store
from mdfa_core.studies import reports
from mdfa_core.studies.paper.claims import CLAIMS
from mdfa_core.studies.paper.propositions import PROPOSITIONS, Grade, Tally
from mdfa_core.studies.paper.published import CELLS, TABLES
from mdfa_core.studies.reports.document import Judged, duration, report
from mdfa_core.studies.reports.results import CellResult, results
from tests.studies.reports.made_up import PROVENANCE, fill, record_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Reader(HTMLParser):
    """Notes what a browser would load, identifiers, links, text, and whether elements are nested rightly."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loaded += [str(given[name]) for name in ("src", "data", "poster", "srcset") if name in given]
        if tag == "link":
            self.loaded.append(str(given.get("href")))
        if tag == "a":
            self.links.append(str(given["href"]))
        if "id" in given:
            self.ids.append(str(given["id"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" not in self.open and "style" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def page(found: tuple[CellResult, ...]) -> str:
    return reports.html(found)


@pytest.fixture(scope="module")
def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_the_page_loads_nothing_and_is_well_formed(page: str, read: Reader) -> None:
    assert read.loaded == []
    assert read.open == []
    assert len(read.ids) == len(set(read.ids))
    for link in read.links:
        assert link.startswith("#")
        assert link[1:] in read.ids
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style


def test_the_page_says_everything(read: Reader) -> None:
    text = " ".join(read.text.split())
    assert f"36 of {len(CELLS)} cells were run" in text
    assert "Table 6 was run on imagefolder at 64×64 pixels" in text
    for name in CLAIMS:
        assert f"claim-{name}" in read.ids
    for name in PROPOSITIONS:
        assert f"proposition-{name}" in read.ids
    for cell in (CELLS["table-1/fc/tanh/mdfa/2"], CELLS["table-2/conv/relu/bp/2"]):
        assert str(cell.published["train"]) in text
    assert "not run" in text
    for value in (PROVENANCE.machine, PROVENANCE.commit, PROVENANCE.command, PROVENANCE.torch):
        assert str(value) in text
    assert "01" * 32 in text  # a task's checksum
    assert "feedback init normal:1, forward init zeros, learning rate 0.01" in text
    assert "all × 2 epochs × 1 tasks; 1 × 4 epochs × 2 tasks" in text


def test_markdown_says_the_same_numbers(found: tuple[CellResult, ...], read: Reader) -> None:
    text, told = reports.markdown(found), report(found)
    plain = " ".join(read.text.split())
    for verdict in told.verdicts:
        for form in (text, plain):
            assert verdict.proposition.says in form
            assert verdict.tally.headline in form
            assert verdict.tally.symbols in form
    for frame in told.cases:
        for row in frame.to_dict("records"):
            assert all(str(value) in text and str(value) in plain for value in row.values())
    for form in (text, plain):
        assert form.count("the lowest sign agreement of unit errors at any probe") == 2  # Tables 1 and 6
    assert "{{" not in text
    assert "\n\n\n\n" not in text


@pytest.mark.parametrize(
    ("grades", "strictly"),
    [
        ((Grade.SHOWN, Grade.TIE), "yes"),
        ((Grade.SHOWN, Grade.AGREES), "open"),
        ((Grade.SHOWN, Grade.NOT_RUN), "open"),
        ((Grade.SHOWN, Grade.DISAGREES), "no"),
        ((Grade.CONTRADICTED,), "no"),
        ((), ""),
    ],
)
def test_a_sentence_read_strictly(grades: tuple[Grade, ...], strictly: str) -> None:
    tally = Tally(counts=dict.fromkeys(grades, 1), borrowed=0, paper=0, printed=0, pooled=None, effect="")
    name, claim = next(iter(CLAIMS.items()))
    assert Judged(number=1, name=name, claim=claim, tally=tally, propositions=()).strictly == strictly


def test_what_every_measured_cell_shows_is_not_called_untested(found: tuple[CellResult, ...]) -> None:
    claims = {one.name: one for one in report(found).claims}
    assert len(claims) == len(CLAIMS)
    assert claims["introduction-sign"].tally.headline == "holds in 6 of 6"
    assert claims["limited-to-scalar"].tally.headline == "holds in 3 of 3"
    text = reports.markdown(found)
    assert "the tables cannot decide it: `mdfa bench` times a step" in text
    for name in ("abstract-surpasses", "conclusion-superior"):
        assert claims[name].tally == claims["introduction-surpasses"].tally
        assert claims[name].propositions == ("surpasses",)


@pytest.mark.usefixtures("unplotted")
def test_cells_that_were_not_tuned_are_told(found: tuple[CellResult, ...]) -> None:
    cell, source = CELLS["table-1/fc/tanh/mdfa/2"], CELLS["table-1/fc/relu/mdfa/2"]
    lent = [replace(result, tuned_for=source) if result.cell == cell else result for result in found]
    told = report(lent)
    assert report(found).borrowed == 0
    assert (told.borrowed, [section.borrowed for section in told.sections]) == (1, [1, 0, 0, 0, 0, 0])
    by_name = {verdict.name: verdict for verdict in told.verdicts}
    assert by_name["zero-error"].tally.borrowed == 1
    marked = [one.symbol for one in by_name["zero-error"].cells if one.case.cell == cell]
    assert all(symbol.startswith("(") for symbol in marked)
    for form in (reports.markdown(lent), " ".join(re.sub("<[^>]+>", "", reports.html(lent)).split())):
        assert "names another cell for 1 of the 36 cells" in form
        assert "24 of 24 cells were run on cifar100, 1 of them not tuned." in form
    for form in (reports.markdown(found), reports.html(found)):
        assert "not tuned" not in form.partition("Table 1: ")[0]


@pytest.mark.usefixtures("unplotted")
def test_toy_data_concludes_nothing(found: tuple[CellResult, ...]) -> None:
    """With every task, every search and every sign it would be judged on; and the report says why it is not."""

    def on_digits(record: Record) -> Record:
        return replace(record, experiment=record.experiment.replace(data="digits", network="fc:8", image_size=None))

    toy = [
        replace(result, chosen=replace(result.chosen, records=tuple(map(on_digits, result.chosen.records))))
        for result in found
    ]
    told = report(toy)
    assert any(verdict.tally.measured for verdict in report(found).verdicts)
    assert not any(verdict.tally.measured for verdict in told.verdicts)
    sentence = "36 of the 36 cells were run on toy data"
    for form in (reports.markdown, reports.html):
        assert sentence in " ".join(form(toy).split())
        assert "Table 1: Binary CIFAR-100. TOY DATA (digits)" in " ".join(form(toy).split())
        assert sentence not in " ".join(form(found).split())
        assert "TOY DATA" not in form(found)


@pytest.mark.usefixtures("unplotted")
def test_every_other_look_at_a_cells_test_images_is_told(store: Store) -> None:
    cell = CELLS["table-1/fc/tanh/mdfa/2"]
    fill(store, [cell])
    assert report(results(store)).besides.empty
    for form in (reports.markdown, reports.html):
        assert "The store has no such run." in form(results(store))

    runs = [record_of(cell, task, 0.9, 0.8) for task in range(3)]
    changed = [replace(run, experiment=run.experiment.replace(epochs=20, learning_rate=0.5)) for run in runs]
    store.add([*changed, replace(runs[0], checksum="other data")])
    told = report(results(store)).besides
    by_runs = dict(zip(told["runs"], told["settings"], strict=True))
    assert len(told) == 2
    chosen = "forward init normal:0.1, optimizer sgd, learning rate"
    assert by_runs == {"3": f"{chosen} 0.5, epochs 20", "1": f"{chosen} 0.01"}
    for form in (reports.markdown, reports.html):
        assert f"{chosen} 0.5, epochs 20" in form(results(store))


def test_a_report_on_nothing(store: Store) -> None:
    found = results(store)
    page, text = reports.html(found), reports.markdown(found)
    for form in (page, text):
        assert f"0 of {len(CELLS)}" in form
    assert "Bokeh" not in page
    content = report(found)
    assert (content.run, content.provenance.empty, content.largest.empty) == (0, True, True)


def test_names_cannot_become_markup(store: Store) -> None:
    found = results(store)
    assert "&lt;i&gt;" in reports.html([replace(found[0], profile="quick@<i>"), *found[1:]])


def test_files_are_written(store: Store, tmp_path: Path) -> None:
    fill(store, [CELLS["table-1/fc/tanh/mdfa/2"], CELLS["table-1/fc/tanh/bp/2"]], tasks=2)
    paths = reports.write(store, tmp_path / "a" / "b", "quick")
    names = {path.name for path in paths}
    assert {"report.html", "report.md", "figures.csv"} <= names
    assert {f"table_{n}.{ending}" for n in TABLES for ending in ("md", "tex", "csv")} <= names
    assert all(path.stat().st_size for path in paths)
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidValue, match=r"cannot be written to .*file"):
        reports.write(store, tmp_path / "file", "quick")


@pytest.mark.parametrize(("seconds", "words"), [(3.25, "3.2 s"), (120.0, "2 min"), (9000.0, "2.5 h")])
def test_durations_are_spoken(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_works_without_a_network(page: str, browser: Browser, tmp_path: Path, scheme: str) -> None:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    context = browser.new_context(color_scheme=scheme, offline=True)  # type: ignore[arg-type]
    try:
        tab = context.new_page()
        tab.set_default_timeout(120_000)  # milliseconds; a busy machine draws 34 plots slowly
        requested: list[str] = []
        wrong: list[str] = []
        tab.on("request", lambda request: requested.append(request.url))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        tab.goto(file.as_uri())
        tab.wait_for_function("window.Bokeh && Bokeh.documents.length && document.querySelector('.plots > div > div')")
        tab.wait_for_function(
            """() => {
              const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
              const models = Bokeh.documents.flatMap((one) => [...one._all_models.values()]);
              const axes = models.filter((model) => model.type.endsWith("Axis"));
              const bp = models.filter((model) => model.tags[0] === "--rule0");
              const rule = getComputedStyle(document.documentElement).getPropertyValue("--rule0").trim();
              return axes.length && axes.every((axis) => axis.major_label_text_color === ink) &&
                bp.length && bp.every((line) => line.line_color.value === rule);
            }"""
        )
        assert requested == [file.as_uri()]
        assert wrong == []
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    finally:
        context.close()
