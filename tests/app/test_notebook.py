"""The page for a notebook, in an event loop as a cell has one, without a browser."""

from __future__ import annotations

import asyncio
import threading

import pytest

from app.notebook import Explorer
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
