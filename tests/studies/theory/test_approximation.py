"""The units study trains the networks it reports, from the given seeds, and counts units by the median loss."""

from __future__ import annotations

import pytest
import torch

from mdfa_core.base.errors import InvalidValue, UnknownName
from mdfa_core.studies.theory import CONSTRAINTS, TARGETS, FitResult, units_needed, units_study


def fit(units: int, loss: float, *, constraint: str = "free", seed: int = 0, activation: str = "tanh") -> FitResult:
    return FitResult(
        target="ring",
        activation=activation,
        constraint=constraint,
        depth=1,
        units=units,
        seed=seed,
        loss=loss,
        wrong=0.0,
    )


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_has_both_classes_and_no_convex_one(target: str) -> None:
    points = TARGETS[target].points()
    inside = TARGETS[target].inside(points)
    assert points.abs().max() <= 1
    assert 0.3 < inside.double().mean() < 0.7
    zeros = points[~inside]
    middles = (zeros.unsqueeze(0) + zeros.unsqueeze(1)).flatten(0, 1) / 2
    assert bool(TARGETS[target].inside(middles).any()), "no ReLU mono-net could fail"


def test_a_study_has_one_row_for_every_net_and_repeats_itself() -> None:
    def study(**changes: object) -> list[FitResult]:
        settings = {"activations": ("tanh",), "depths": (1, 2), "units": (3,), "seeds": (0, 7), "steps": 3}
        return list(units_study("stripes", **(settings | changes)))

    rows = study()
    assert rows == study()
    keys = [(row.depth, row.units, row.constraint, row.seed) for row in rows]
    assert keys == [(d, u, c, s) for d in (1, 2) for u in (3,) for c in CONSTRAINTS for s in (0, 7)]
    assert study(seeds=(7,)) == [row for row in rows if row.seed == 7]
    assert all(row.loss > 0 and 0 <= row.wrong <= 1 for row in rows)
    longer = study(steps=40)
    assert sum(row.loss for row in longer) < sum(row.loss for row in rows)


def test_relu_mono_nets_do_not_learn_a_ring_that_free_ones_and_tanh_mono_nets_learn() -> None:
    rows = list(units_study("ring", activations=("tanh", "relu"), depths=(1,), units=(16,), seeds=(0,), steps=200))
    loss = {(row.activation, row.constraint): row.loss for row in rows}
    inside = TARGETS["ring"].inside(TARGETS["ring"].points()).double().mean()
    chance = -(inside * inside.log() + (1 - inside) * (1 - inside).log()).item()
    assert loss["relu", "mono"] == pytest.approx(chance, abs=0.01)
    assert loss["relu", "free"] < 0.5 * chance
    assert loss["tanh", "mono"] < 0.8 * chance


def test_units_needed_takes_the_median_over_seeds() -> None:
    rows = [fit(2, loss, seed=seed) for seed, loss in enumerate((0.05, 0.2, 0.3))]
    rows += [fit(4, loss, seed=seed) for seed, loss in enumerate((0.01, 0.1, 0.9))]
    rows += [fit(4, 0.5, constraint="mono"), fit(8, 0.5, constraint="mono")]
    assert units_needed(rows, 0.1) == {("tanh", 1): {"free": 4, "mono": None}}
    assert units_needed(rows, 0.2) == {("tanh", 1): {"free": 2, "mono": None}}
    assert units_needed(rows, 0.5) == {("tanh", 1): {"free": 2, "mono": 4}}


def test_wrong_settings_are_refused_with_what_is_allowed() -> None:
    with pytest.raises(UnknownName, match="unknown target 'disc': choose one of ring, stripes"):
        next(units_study("disc"))
    with pytest.raises(UnknownName, match="unknown activation"):
        next(units_study(activations=("tan",)))
    for settings in ({"depths": (0,)}, {"units": (2.5,)}, {"steps": 0}):
        with pytest.raises(InvalidValue, match="give an integer of at least 1"):
            next(units_study(**settings))
    with pytest.raises(InvalidValue, match="no seed was given: give at least one"):
        next(units_study(seeds=()))


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    list(units_study("stripes", activations=("tanh",), depths=(1,), units=(2,), seeds=(0,), steps=2))
    assert torch.equal(state, torch.get_rng_state())
