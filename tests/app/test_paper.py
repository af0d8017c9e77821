"""The paper's tables on the page: figures, what is said of a cell, and its run as a configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from app import link, paper
from app.details import TABS
from app.limits import LIMITS
from app.messages import State
from app.page import Page
from app.presets import PRESETS
from mdfa_core import Experiment
from mdfa_core.errors import UnknownName
from mdfa_core.paper.published import CELLS, TABLES, Cell
from mdfa_core.paper.recipes import tuned
from mdfa_core.paper.reproduced import Reproduced, reproduced
from mdfa_core.paper.statistics import Scores

RUN = next(cell for cell in CELLS.values() if reproduced(cell) and tuned(cell).source == cell)
FIRST_OF_TABLE_2 = CELLS["table-2/fc/tanh/bp/2"]
TOO_LARGE = CELLS["table-6/conv/tanh/mdfa/10"]


@pytest.fixture
def page(wait_until: Callable[..., None]) -> Iterator[Page]:
    made = Page(None)
    wait_until(lambda: made.drain() is None and made.state is State.IDLE, "a page at rest")
    yield made
    made.close(None)
    assert made.trainer.join(30)


def text(markup: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", markup).split())


@pytest.mark.parametrize("number", TABLES)
def test_a_table_has_every_cell_with_the_printed_figures_and_ours(number: int) -> None:
    rows = dict(re.findall(r'<tr[^>]*data-pick="cell:([^"]+)">(.*?)</tr>', paper.draw(number, ""), re.DOTALL))
    cells = [cell for cell in CELLS.values() if cell.table == number]
    assert list(rows) == [cell.name for cell in cells]
    for cell in cells:
        here, shown = reproduced(cell), text(rows[cell.name])
        for split, figure in cell.published.items():
            ours = str(here.scores[split]) if here and split in here.scores else paper.NOT_RUN
            assert f"{figure} {ours}" in shown


@pytest.mark.parametrize("cell", CELLS.values(), ids=list(CELLS))
def test_a_cell_is_a_link_and_a_run_of_the_papers_own_data(cell: Cell) -> None:
    state = link.of_preset(cell.name)
    experiment = state.settings
    assert state.rules == (cell.method,)
    assert experiment.data == {"CIFAR-100": "cifar100", "ImageNet": "imagefolder"}[TABLES[cell.table].data]
    assert experiment.classes == cell.classes
    assert experiment.activation == cell.activation
    for name, value in tuned(cell).settings.items():
        assert getattr(experiment, name) == value
    if LIMITS.fits(experiment):
        assert link.read(link.write(state), tabs=tuple(TABS)) == (state, [])


def test_what_is_said_of_a_cell_is_what_is_known() -> None:
    here = reproduced(RUN)
    assert here is not None
    said = paper.preset(RUN.name)
    for split in RUN.splits:
        assert f"{RUN.published[split]} %" in said.claim
        assert f"{here.scores[split]} %" in said.claim
    assert "the settings tuned for it" in said.look
    assert f"with settings tuned for it (profile {here.profile})" in said.claim
    other = next(cell for cell in CELLS.values() if reproduced(cell) is None and tuned(cell).source != cell)
    said = paper.preset(other.name)
    assert "has not run this cell" in said.claim
    assert "settings tuned for Table" in said.look
    assert paper.preset("relu") is PRESETS["relu"]
    with pytest.raises(UnknownName, match="unknown preset 'nothing'"):
        paper.preset("nothing")


def test_a_cell_that_was_not_tuned_is_marked_and_says_whose_settings_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    lent = Reproduced(
        data="imagefolder at 64×64 pixels",
        profile="quick",
        tuned_for=RUN,
        scores={split: Scores.of({0: 50.0, 1: 60.0}) for split in FIRST_OF_TABLE_2.splits},
    )
    monkeypatch.setattr(paper, "reproduced", lambda cell: lent if cell == FIRST_OF_TABLE_2 else None)
    name, legend = paper.preset(RUN.name).title, f"{paper.UNTUNED} This cell was not tuned"
    row = re.findall(r'data-pick="cell:([^"]+)">(.*?)</tr>', paper.draw(2, ""), re.DOTALL)
    marked = [picked for picked, shown in row if paper.UNTUNED in text(shown)]
    assert marked == [FIRST_OF_TABLE_2.name]
    shown = dict(row)[FIRST_OF_TABLE_2.name]
    assert shown.count(paper.UNTUNED) == 2
    assert f"over 2 tasks, with settings tuned for {name} and not for it (profile quick)" in shown
    assert f"with settings tuned for {name} and not for it (profile quick)" in paper.preset(FIRST_OF_TABLE_2.name).claim
    pane = paper.PaperPane(lambda _word: None)
    assert legend not in pane._caption.object
    pane.show(FIRST_OF_TABLE_2.name)
    assert legend in pane._caption.object


def test_picking_a_cell_loads_its_run_though_its_data_is_not_here(page: Page, wait_until: Callable[..., None]) -> None:
    page.details.choice.value = "paper"
    page.paper.table.pick(f"cell:{RUN.name}")
    assert page.compared == (RUN.method,)
    assert page.controls.experiment() == page.experiment == link.of_preset(RUN.name).settings
    assert page.claim.object.startswith(f"<h2>{paper.preset(RUN.name).title}</h2>")
    assert page.presets.value == RUN.name
    assert page.details.tab == "paper"
    assert page.paper.table.html.count("drawn") == 1
    wait_until(lambda: page.drain() is None and page.state is State.IDLE, "the answer")
    assert "CIFAR-100 is not on this server yet: Start fetches it" in page.status.object
    page.controls.next_seed()
    assert "changed since" in page.claim.object


def test_a_cell_of_image_folders_says_that_nothing_can_be_fetched(page: Page, wait_until: Callable[..., None]) -> None:
    page.paper.table.pick(f"cell:{FIRST_OF_TABLE_2.name}")
    wait_until(lambda: page.drain() is None and page.state is State.IDLE, "the answer")
    assert "Start says what is missing" in page.status.object
    page.controls.data.value = "digits"  # images of another size
    assert "Not possible" not in page.status.object
    assert page.experiment.image_size is None
    page.presets.value = "one-output"
    assert page.paper.table.html.count("drawn") == 0
    assert FIRST_OF_TABLE_2.name not in page.presets.options.values()


def test_a_cell_that_is_too_large_for_the_server_is_refused_and_nothing_changes(page: Page) -> None:
    before: tuple[Experiment, int] = (page.experiment, page._number)
    page.details.choice.value = "paper"
    page.paper.table.pick(f"cell:{TOO_LARGE.name}")
    assert "billion multiplications" in page.status.object
    assert "billion multiplications" in page.details._words.object  # where the visitor looks
    assert (page.experiment, page._number) == before
    for word in ("cell:table-9/fc", "cell:<b>"):
        page.paper.table.pick(word)
    assert (page.experiment, page._number) == before
