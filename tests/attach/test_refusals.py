from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mdfa_core.attach import attach, measure
from mdfa_core.base.errors import InvalidValue, MdfaError
from mdfa_core.rules import METHODS, MONO, Chain, Method
from tests.attach.nets import DIRECT, Last, mlp, output_of


class Skip(nn.Module):
    """Goes around the block called inner."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.inner(x))


class Ending(nn.Module):
    """Makes something of its output, or of its block's."""

    def __init__(self, end: Callable[[Tensor], Any] = torch.clone, block: nn.Module | None = None) -> None:
        super().__init__()
        self.block, self.end = nn.Linear(4, 3) if block is None else block, end
        self.head, self.idle = nn.Linear(3, 1), nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Any:
        h = self.block(x)
        return self.end(self.head(h if isinstance(h, Tensor) else x[:, :3]))


class Wordy(nn.Module):
    def forward(self, x: Tensor) -> str:
        return "no tensor"


class Matrix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.eye(4))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.mixing


class OwnLSTM(nn.LSTM):
    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight_ih_l0.mT


class Keyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(input=x)


class StepsFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.GRU(3, 2), nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.transpose(0, 1))[0][-1])


def repeated() -> nn.Module:
    shared = nn.Linear(4, 4)
    return nn.Sequential(shared, nn.Tanh(), shared, nn.Linear(4, 1))


@pytest.mark.parametrize("method", DIRECT)
@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (Skip, {}, r"the modules in a Skip is not known: give blocks=\[…\], .* such as 'stem', 'inner', 'head'"),
        (Skip, {"blocks": ["inner"]}, "the cut after block 'inner' does not separate the model"),
        (Skip, {"blocks": ["body"]}, "block 'body' is not in the model: name modules inside it, such as 'stem'"),
        (Skip, {"blocks": [nn.Linear(4, 4)]}, "block a Linear is not in the model"),
        (Skip, {"blocks": [""]}, "block '' is not in the model"),
        (Skip, {"blocks": ["stem", "stem"]}, "block 'stem' is given twice"),
        (repeated, {}, "block '2' is the same module as an earlier one"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.LazyLinear(2)), {}, r"'1' \(LazyLinear\) has weights without"),
        (Ending, {"blocks": ["block", "idle"]}, "block 'idle' did not run in the forward pass"),
        (Ending, {"blocks": ["block", "head"]}, "nothing that learns lies between block 'head' and"),
        (lambda: Ending(torch.mean), {"blocks": ["block"]}, "the model gives a single number, but the output error"),
        (lambda: Ending(lambda z: {"z": 1}), {"blocks": ["block"]}, "the model gives dict, but the output error is"),
        (lambda: Ending(block=Wordy()), {"blocks": ["block"]}, "block 'block' gives str, but an error is delivered to"),
        (lambda: nn.Sequential(nn.Linear(4, 3), nn.Unflatten(0, (5, 1)), nn.Linear(3, 2)), {}, "give the axis of the"),
        (lambda: Ending(lambda z: z[:3]), {"blocks": ["block"]}, "first axis of both must be the examples"),
        (mlp, {"axis": 0}, "axis=0 is no axis of units in the shape"),
        (mlp, {"axis": 2}, "axis=2 is no axis of units in the shape"),
        (mlp, {"axis": -2}, "axis=-2 is no axis of units in the shape"),
        (mlp, {"feedback_init": "zeros"}, "feedback weights of zeros would deliver no error"),
        (mlp, {"feedback_init": "cauchy"}, "unknown initializer 'cauchy'"),
        (mlp, {"blocks": "10"}, "blocks is '10': give a list of modules or of their names"),
        (mlp, {"convention": "relased"}, "unknown convention 'relased': choose one of paper, released"),
        (mlp, {"floor": -1.0}, "the floor of the weights is -1.0: give a finite number of at least 0"),
        (mlp, {"floor": math.nan}, "the floor of the weights is nan"),
        (lambda: attach(mlp()), {}, "attached already: attach model.model"),
    ],
)
def test_what_cannot_be_attached_is_refused_in_a_sentence(
    model: Callable[[], nn.Module], settings: dict[str, Any], message: str, method: str
) -> None:
    with pytest.raises(MdfaError, match=message) as refused:
        attach(model(), method, **settings, example=torch.zeros(5, 4))
    assert "\n" not in str(refused.value)


def test_a_recurrent_layer_with_steps_first_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"block 'layer' gives the shape \(7, 5, 2\)"):
        attach(StepsFirst(), "dfa", blocks=["layer"], example=torch.zeros(5, 7, 3))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (OwnLSTM(2, 2), r"'2' \(OwnLSTM\) uses its weights 'weight_ih_l0' in code of its own"),
        (nn.Bilinear(2, 2, 2), r"'2' \(Bilinear\) uses its weights 'weight'"),
        (Matrix(), r"'2' \(Matrix\) uses its weights 'mixing' in code of its own"),
        (nn.Conv1d(2, 2, 2, padding="same"), r"'2' \(Conv1d\) pads unequally before and after"),
        (nn.Conv1d(2, 2, 3, padding=1, padding_mode="circular"), r"'2' \(Conv1d\) has padding_mode='circular'"),
    ],
)
def test_feedback_alignment_refuses_weights_it_cannot_replace(layer: nn.Module, message: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Unflatten(1, (2, 2)), layer, nn.Flatten(), nn.Linear(4, 1))
    with pytest.raises(InvalidValue, match=message):
        attach(model, "fa")
    attach(model, "bp")


def test_feedback_alignment_refuses_an_input_given_by_keyword() -> None:
    with pytest.raises(InvalidValue, match="a Linear is called with its input by keyword"):
        attach(Keyword(), "fa", blocks=[])(torch.zeros(5, 4))


def test_an_unknown_method_is_named_and_so_is_a_transport_of_another_kind() -> None:
    with pytest.raises(MdfaError, match="unknown method 'hebb': choose one of"):
        attach(mlp(), "hebb")

    class Detour(Chain):
        """Not known here, whatever it inherits."""

    method = Method(title="Detour", description="", transport=Detour(fixed=True), constraint=MONO)
    with pytest.raises(InvalidValue, match="Detour cannot be attached because it brings errors to layers in a way of"):
        attach(mlp(), method)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_the_table_is_attached_or_refused_by_name(method: str) -> None:
    if METHODS[method].transport.attachment() is not None:
        x = torch.zeros(5, 4)
        assert output_of(attach(mlp(), method, example=x), x, torch.zeros(5)).requires_grad
        return
    with pytest.raises(InvalidValue, match=f"^{METHODS[method].title} cannot be attached because it (needs|lets)"):
        attach(mlp(), method)


def test_a_released_model_is_refused() -> None:
    attached = attach(mlp(), "fa", example=torch.zeros(5, 4))
    attached.release()
    with pytest.raises(InvalidValue, match=r"removed by release\(\): attach the model again"):
        attached(torch.zeros(5, 4))


def test_parameters_made_in_inference_mode_are_refused() -> None:
    with torch.inference_mode():
        model = mlp()
    with pytest.raises(InvalidValue, match=r"parameter '0.weight' was created in inference mode"):
        attach(model, "dfa")
    later = mlp()
    attached = attach(later, "mdfa", example=torch.zeros(5, 4))
    with torch.inference_mode():
        later.load_state_dict(mlp().state_dict(), assign=True)
    with pytest.raises(InvalidValue, match=r"parameter '0.weight' was created in inference mode"):
        attached(torch.zeros(5, 4))


def test_what_is_not_known_before_a_call_says_so() -> None:
    attached = attach(mlp())
    for ask in (lambda: attached.layout, lambda: attached.guarantee):
        with pytest.raises(InvalidValue, match="call it once, or give attach an example"):
            ask()


def test_a_size_that_changes_is_refused_unless_positions_share_feedback() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.GRU(4, 5, batch_first=True), Last(), nn.Linear(5, 1))
    attached = attach(model, "dfa")
    attached(torch.zeros(2, 7, 3))
    with pytest.raises(InvalidValue, match=r"block '0' gives \(6, 4\) units an example, but its feedback was made for"):
        attached(torch.zeros(2, 6, 3))
    shared = attach(attached.release(), "dfa", axis=-1)
    for steps in (7, 6):
        shared(torch.zeros(2, steps, 3)).sum().backward()


def test_a_forward_pass_that_cuts_nothing_is_refused() -> None:
    model = Ending(block=nn.Sequential(nn.Linear(4, 3)))
    attached = attach(model, "dfa", blocks=["block"])
    attached(torch.zeros(5, 4))
    block, model.block = model.block, nn.Linear(4, 3)  # hooks are on the old one
    with pytest.raises(InvalidValue, match="a module of the model was replaced after it was attached"):
        attached(torch.zeros(5, 4))
    model.block = block
    model.forward = lambda x: model.head(x[:, :3])
    with pytest.raises(InvalidValue, match="no block ran in this forward pass"):
        attached(torch.zeros(5, 4))


def test_a_module_that_is_replaced_under_a_default_cut_is_noticed() -> None:
    model = mlp()
    attached = attach(model, "dfa", example=torch.zeros(5, 4))
    model[4] = nn.Linear(3, 1)  # what fine-tuning does; the last cut was a hook on the old one
    with pytest.raises(InvalidValue, match="a module of the model was replaced after it was attached: attach"):
        attached(torch.zeros(5, 4))


class Adapter(nn.Module):
    """A layer with a low-rank layer beside it, as fine-tuning adds them."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.beside = nn.Sequential(nn.Linear(layer.in_features, 1), nn.Linear(1, layer.out_features))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.beside(x)


@pytest.mark.parametrize("method", ["fa", "dfa", "kp"])
def test_layers_that_are_added_after_attaching_are_noticed(method: str) -> None:
    """No hook is on them, so under FA they would learn by BP."""
    model, x = mlp(), torch.zeros(5, 4)
    attached = attach(model, method, example=x)
    model[1] = nn.Sequential(nn.Tanh(), nn.Dropout())  # without a matrix
    attached(x)
    model[2] = Adapter(model[2])
    with pytest.raises(InvalidValue, match="a Linear was added to the model after it was attached, so no rule reaches"):
        attached(x)


@pytest.mark.parametrize("method", ["fa", "dfa"])
@pytest.mark.filterwarnings("ignore")  # PyTorch: tracing is deprecated
def test_a_traced_model_would_learn_by_backpropagation_and_is_refused(method: str) -> None:
    x = torch.zeros(5, 4)
    attached = attach(mlp(), method, example=x)
    with pytest.raises(InvalidValue, match=r"torch.jit.trace records no rule: give it attached.model, or"):
        torch.jit.trace(attached, x, check_trace=False)
    with torch.no_grad():
        assert torch.equal(torch.jit.trace(attached, x, check_trace=False)(x), attached(x))


@pytest.mark.parametrize("method", ["fa", "dfa"])
def test_an_exported_model_would_not_learn_and_is_refused(method: str) -> None:
    x = torch.zeros(5, 4)
    attached = attach(mlp(), method, example=x)
    with pytest.raises(InvalidValue, match=r"torch.export records no rule: give it attached.model, or run it under"):
        torch.export.export(attached, (x,))
    with torch.no_grad():
        assert torch.equal(torch.export.export(attached, (x,)).module()(x), attached(x))


@pytest.mark.filterwarnings("ignore")  # PyTorch: TorchScript is deprecated
@pytest.mark.parametrize("method", ["fa", "dfa"])
def test_a_part_made_by_torchscript_is_refused(method: str) -> None:
    with pytest.raises(InvalidValue, match=r"'0' was made by torch.jit.script or torch.jit.trace, where"):
        attach(nn.Sequential(torch.jit.trace(nn.Linear(4, 3), torch.zeros(5, 4)), nn.Tanh(), nn.Linear(3, 1)), method)


@pytest.mark.parametrize("method", ["fa", "mdfa"])
def test_a_sharded_model_is_refused(method: str) -> None:
    """Its parameters are not those of the forward pass, so no block would have any."""

    class DTensor(Tensor):
        """In place of PyTorch's, which needs a process group."""

    x = torch.zeros(5, 4)
    attached, late = attach(mlp(), method, example=x), attach(mlp(), method)
    for each in (attached, late):
        each.model[2].weight = nn.Parameter(each.model[2].weight.detach().as_subclass(DTensor))
    with pytest.raises(InvalidValue, match=r"'2.weight' is sharded \(fully_shard\): attach the model with an example"):
        late(x)
    with pytest.raises(InvalidValue, match=r"'2.weight' is sharded \(fully_shard\): measure a copy of the model"):
        measure(attached, (x, torch.zeros(5, 1)), nn.MSELoss())


@pytest.mark.parametrize("loss", ["linear", "square"])
@pytest.mark.parametrize("method", ["fa", "dfa"])
def test_second_derivatives_are_refused_and_graphs_of_first_ones_are_not(method: str, loss: str) -> None:
    """A gradient penalty often takes the gradient of the output's sum, whose error is constant."""
    x = torch.rand(5, 4, requires_grad=True)
    attached = attach(mlp(), method, example=x.detach())
    z = attached(x)
    (first,) = torch.autograd.grad((z if loss == "linear" else z.square()).sum(), x, create_graph=True)
    with pytest.raises(InvalidValue, match=r"a learning rule has no second derivatives: differentiate once"):
        first.square().sum().backward()


@pytest.mark.parametrize("method", ["fa", "usf"])
def test_a_layer_used_without_calling_it_is_refused_by_layerwise_rules(method: str) -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(4, 3), nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(torch.tanh(self.first(x)), self.head.weight, self.head.bias)

    with pytest.raises(InvalidValue, match=r"the weights of 'head' \(Linear\) are used without calling it"):
        attach(Functional(), method, blocks=["first"], example=torch.zeros(5, 4))
    attach(Functional(), "dfa", blocks=["first"], example=torch.zeros(5, 4))


@pytest.mark.parametrize("method", ["fa", "usf"])
def test_weights_that_are_called_and_used_otherwise_as_well_are_refused_by_layerwise_rules(method: str) -> None:
    """An autoencoder with tied weights; a table of embeddings multiplies no error, so it may be tied."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.encoder(x)) @ self.encoder.weight

    with pytest.raises(InvalidValue, match=r"the weights of 'encoder' \(Linear\) are used without calling it"):
        attach(Tied(), method, blocks=["encoder"], example=torch.zeros(5, 4))
    attach(Tied(), "dfa", blocks=["encoder"], example=torch.zeros(5, 4))
    words = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 3), nn.Linear(3, 4, bias=False))
    words[2].weight = words[0].weight
    attach(words, method, example=torch.zeros(5, dtype=torch.int64))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # what PyTorch says of it
@pytest.mark.parametrize("method", ["dfa", "fa"])
def test_a_reentrant_checkpoint_is_refused(method: str) -> None:
    """It runs its blocks without a graph, and again in the backward pass, where no rule would reach them."""

    class Saving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh())
            self.head = nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(checkpoint(self.body, x, use_reentrant=True))

    with pytest.raises(InvalidValue, match="runs with gradients disabled: use checkpoints with use_reentrant=False"):
        attach(Saving(), method, blocks=["body.1", "body.3"])(torch.zeros(5, 4, requires_grad=True))
