"""The paper's tables on the page: figures, what is said of a cell, and its run as a configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from mdfa_app.page.controller import Page
from mdfa_app.settings import cells as cell_presets
from mdfa_app.settings import link
from mdfa_app.settings.cells import find_preset
from mdfa_app.settings.limits import LIMITS
from mdfa_app.settings.presets import PRESETS
from mdfa_app.tabs import TABS, paper
from mdfa_app.trainer.messages import Phase
from mdfa_core import Experiment
from mdfa_core.base.errors import UnknownName
from mdfa_core.studies.paper.measures import TESTED, TRAINED, TRAINED_CHOSEN, printed
from mdfa_core.studies.paper.published import CELLS, TABLES, Cell
from mdfa_core.studies.paper.recipes import tuned
from mdfa_core.studies.paper.reproduced import Reproduced, reproduced
from mdfa_core.studies.paper.statistics import Scores
from tests.app.visits import TabHost
from tests.support.patience import PATIENCE

RUN = next(cell for cell in CELLS.values() if reproduced(cell) and tuned(cell).source == cell)
FIRST_OF_TABLE_2 = CELLS["table-2/fc/tanh/bp/2"]
TOO_LARGE = CELLS["table-6/conv/tanh/mdfa/10"]


@pytest.fixture
def page(wait_until: Callable[..., None]) -> Iterator[Page]:
    made = Page(None)
    wait_until(lambda: made.drain() is None and made.state.phase is Phase.IDLE, "a page at rest")
    yield made
    made.close()
    assert made.trainer.join(PATIENCE)


def paper_tab(page: Page) -> paper.PaperTab:
    tab = page.tabs["paper"]
    assert isinstance(tab, paper.PaperTab)
    return tab


def text(markup: str) -> str:
    return " ".join(re.sub("<[^>]+>", " ", markup).split())


@pytest.mark.parametrize("number", TABLES)
def test_a_table_has_every_cell_with_the_printed_figures_and_ours(number: int) -> None:
    rows = dict(re.findall(r'<tr[^>]*data-pick="cell:([^"]+)">(.*?)</tr>', paper.draw(number, ""), re.DOTALL))
    cells = [cell for cell in CELLS.values() if cell.table == number]
    assert list(rows) == [cell.name for cell in cells]
    for cell in cells:
        here, shown = reproduced(cell), text(rows[cell.name]).replace(f" {paper.UNTUNED}", "")
        for split, measures in (("train", (TRAINED, TRAINED_CHOSEN)), (cell.held_out, (TESTED,))):
            ours = [str(here.scores[m]) if here and m in here.scores else paper.NOT_RUN for m in measures]
            assert " ".join([str(cell.published[split]), *ours]) in shown


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
    said = find_preset(RUN.name)
    for split in RUN.splits:
        assert f"{RUN.published[split]} %" in said.claim
        assert f"{here.scores[printed(split)]} %" in said.claim
    assert f"{here.scores[TRAINED_CHOSEN]} % (training, chosen)" in said.claim
    assert "settings tuned for this cell" in said.look
    assert f"with settings tuned for this cell (profile {here.profile})" in said.claim
    other = next(cell for cell in CELLS.values() if reproduced(cell) is None and tuned(cell).source != cell)
    said = find_preset(other.name)
    assert "has not run this cell" in said.claim
    assert "settings tuned for Table" in said.look
    assert find_preset("relu") is PRESETS["relu"]
    with pytest.raises(UnknownName, match="unknown preset 'nothing'"):
        find_preset("nothing")


def test_a_cell_that_was_not_tuned_is_marked_and_says_whose_settings_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    lent = Reproduced(
        data="imagefolder at 64×64 pixels",
        profile="quick",
        tuned_for=RUN,
        scores={m: Scores.of({0: 50.0, 1: 60.0}) for m in (TRAINED, TRAINED_CHOSEN, TESTED)},
    )
    for module in (paper, cell_presets):
        monkeypatch.setattr(module, "reproduced", lambda cell: lent if cell == FIRST_OF_TABLE_2 else None)
    name, legend = find_preset(RUN.name).title, f"{paper.UNTUNED} This cell was not tuned"
    row = re.findall(r'data-pick="cell:([^"]+)">(.*?)</tr>', paper.draw(2, ""), re.DOTALL)
    marked = [picked for picked, shown in row if paper.UNTUNED in text(shown)]
    assert marked == [FIRST_OF_TABLE_2.name]
    shown = dict(row)[FIRST_OF_TABLE_2.name]
    assert shown.count(paper.UNTUNED) == 3
    assert f"over 2 tasks, with settings tuned for {name} and not for this cell (profile quick)" in shown
    assert (
        f"with settings tuned for {name} and not for this cell (profile quick)"
        in find_preset(FIRST_OF_TABLE_2.name).claim
    )
    host = TabHost()
    tab = paper.PaperTab(host)
    assert legend not in tab.caption.object
    host.preset = FIRST_OF_TABLE_2.name
    tab.update()
    assert legend in tab.caption.object


def test_picking_a_cell_loads_its_run_though_its_data_is_not_here(page: Page, wait_until: Callable[..., None]) -> None:
    page.open_tab("paper")
    page.pick(f"cell:{RUN.name}")
    assert page.comparison.compared == (RUN.method,)
    assert page.controls.experiment() == page.comparison.experiment == link.of_preset(RUN.name).settings
    assert "The paper reports" in page.view.claim
    assert f'data-pick="preset:{RUN.name}" aria-pressed="true"' in page.view.presets
    assert page.tabs.name == "paper"
    assert paper_tab(page).table.html.count("drawn") == 1
    wait_until(lambda: page.drain() is None and page.state.phase is Phase.IDLE, "the answer")
    assert "CIFAR-100 is not on this server yet: Start downloads it" in page.view.status
    page.controls.next_seed()  # the next task of the same cell
    assert "The paper reports" in page.view.claim
    page.controls.epochs.value = 3
    assert "You changed epochs to 3: the claim" in page.view.claim


def test_a_cell_of_image_folders_says_that_nothing_can_be_fetched(page: Page, wait_until: Callable[..., None]) -> None:
    page.pick(f"cell:{FIRST_OF_TABLE_2.name}")
    wait_until(lambda: page.drain() is None and page.state.phase is Phase.IDLE, "the answer")
    assert "press Start to see which files are missing" in page.view.status
    page.controls.data.value = "digits"  # images of another size
    assert "Not possible" not in page.view.status
    assert page.comparison.experiment.image_size is None
    page.pick("preset:one-output")
    assert paper_tab(page).table.html.count("drawn") == 0
    assert FIRST_OF_TABLE_2.name not in page.view.presets


def test_a_cell_that_is_too_large_for_the_server_is_refused_and_nothing_changes(page: Page) -> None:
    before: tuple[Experiment, int] = (page.comparison.experiment, page.comparison.number)
    page.open_tab("paper")
    page.pick(f"cell:{TOO_LARGE.name}")
    assert "billion multiplications" in page.view.status
    assert "billion multiplications" in page.tabs.about  # where the visitor looks
    assert (page.comparison.experiment, page.comparison.number) == before
    for word in ("cell:table-9/fc", "cell:<b>"):
        page.pick(word)
    assert (page.comparison.experiment, page.comparison.number) == before
