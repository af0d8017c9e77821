"""`mdfa replay`: settings, several rules, a checkpoint, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mdfa_core import Experiment, Run
from mdfa_core.stage import recording_in
from tests.support.commands import Done, assert_refused

SMALL = ["--network", "fc:8", "--epochs", "2", "--frames", "4"]


def recording(path: Path) -> dict[str, Any]:
    return recording_in(path.read_text(encoding="utf-8"))


def test_several_rules_are_replayed_in_their_order(mdfa: Callable[..., Done]) -> None:
    done = mdfa("replay", *SMALL, "--methods", "dfa,mdfa,dfa", "-o", "a.html")

    assert done.code == 0
    assert done.out.startswith("a.html: 4 moments of DFA, mDFA, ")
    found = recording(Path("a.html"))
    assert [row["name"] for row in found["scene"]["rows"]] == ["dfa", "mdfa"]
    assert found["settings"]["network"] == "fc:8"
    command = "mdfa replay --network fc:8 --epochs 2 --methods dfa,mdfa --frames 4 -o a.html"
    assert command in Path("a.html").read_text(encoding="utf-8")


def test_a_checkpoint_gives_its_settings_and_is_trained_again(mdfa: Callable[..., Done]) -> None:
    experiment = Experiment(network="fc:8", epochs=2, method="fa", learning_rate=0.02)
    run = Run(experiment, device="cpu")
    for _ in run.events(steps=3):
        pass
    run.save("run.pt")
    assert mdfa("replay", "run.pt", "--frames", "4").code == 0
    first = recording(Path("replay.html"))
    assert [row["name"] for row in first["scene"]["rows"]] == ["fa"]
    assert first["settings"]["learning_rate"] == 0.02

    assert mdfa("replay", *SMALL, "--learning-rate", "0.02", "--method", "fa").code == 0
    assert recording(Path("replay.html"))["frames"] == first["frames"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "mdfa,nothing"], "unknown method 'nothing'"),
        (["--frames", "1"], "give an integer from 2 to 1000"),
        (["-o", "."], "is a folder"),
        (["-o", "no/where.html"], "does not exist"),
        (["missing.pt"], "missing.pt"),
        (["run.pt", "--config", "run.json"], "leave one of them out"),
    ],
)
def test_what_cannot_be_replayed_is_refused(arguments: list[str], said: str, mdfa: Callable[..., Done]) -> None:
    assert_refused(mdfa("replay", *SMALL, *arguments), said)
    assert not Path("replay.html").exists()
