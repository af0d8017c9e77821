"""Scenes: what is drawn of a network, how much of it, and the path of the error."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from mdfa_core import METHODS, Experiment, Run
from mdfa_core.rules import FREE, MONO, Chain, Constraint, Direct, FeedbackShape, Method
from mdfa_core.stage import LINKS, UNITS, row_of, scene_of


def run_of(**settings: Any) -> Run:
    return Run(Experiment(**settings), device="cpu")


@pytest.mark.parametrize(
    ("network", "filters", "counts"),
    [
        ("fc:", [], []),
        ("fc:1", [False], [1]),
        ("fc:300,7", [False, False], [300, 7]),
        ("conv:5/3/2+fc:4", [True, False], [5, 4]),
    ],
)
def test_units_are_sampled_evenly_and_the_scene_says_so(network: str, filters: list[bool], counts: list[int]) -> None:
    scene = scene_of(run_of(network=network))
    assert [layer.filters for layer in scene.layers] == filters
    assert [layer.count for layer in scene.layers] == counts
    for layer in scene.layers:
        assert len(layer.shown) == min(layer.count, UNITS)
        assert len(set(layer.shown.tolist())) == len(layer.shown)
        gaps = np.diff([*layer.shown, layer.count])
        assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize("network", ["fc:", "fc:1", "fc:128,300", "conv:5/3/2,3/2/1+fc:40"])
def test_at_most_so_many_different_weights_are_drawn_between_two_layers(network: str) -> None:
    run = run_of(network=network, outputs=3)
    for link, layer in zip(scene_of(run).links, run.network.layers, strict=True):
        places = set(zip(*(axis.tolist() for axis in link.index), strict=True))
        assert len(places) == len(link.start) <= LINKS
        assert all(place < size for at in places for place, size in zip(at, layer.weight_shape, strict=True))


def test_all_weights_are_drawn_if_there_are_few() -> None:
    link = scene_of(run_of(network="fc:4,3")).links[1]
    assert set(zip(link.start.tolist(), link.end.tolist(), strict=True)) == {(i, j) for i in range(4) for j in range(3)}


def test_pictures_are_images_of_the_task_and_points_have_none() -> None:
    run = run_of()
    scene = scene_of(run)
    assert len(scene.pictures) == len(scene.labels) == 6
    assert sorted(scene.labels) == [0, 0, 0, 1, 1, 1]
    assert scene.points is None

    scene = scene_of(run_of(data="moons", network="fc:4"))
    assert scene.points is not None
    assert len(scene.indices) == len(scene.pictures) == len(scene.filter_units) == 0


@pytest.mark.parametrize(
    ("method", "route", "carriers", "held", "weights_held"),
    [
        ("bp", "chain", ("W₂ᵀ", "W₃ᵀ"), (False, False), (False, False, False)),
        ("fa", "chain", ("B₂", "B₃"), (False, False), (False, False, False)),
        ("dfa", "direct", ("B₁", "B₂"), (False, False), (False, False, False)),
        ("mdfa", "direct", ("B₁", "B₂"), (True, True), (False, True, True)),
    ],
)
def test_the_row_of_a_rule(
    method: str, route: str, carriers: tuple[str, ...], held: tuple[bool, ...], weights_held: tuple[bool, ...]
) -> None:
    row = row_of(method, METHODS[method], 2, 2)
    assert (row.route, row.carriers, row.carriers_held, row.weights_held) == (route, carriers, held, weights_held)
    assert row.title == METHODS[method].title
    assert ":" not in row.meaning


@pytest.mark.parametrize("hidden", [1, 3])
@pytest.mark.parametrize("name", ["bp", "fa", "kp", "dfa", "mdfa", "dkp", "drtp"])
def test_the_error_path_of_a_rule_without_a_route_follows_from_its_feedback(name: str, hidden: int) -> None:
    transport = copy.copy(METHODS[name].transport)
    transport.route = ""  # as the author of a rule may leave it
    without = dataclasses.replace(METHODS[name], transport=transport)
    assert row_of(name, without, hidden, 0).to_dict() == row_of(name, METHODS[name], hidden, 0).to_dict()
    assert len(row_of(name, without, hidden, 0).carriers) == hidden


@pytest.mark.parametrize(("fixed", "label"), [(True, "B₂"), (False, "W₂ᵀ")])
def test_weights_of_the_error_path_are_marked_if_they_are_non_negative(fixed: bool, label: str) -> None:
    for constraint, marks in ((MONO, 2), (FREE, 0), (Constraint(first_layer=2, feedback=False), 0 if fixed else 1)):
        method = Method(title="Chain", description="", transport=Chain(fixed=fixed), constraint=constraint)
        row = row_of("chain", method, 2, 0)
        assert sum(row.carriers_held) == marks
        assert row.carriers[0] == label


def test_a_rule_whose_path_cannot_be_drawn_has_none() -> None:
    class Odd(Direct):
        route = ""

        def feedback(self, network: object) -> tuple[FeedbackShape, ...]:
            return (FeedbackShape((1, 1, 1), 1),)

    odd = Method(title="odd", description="odd shapes", transport=Odd())
    row = row_of("odd", odd, 2, 0)
    assert (row.route, row.carriers) == ("", ())


@pytest.mark.parametrize(
    "settings", [{}, {"network": "conv:3/3/2+fc:4", "outputs": 10}, {"data": "xor", "network": "fc:"}]
)
def test_a_scene_is_plain_json(settings: dict[str, Any]) -> None:
    run = run_of(**settings)
    rows = tuple(
        row_of(name, METHODS[name], len(run.network.hidden), place) for place, name in enumerate(("mdfa", "bp"))
    )
    found = json.loads(json.dumps(scene_of(run).to_dict(rows)))
    assert [row["name"] for row in found["rows"]] == ["mdfa", "bp"]
    assert len(found["links"]) == len(found["layers"]) + 1
