"""Code that `torch.compile` made before `attach` runs no hooks: it is traced again, or the pass is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from mdfa_core.attach import attach
from mdfa_core.base.errors import InvalidValue
from tests.attach.nets import DIRECT
from tests.support.references import relative

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute:UserWarning"),  # dynamo's own
]

X = torch.linspace(-1, 1, 40).reshape(8, 5)
Y = torch.linspace(1, -1, 16).reshape(8, 2)


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Body(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh())


class CompiledForward(Body):
    """Compiles its `forward` out of sight of `attach`: only the function is compiled."""

    def __init__(self) -> None:
        super().__init__()
        self._run = torch.compile(super().forward, backend="eager")

    def forward(self, x: Tensor) -> Tensor:
        return self._run(x)


def in_place(body: nn.Module) -> nn.Module:
    body.compile(backend="eager")
    return body


PARTS: dict[str, Callable[[], nn.Module]] = {
    "wrapped": lambda: torch.compile(Body(), backend="eager"),
    "in place": lambda: in_place(Body()),
}


def net(body: Callable[[], nn.Module] = Body) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(body(), nn.Linear(6, 2))


def gradients(call: nn.Module) -> list[Tensor]:
    call.zero_grad()
    (call(X) - Y).square().mean().backward()
    return [parameter.grad.clone() for parameter in call.parameters()]


def blocks_of(model: nn.Module, method: str) -> list[nn.Module] | None:
    """For a direct rule, a block inside the compiled part."""
    body = model[0]
    return [getattr(body, "_orig_mod", body)[1], body] if method in DIRECT else None


@pytest.mark.parametrize("first", ["training", "evaluation"])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("method", ["fa", "mdfa"])
def test_a_part_compiled_before_attach_learns_by_the_rule(method: str, part: str, first: str) -> None:
    plain = net()
    expected = gradients(attach(plain, method, blocks=blocks_of(plain, method)))
    model = net(PARTS[part])
    if first == "training":
        gradients(model)
    else:
        with torch.no_grad():
            model(X)

    attached = attach(model, method, blocks=blocks_of(model, method))
    with torch.no_grad():
        attached(X)

    for ours, theirs in zip(gradients(attached), expected, strict=True):
        assert relative(ours, theirs) < 1e-6


@pytest.mark.parametrize(("before", "after"), [("dfa", "fa"), ("fa", "dfa")])
def test_the_rule_of_a_compiled_part_is_switched(before: str, after: str) -> None:
    model = net(PARTS["wrapped"])
    attached = attach(model, before)
    gradients(attached)
    attached.release()
    plain = net()
    plain.load_state_dict({name.replace("_orig_mod.", ""): tensor for name, tensor in model.state_dict().items()})

    for ours, theirs in zip(gradients(attach(model, after)), gradients(attach(plain, after)), strict=True):
        assert relative(ours, theirs) < 1e-6


@pytest.mark.parametrize("method", ["fa", "dfa"])
def test_compiled_code_that_attach_cannot_see_is_refused(method: str) -> None:
    model = net(CompiledForward)
    gradients(model)
    attached = attach(model, method, blocks=[model[0][1], model[0]] if method == "dfa" else None)
    with pytest.raises(InvalidValue, match=r"ran without the hooks of attach, .* call torch.compiler.reset\(\)"):
        attached(X)
    torch.compiler.reset()
    plain = net()
    expected = gradients(attach(plain, method, blocks=blocks_of(plain, method)))
    for ours, theirs in zip(gradients(attached), expected, strict=True):
        assert relative(ours, theirs) < 1e-6


class Sometimes(nn.Module):
    """Skips its middle, or calls it around its hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.head = nn.Linear(5, 6), nn.Linear(6, 6), nn.Linear(6, 2)
        self.way = "call"

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.first(x))
        match self.way:
            case "call":
                h = torch.tanh(self.middle(h))
            case "forward":
                h = torch.tanh(self.middle.forward(h))
            case "functional":
                h = torch.tanh(nn.functional.linear(h, self.middle.weight))
        return self.head(h)


@pytest.mark.parametrize("way", ["forward", "functional"])
@pytest.mark.parametrize("method", ["fa", "dfa"])
def test_a_later_pass_that_goes_around_the_hooks_is_refused_and_one_that_skips_is_not(method: str, way: str) -> None:
    model = Sometimes()
    attached = attach(model, method, blocks=["first", "middle"], example=X)
    model.way = "skip"
    attached(X).sum().backward()
    assert model.middle.weight.grad is None
    assert model.first.weight.grad.any()
    model.way = way
    with pytest.raises(InvalidValue, match="'middle' ran without the hooks of attach"):
        attached(X)
