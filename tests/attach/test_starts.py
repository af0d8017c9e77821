"""Constrained weights start from absolute values, whatever came first, and hold on every path that writes them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mdfa_core.attach import Attached, attach, measure
from mdfa_core.base.errors import InvalidValue
from tests.attach.nets import matrices, mlp

X = torch.linspace(-1, 1, 24).reshape(6, 4)
Y = torch.arange(6.0).remainder(2).unsqueeze(1)
LOSS = nn.BCEWithLogitsLoss()
FLOOR = 1e-6

KNOWN = pytest.mark.parametrize("known", [False, True], ids=["lazy", "example="])
BLOCKS = pytest.mark.parametrize("blocks", [None, ["1", "3"]], ids=["default blocks", "named blocks"])


def pretrained() -> dict[str, Tensor]:
    torch.manual_seed(7)
    return mlp().state_dict()


def evaluate(attached: Attached) -> None:
    attached.eval()
    with torch.no_grad():
        attached(X)
    attached.train()


def restore_the_first_state(attached: Attached) -> None:
    state = {name: tensor.clone() for name, tensor in attached.state_dict().items()}
    evaluate(attached)
    attached.load_state_dict(state)


def load_pretrained(attached: Attached) -> None:
    attached.model.load_state_dict(pretrained())


def load_after_training(attached: Attached) -> None:
    LOSS(attached(X), Y).backward()
    torch.optim.SGD(attached.parameters(), 1.0).step()
    load_pretrained(attached)


def load_a_part(attached: Attached) -> None:
    load_pretrained(attached)
    evaluate(attached)
    for name, child in attached.model.named_children():
        child.load_state_dict(
            {key.removeprefix(f"{name}."): value for key, value in pretrained().items() if key.startswith(f"{name}.")}
        )


def swap_and_swap_back(attached: Attached) -> None:
    """A sanity check with averaged weights: a copy of the first weights takes the model's place for a while."""
    load_pretrained(attached)
    average = copy.deepcopy(attached)

    def swap() -> None:
        for ours, theirs in zip(attached.parameters(), average.parameters(), strict=True):
            kept = theirs.data.clone()
            theirs.data.copy_(ours.data)
            ours.data.copy_(kept)

    swap()
    evaluate(attached)
    swap()


def copy_by_hand(attached: Attached) -> None:
    evaluate(attached)
    with torch.no_grad():
        for parameter, tensor in zip(attached.model.parameters(), pretrained().values(), strict=True):
            parameter.copy_(tensor)


def measured(attached: Attached) -> None:
    load_pretrained(attached)
    measure(attached, (X, Y), LOSS)


FIRST: list[Callable[[Attached], None]] = [
    *(evaluate, restore_the_first_state, load_pretrained, load_after_training, load_a_part, swap_and_swap_back),
    *(copy_by_hand, measured),
]


@KNOWN
@BLOCKS
@pytest.mark.parametrize("first", FIRST, ids=lambda first: first.__name__)
def test_the_start_is_the_same_whatever_came_first(
    first: Callable[[Attached], None], blocks: list[str] | None, known: bool
) -> None:
    torch.manual_seed(7)
    model = mlp()
    before = [weight.detach().clone() for weight in matrices(model)]
    attached = attach(model, "mdfa", blocks=blocks, example=X if known else None)

    first(attached)
    attached(X)

    assert torch.equal(matrices(model)[0], before[0])
    for weight, was in zip(matrices(model)[1:], before[1:], strict=True):
        assert torch.equal(weight, was.abs().clamp(min=FLOOR))


def test_after_training_began_writes_by_hand_are_clipped() -> None:
    """A hand-written step must not be reflected at 0."""
    model = mlp()
    attached = attach(model, "mdfa", example=X)
    LOSS(attached(X), Y).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 1.0
    model.zero_grad()
    attached(X)
    assert all(bool((weight == FLOOR).any()) for weight in matrices(model)[1:])


@KNOWN
def test_a_weight_that_was_frozen_starts_when_it_is_unfrozen(known: bool) -> None:
    model = mlp()
    frozen = model[2].weight
    frozen.requires_grad_(False)
    was = frozen.clone()
    attached = attach(model, "mdfa", example=X if known else None)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    LOSS(attached(X), Y).backward()
    optimizer.step()
    if known:
        assert torch.equal(frozen, was)
    frozen.requires_grad_(True)
    optimizer.step()
    attached(X)
    assert torch.equal(frozen, was.abs().clamp(min=FLOOR))


@pytest.mark.parametrize("where", ["optimizer", "global"])
def test_a_hook_of_the_users_own_cannot_leave_the_set(where: str) -> None:
    model = mlp()
    attached = attach(model, "mdfa", example=X)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def spoil(*_: object) -> None:
        for weight in matrices(model):
            weight.data.fill_(-1.0)

    register = optimizer.register_step_post_hook if where == "optimizer" else register_optimizer_step_post_hook
    handle = register(spoil)
    try:
        LOSS(attached(X), Y).backward()
        optimizer.step()
        measure(attached, (X, Y), LOSS)
        assert min(weight.min().item() for weight in matrices(model)[1:]) == pytest.approx(FLOOR)
    finally:
        handle.remove()


@KNOWN
@pytest.mark.parametrize("average", [None, get_ema_multi_avg_fn(0.5)], ids=["SWA", "EMA"])
def test_averaged_weights_are_held(average: Callable[..., None] | None, known: bool) -> None:
    attached = attach(mlp(), "mdfa", example=X if known else None)
    averaged = AveragedModel(attached, multi_avg_fn=average)
    optimizer = torch.optim.SGD(attached.parameters(), 2.0)
    for _ in range(3):
        optimizer.zero_grad()
        LOSS(attached(X), Y).backward()
        optimizer.step()
        averaged.update_parameters(attached)
    before = [weight.detach().clone() for weight in matrices(averaged)]
    averaged(X)
    assert all(map(torch.equal, matrices(averaged), before))
    assert min(weight.min().item() for weight in before[1:]) >= 0.99 * FLOOR
    assert all(map(torch.equal, averaged.module.feedback, attached.feedback))


@pytest.mark.parametrize("method", ["fa", "dfa", "mdfa"])
def test_a_model_that_is_given_memory_later_has_its_seeds_feedback_and_start(method: str) -> None:
    with torch.device("meta"):
        model = mlp()
    attached = attach(model, method, seed=3, example=X.to("meta"))
    assert all(b.device.type == "meta" for b in attached.feedback)

    attached.to_empty(device="cpu")
    model.load_state_dict(pretrained())
    attached(X)

    real = mlp()
    real.load_state_dict(pretrained())
    expected = attach(real, method, seed=3, example=X)
    assert all(map(torch.equal, attached.feedback, expected.feedback))
    assert all(map(torch.equal, model.parameters(), real.parameters()))


@pytest.mark.parametrize("method", ["dfa", "mdfa"])
def test_a_state_saved_before_the_first_call_is_loaded_after_it(method: str) -> None:
    attached = attach(mlp(), method, seed=1)
    state = {name: tensor.clone() for name, tensor in attached.state_dict().items()}
    attached(X)
    feedback = [b.clone() for b in attached.feedback]

    attached.load_state_dict(state)

    assert all(map(torch.equal, attached.feedback, feedback))
    for name, tensor in attached.model.state_dict().items():
        assert torch.equal(tensor, state[f"model.{name}"])


def test_weights_of_functional_call_are_checked_and_not_changed() -> None:
    attached = attach(mlp(), "mdfa", example=X)
    given = {name: parameter.detach().clone() for name, parameter in attached.named_parameters()}
    torch.func.functional_call(attached, given, (X,))
    given["model.2.weight"].neg_()
    with pytest.raises(InvalidValue, match=r"functional_call gives '2.weight' numbers below 0, but mDFA needs"):
        torch.func.functional_call(attached, given, (X,))
    assert bool((given["model.2.weight"] < 0).all())
