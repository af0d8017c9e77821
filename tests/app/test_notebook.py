"""The page for a notebook, in an event loop as a cell has one, without a browser."""

from __future__ import annotations

import asyncio
import threading

import panel as pn
import pytest
from bokeh.document import Document
from bokeh.model import Model
from panel.models.comm_manager import CommManager
from pyviz_comms import Comm

from app.notebook import Explorer
from app.screens import Output
from mdfa_core.errors import InvalidValue


def test_what_nobody_looks_at_is_trained_to_the_end_and_drawn() -> None:
    async def cell() -> None:
        explorer = Explorer(preset="two-outputs", rules=["mdfa", "bp"], epochs=3, seed=1)
        explorer.train()
        summary, curves = explorer.summary(), explorer.curves()
        assert set(summary.index) == {"BP", "mDFA"}
        assert set(summary.epochs) == {3.0}
        assert summary.loc["BP", "unit error signals"] == 1.0
        assert summary["test accuracy"].between(0, 1).all()
        accuracy = curves[(curves.rule == "mDFA") & (curves.quantity == "evaluated: train")]
        assert list(accuracy.epoch) == [1, 2, 3]
        assert accuracy.value.max() == summary.loc["mDFA", "best training accuracy"]
        drawn = explorer.page.charts["accuracy"]._live[explorer.page._slot("mdfa")].data["y"]
        assert list(drawn) == list(accuracy.value)
        explorer.close()
        assert explorer.page.trainer.join(30)

    asyncio.run(cell())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "nothing"}, "unknown preset 'nothing'"),
        ({"rules": "mdfa,backprop"}, "unknown learning rule 'backprop'"),
        ({"epochs": 0}, "epochs is 0"),
        ({"wings": 2}, "unknown part of the link 'wings'"),
    ],
)
def test_a_wrong_setting_is_a_sentence(settings: dict[str, object], message: str) -> None:
    async def cell() -> None:
        with pytest.raises(InvalidValue, match=message):
            Explorer(**settings)

    asyncio.run(cell())


def test_edits_of_any_thread_are_made_in_the_loop_and_a_new_explorer_ends_the_old_one() -> None:
    where: list[str] = []

    async def cell() -> None:
        first = Explorer()
        thread = threading.Thread(
            target=first.view.soon, args=(lambda: where.append(threading.current_thread().name),), name="other"
        )
        thread.start()
        await asyncio.to_thread(thread.join)
        while not where:
            await asyncio.sleep(0.01)
        second = Explorer()
        assert await asyncio.to_thread(first.page.trainer.join, 30)
        assert first.page.trainer._closed
        second.close()
        assert await asyncio.to_thread(second.page.trainer.join, 30)

    asyncio.run(cell())
    assert where == [threading.current_thread().name]


def test_nothing_is_edited_before_the_browser_has_drawn_what_was_displayed_last() -> None:
    made: list[str] = []

    async def cell() -> None:
        select = pn.widgets.Select(options=["one", "two"], value="one")
        select.param.watch(lambda event: made.append(event.new), "value")
        view = Output()
        view.fill([select])

        def displayed() -> Model:
            document = Document()
            document.add_root(root := view.get_root(document, Comm()))
            return root

        def says(root: Model, attribute: str, value: object) -> None:
            kind = {"drawn": view._mark, "value": select}[attribute]
            event = {"kind": "ModelChanged", "model": kind._models[root.ref["id"]][0].ref, "attr": attribute}
            content = {"events": [{**event, "new": value}]}
            message = {"header": {"msgid": "1", "msgtype": "PATCH-DOC"}, "metadata": {}, "_buffers": {}}
            view._on_msg(root.ref["id"], manager, {**message, "content": content})

        async def edit(name: str) -> None:
            await asyncio.to_thread(view.soon, lambda: made.append(name))
            await asyncio.sleep(0)

        manager = CommManager(comm_id="a", plot_id="b", client_comm_id="c")
        await edit("before")
        assert made == ["before"]  # it is displayed as it is then
        first = displayed()
        await edit("early")
        says(first, "value", "two")  # before the mark is drawn, by a visitor who is quick
        await asyncio.sleep(0)
        assert made == ["before"]
        says(first, "drawn", 0.5)
        await asyncio.sleep(0)
        assert made == ["before", "early", "two"]
        await edit("drawn")
        second = displayed()
        await edit("again")
        assert made[3:] == ["drawn"]
        says(first, "drawn", 0.6)  # the one above it is scrolled into sight again
        await asyncio.sleep(0)
        assert made[3:] == ["drawn"]
        says(second, "drawn", 0.7)
        await asyncio.sleep(0)
        assert made[3:] == ["drawn", "again"]

    asyncio.run(cell())
