"""`torch.func` with an attached model: the rule's own gradients, or one sentence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, stack_module_state, vmap
from torch.nn import functional

from mdfa_core.attach import Attached, attach
from mdfa_core.base.errors import InvalidValue
from tests.attach.nets import ATTACHABLE, mlp

# jvp compiles a part of PyTorch with the deprecated torch.jit.script.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

X = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(6, 4)
Y = torch.arange(6, dtype=torch.float64).remainder(2).unsqueeze(1)
RULES = pytest.mark.parametrize("method", [*ATTACHABLE, "kp", "dkp"])


def made(method: str, seed: int = 0) -> Attached:
    torch.manual_seed(seed)
    return attach(mlp().double(), method, seed=seed, example=X)


def expected(attached: nn.Module) -> dict[str, Tensor]:
    attached.zero_grad()
    functional.mse_loss(attached(X), Y).backward()
    return {name: p.grad.clone() for name, p in attached.named_parameters() if p.grad is not None}


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    for name, tensor in theirs.items():
        assert torch.allclose(ours[name], tensor, rtol=1e-9, atol=1e-14), name


@RULES
def test_gradients_with_respect_to_other_parameters_are_the_rules(method: str) -> None:
    attached = made(method)
    theirs = expected(attached)
    state = {name: parameter.detach().clone() for name, parameter in attached.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return functional.mse_loss(functional_call(attached, parameters, (x,)), y)

    assert_equal(grad(loss)(state, X, Y), theirs)
    each = vmap(grad(loss), (None, 0, 0))(state, X.unsqueeze(1), Y.unsqueeze(1))
    assert_equal({name: tensor.mean(0) for name, tensor in each.items()}, theirs)
    for tensor in state.values():
        tensor.requires_grad_()
    loss(state, X, Y).backward()
    assert_equal({name: t.grad for name, t in state.items() if t.grad is not None}, theirs)


@RULES
def test_an_ensemble_under_vmap_has_the_gradients_of_its_members(method: str) -> None:
    members = [made(method, seed) for seed in (0, 1)]
    theirs = [expected(member) for member in members]
    parameters, buffers = stack_module_state(members)
    parameters = {name: tensor.detach() for name, tensor in parameters.items()}

    def loss(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return functional.mse_loss(functional_call(members[0], (parameters, buffers), (X,)), Y)

    found = vmap(grad(loss))(parameters, buffers)

    for number, of_member in enumerate(theirs):
        assert_equal({name: tensor[number] for name, tensor in found.items()}, of_member)


def test_the_jacobian_of_the_output_by_the_input_is_the_rules() -> None:
    attached = made("fa")
    x = X.clone().requires_grad_()
    rows = [torch.autograd.grad(z, x, retain_graph=True)[0] for z in attached(x).flatten()]
    assert torch.allclose(jacrev(attached)(X).flatten(0, 1), torch.stack(rows))


def _dual(attached: Attached) -> None:
    with forward_ad.dual_level():
        attached(forward_ad.make_dual(X, torch.ones_like(X)))


@pytest.mark.parametrize("method", ["dfa", "fa", "mdfa", "bp"])
@pytest.mark.parametrize("ask", [lambda a: jvp(a, (X,), (X,)), lambda a: jacfwd(a)(X), _dual])
def test_tangents_are_refused(method: str, ask: Callable[[Attached], object]) -> None:
    attached = made(method)
    with pytest.raises(InvalidValue, match=r"not how tangents go forward: take jvp, .* of attached.model"):
        ask(attached)
    assert jvp(attached.model, (X,), (X,))[1].any()


def test_a_transform_before_the_first_call_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"call it once before a transform of torch.func, or give attach an example"):
        jacrev(attach(mlp().double(), "mdfa"))(X)


def test_weights_that_would_have_to_be_clipped_inside_a_transform_are_refused() -> None:
    attached = made("mdfa")
    attached.model[2].weight.data.neg_()
    with pytest.raises(InvalidValue, match=r"'2.weight' has numbers below 0, .* call project_\(\) before it"):
        jacrev(attached)(X)


def test_a_rule_that_counts_its_passes_is_no_ensemble() -> None:
    members = [made("brsf", seed) for seed in (0, 1)]
    parameters, buffers = stack_module_state(members)
    with pytest.raises(InvalidValue, match="leave the buffer passes out of what it maps"):
        vmap(lambda p, b: functional_call(members[0], (p, b), (X,)))(parameters, buffers)
