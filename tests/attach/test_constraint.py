from __future__ import annotations

import copy
import gc
import re
from collections.abc import Callable
from functools import partial

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

from mdfa_core.attach import Attached, attach, measure
from mdfa_core.attach import attached as attached_module
from mdfa_core.base.errors import InvalidValue
from mdfa_core.rules import METHODS, MONO, Chain, Method
from tests.attach.nets import DIRECT, Residual, ResNet, Transformer, matrices, mlp

HELD = [name for name in DIRECT if METHODS[name].constraint.first_layer == 1]
X = torch.linspace(-1, 1, 24).reshape(6, 4)
Y = torch.arange(6.0).remainder(2).unsqueeze(1)
LOSS = nn.BCEWithLogitsLoss()


def least(weights: list[Tensor]) -> float:
    return min(weight.min().item() for weight in weights)


class ThroughData(torch.optim.SGD):
    """Writes its step past autograd, as hand-written optimizers do."""

    def step(self, closure: Callable[[], float]) -> None:
        closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(parameter.grad, alpha=-group["lr"])


def fused(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    return partial(kind, fused=True)


@pytest.mark.parametrize(
    "kind",
    [
        *(torch.optim.SGD, torch.optim.Adam, torch.optim.LBFGS, ThroughData),
        *map(fused, (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad)),
    ],
    ids=["SGD", "Adam", "LBFGS", "through data", "fused SGD", "fused Adam", "fused AdamW", "fused Adagrad"],
)
@pytest.mark.parametrize("method", HELD)
def test_constrained_weights_never_leave_their_set_after_a_step(
    method: str, kind: Callable[..., torch.optim.Optimizer]
) -> None:
    model = mlp()
    first = matrices(model)[0].detach().clone()
    attached = attach(model, method, floor=0.01, example=X)
    assert torch.equal(matrices(model)[0], first)  # the first block is free
    assert least(matrices(model)[1:]) >= 0.0099
    optimizer = kind(model.parameters(), lr=1.0)

    def closure() -> float:
        optimizer.zero_grad()
        loss = LOSS(attached(X), Y)
        loss.backward()
        return loss.item()

    clipped = False
    for _ in range(5):
        optimizer.step(closure)
        assert least(matrices(model)[1:]) >= 0.0099
        clipped |= any(bool((weight == torch.tensor(0.01)).any()) for weight in matrices(model)[1:])
    assert clipped


@pytest.mark.parametrize("method", HELD)
def test_weights_changed_by_hand_or_loaded_are_held_in_the_next_forward_pass(method: str) -> None:
    model = mlp()
    attached = attach(model, method, example=X)
    LOSS(attached(X), Y).backward()
    for write in (
        lambda weight: weight.sub_(1.0),
        lambda weight: weight.data.fill_(-1.0),  # which autograd does not see
        lambda weight: weight.set_(-torch.ones_like(weight)),
    ):
        for gradients in (True, False):
            with torch.no_grad():
                for weight in matrices(model):
                    write(weight)
            with torch.set_grad_enabled(gradients):
                attached(X)
            assert least(matrices(model)[1:]) == pytest.approx(1e-6)


@pytest.mark.parametrize("method", HELD)
def test_the_guarantee_describes_weights_as_they_are(method: str) -> None:
    model = mlp()
    attached = attach(model, method, example=X)
    model[2].weight.data.fill_(-1.0)
    assert attached.guarantee.reason == "Theorem 2 does not hold: '2' (Linear) has weights below 0."
    attached.project_()
    assert attached.guarantee.holds


def test_a_step_of_one_optimizer_leaves_graphs_over_other_weights_usable() -> None:
    model = mlp()
    attached = attach(model, "mdfa", example=X)
    head = torch.optim.SGD(model[4].parameters(), lr=0.1)
    hidden, loss = model[0].weight, LOSS(attached(X), Y)
    loss.backward(retain_graph=True)
    head.step()
    first = hidden.grad.clone()
    model[2].zero_grad()
    (ahead,) = torch.autograd.grad(loss, [model[2].weight], allow_unused=False)
    assert ahead.any()
    assert torch.equal(hidden.grad, first)


@pytest.mark.parametrize("method", HELD)
def test_tied_weights_are_held_whoever_owns_them_first(method: str) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.hidden, self.head = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7, bias=False)
            self.head.weight = self.words.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.hidden(self.words(x).sum(1))))

    model = Tied()
    attach(model, method, blocks=["words", "hidden"][1:], example=torch.zeros(3, 2, dtype=torch.int64))
    assert least([model.head.weight]) > 0


def _edits() -> dict[str, Callable[[nn.Sequential], object]]:
    return {
        "pruned": lambda model: prune.l1_unstructured(model[2], "weight", amount=0.5),
        "normalised": lambda model: nn.utils.parametrizations.weight_norm(model[2]),
        "replaced": lambda model: model.__setitem__(2, nn.Identity()),
    }


@pytest.mark.parametrize("edit", _edits())
def test_a_model_that_was_edited_is_refused_and_disturbs_nobody_else(edit: str) -> None:
    model, other = mlp(), mlp()
    attached = attach(model, "mdfa", example=X)
    _edits()[edit](model)
    for parameter in other.parameters():
        parameter.grad = torch.ones_like(parameter)
    torch.optim.SGD(other.parameters(), lr=0.1).step()  # of a model that has nothing to do with it
    with pytest.raises(InvalidValue, match=r"attach (the model|it) again"):
        attached(X)


@pytest.mark.parametrize(
    ("activation", "holds"), [(nn.LeakyReLU(0.1), True), (nn.LeakyReLU(-0.5), False), (nn.ELU(-1.0), False)]
)
def test_an_activation_given_a_negative_slope_is_not_monotone(activation: nn.Module, holds: bool) -> None:
    attached = attach(
        nn.Sequential(nn.Linear(4, 3), activation, nn.Linear(3, 3), activation, nn.Linear(3, 1)), "mdfa", example=X
    )
    assert attached.guarantee.holds is holds
    assert ("decreases where its slope is negative" in attached.guarantee.reason) is not holds


@pytest.mark.parametrize("method", HELD)
def test_the_start_takes_absolute_values_as_the_paper_does(method: str) -> None:
    model = mlp()
    before = [weight.detach().clone() for weight in matrices(model)]
    attach(model, method, example=X)
    for weight, was in zip(matrices(model)[1:], before[1:], strict=True):
        assert torch.equal(weight, was.abs().clamp(min=1e-6))


@pytest.mark.parametrize("method", HELD)
def test_a_copy_is_held_too_and_a_released_model_no_longer(method: str) -> None:
    attached = attach(mlp(), method, example=X)
    twin = copy.deepcopy(attached)
    for each in (attached, twin):
        optimizer = torch.optim.SGD(each.parameters(), lr=10.0)
        LOSS(each(X), Y).backward()
        optimizer.step()
        assert least(matrices(each)[1:]) >= 1e-6 * 0.99
    model = attached.release()
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
    for sign in (1, -1):
        for weight in matrices(model):
            weight.grad = torch.full_like(weight, sign)
        optimizer.step()
        optimizer.zero_grad()
        if sign == 1:
            assert least(matrices(model)[1:]) < -1


@pytest.mark.parametrize("method", HELD)
def test_what_is_constrained_follows_the_order_of_running_not_of_building(method: str) -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.second, self.first = nn.Linear(3, 1), nn.Linear(3, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))

    model = Backwards()
    attached = attach(model, method, blocks=["second", "first"], example=X)
    assert attached.layout.blocks == ("first", "second")
    assert model.first.weight.min() < 0
    assert least([model.second.weight, model.head.weight]) > 0


def test_frozen_weights_are_left_alone_and_the_guarantee_says_so() -> None:
    model = mlp()
    model[2].weight.requires_grad_(False)
    was = model[2].weight.clone()
    attached = attach(model, "mdfa", example=X)
    assert torch.equal(model[2].weight, was)
    assert not model[2].weight.requires_grad
    assert attached.guarantee.reason == "Theorem 2 does not hold: '2' (Linear) is frozen with weights below 0."


@pytest.mark.parametrize("wrap", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm])
def test_weights_computed_from_others_cannot_be_held(wrap: Callable[[nn.Module], nn.Module]) -> None:
    model = nn.Sequential(wrap(nn.Linear(4, 3)), nn.Tanh(), wrap(nn.Linear(3, 3)), nn.Tanh(), nn.Linear(3, 1))
    with pytest.raises(InvalidValue, match=r"'2' \(ParametrizedLinear\) computes its weights from others"):
        attach(model, "mdfa", example=X)
    attach(model, "dfa", example=X)


def test_a_chain_can_be_constrained_as_well() -> None:
    method = Method(title="mono-FA", description="FA in a mono-net", transport=Chain(fixed=True), constraint=MONO)
    attached = attach(mlp(), method, example=X)
    assert least([*attached.feedback, *matrices(attached)[1:]]) >= 0
    assert measure(attached, (X, Y), LOSS).unit.overall == (1.0,)


# ------------------------------------------------------------------------------------------------------------ theorem 2


@st.composite
def mono_nets(draw: st.DrawFn) -> nn.Sequential:
    activation = draw(st.sampled_from([nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.Softplus, nn.ELU]))
    torch.manual_seed(draw(st.integers(0, 1000)))
    if draw(st.booleans()):
        layers: list[nn.Module] = [nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 2, padding=1), activation()]
        layers += [draw(st.sampled_from([nn.AvgPool2d(2), nn.Identity(), nn.MaxPool2d(2, 1), nn.Dropout(0.3)]))]
        layers += [nn.Conv2d(3, 2, 1, bias=False), activation(), nn.Flatten(), nn.LazyLinear(3), activation()]
    else:
        widths = [4, *draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))]
        layers = [
            module for a, b in zip(widths, [*widths[1:], 3], strict=True) for module in (nn.Linear(a, b), activation())
        ]
    net = nn.Sequential(*layers, nn.Linear(3, 1)).double()
    net(X.double())
    return net


@hypothesis.settings(max_examples=25)
@hypothesis.given(net=mono_nets())
def test_theorem_2_where_the_guarantee_says_so(net: nn.Sequential) -> None:
    x, y = X.double(), Y.double()
    attached = attach(net, "mdfa", example=x)
    assert attached.guarantee.holds
    optimizer = torch.optim.SGD(net.parameters(), 0.3)
    for _ in range(3):
        found = measure(attached, (x, y), LOSS)
        assert all(layer[0] in (1.0, None) for layer in found.unit.layers)
        LOSS(attached(x), y).backward()
        optimizer.step()
    assert measure(attached, (x, y), LOSS, examples=0).unit.overall[0] == 1.0


@pytest.mark.parametrize(
    ("model", "x", "settings", "holds", "reason"),
    [
        (lambda: mlp(), X, {}, True, "mDFA, one output: Theorem 2 holds"),
        (lambda: mlp(2), X, {}, False, "mDFA, 2 outputs: outside Theorem 2"),
        (lambda: mlp(), X, {"method": "dfa"}, False, "DFA has unconstrained signs"),
        (lambda: mlp(), X, {"method": "bp"}, True, "BP computes the true gradient"),
        (
            lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.GELU(), nn.Linear(3, 3), nn.Linear(3, 1)),
            *(X, {}, True, "Theorem 2 holds"),  # below the first cut anything may be
        ),
        (
            lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)),
            *(X, {}, False, r"not known to hold: '2' \(BatchNorm1d\), above the first block, is neither"),
        ),
        (
            lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3), nn.GELU(), nn.Linear(3, 1)),
            *(X, {}, False, r"not known to hold: '2' \(GELU\)"),
        ),
        (
            lambda: nn.Sequential(nn.Linear(4, 3), Residual(nn.Linear(3, 3), nn.Tanh()), nn.Linear(3, 1)),
            *(X, {}, False, r"not known to hold: '1' \(Residual\)"),
        ),
        (
            ResNet,
            *(torch.zeros(2, 2, 5, 5), {"blocks": ["second"]}, False),
            r"not known to hold: the model itself \(ResNet\), above",
        ),
        (
            Transformer,
            *(torch.zeros(2, 4, dtype=torch.int64), {"blocks": ["blocks.0"], "axis": -1}, False),
            "mDFA, 12 outputs: outside",
        ),
    ],
)
def test_the_guarantee_says_where_theorem_2_ends(
    model: Callable[[], nn.Module], x: Tensor, settings: dict[str, object], holds: bool, reason: str
) -> None:
    found = attach(model(), **settings, example=x).guarantee
    assert found.holds is holds
    assert re.search(reason, found.reason)


def test_a_residual_sum_of_mono_parts_keeps_signs_and_a_normalisation_does_not() -> None:
    def agreement(above: nn.Module) -> float | None:
        net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), above, nn.Linear(8, 1)).double()
        batch = torch.randn(32, 4, dtype=torch.float64), torch.rand(32, 1, dtype=torch.float64).round()
        return measure(attach(net, "mdfa"), batch, LOSS, examples=0).unit.layers[0][0]

    assert agreement(Residual(nn.Linear(8, 8), nn.Tanh())) == 1.0
    worst = agreement(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh()))
    assert worst is not None
    assert worst < 1.0


def test_attached_models_are_forgotten_with_their_last_reference() -> None:
    attached: Attached | None = attach(mlp(), "mdfa", example=X)
    before = len(attached_module._ALL)
    attached = None
    gc.collect()
    assert attached is None
    assert len(attached_module._ALL) < before


def test_weights_that_diverged_have_no_guarantee() -> None:
    attached = attach(mlp(), "mdfa", example=torch.zeros(5, 4))
    assert attached.guarantee.holds
    with torch.no_grad():
        attached.model[4].weight[0, 0] = torch.nan
    assert not attached.guarantee.holds
    assert "'4' (Linear) has weights that are NaN" in attached.guarantee.reason
