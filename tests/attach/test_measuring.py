from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mdfa_core.attach import Measurement, attach, measure
from mdfa_core.attach.per_example import Backward
from mdfa_core.base.errors import InvalidValue
from mdfa_core.rules.methods import METHODS
from mdfa_core.training.history import QUANTITIES
from tests.attach.nets import (
    ATTACHABLE,
    DIRECT,
    EVERY_RULE,
    Recurrent,
    ResNet,
    Transformer,
    attached_twin,
    mlp,
)
from tests.support.cases import pairwise
from tests.support.references import batch_of, learner_of, network_of

EVERY = pytest.mark.parametrize("method", ATTACHABLE)


def loss(output: Tensor, y: Tensor) -> Tensor:
    if output.dim() == 3:
        return functional.cross_entropy(output.transpose(1, 2), y)
    if output.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(output.squeeze(1), y.to(output.dtype))
    return functional.cross_entropy(output, y)


def approximately(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, rel=1e-9, abs=1e-4)


def nets() -> dict[str, tuple[nn.Module, Tensor, Tensor, dict[str, Any]]]:
    pairs = torch.arange(6) % 2
    tokens = torch.randint(0, 7, (6, 4))
    return {
        "mlp": (mlp(), torch.randn(6, 4), pairs, {}),
        "resnet": (ResNet(), torch.randn(6, 2, 5, 5), pairs, {"blocks": ["first", "second"]}),
        "dropout": (
            nn.Sequential(nn.Linear(4, 9), nn.Dropout(0.5), nn.Linear(9, 9), nn.Dropout(0.5), nn.Linear(9, 1)),
            *(torch.randn(6, 4), pairs, {}),
        ),
        "in place": (
            nn.Sequential(nn.Linear(4, 9), nn.Sequential(nn.ReLU(inplace=True), nn.Linear(9, 9)), nn.Linear(9, 1)),
            *(torch.randn(6, 4), pairs, {}),
        ),
        "transformer": (Transformer(), tokens, tokens % 3, {"blocks": ["blocks.0", "blocks.1"], "axis": -1}),
    }


MEASURED = [
    *((name, 1) for name in EVERY_RULE),
    # uSF: where all weights of a unit have one sign, Σ e sign(W) is 0 but for rounding, and its sign chance.
    *((name, 3) for name in EVERY_RULE if name != "usf"),
]


@pytest.mark.parametrize(
    ("measured", "architecture", "activation"),
    pairwise(MEASURED, ["fc:5,4", "fc:1", "conv:3/3/1,2/2/2", "conv:3/3/2+fc:4"], ["tanh", "hard-tanh"]),
)
def test_it_measures_what_the_engine_measures(measured: tuple[str, int], architecture: str, activation: str) -> None:
    method, outputs = measured
    network = network_of(architecture, activation=activation, outputs=outputs, image=(1, 6, 5))
    learner = learner_of(network, method, scale=1.0)
    inputs, labels = batch_of(network, 5)
    expected = learner.measure(learner.observe(inputs, labels))

    found = measure(attached_twin(learner, method, activation, inputs), (inputs[0], labels[0]), loss)

    for level in ("unit", "example", "batch"):
        ours, theirs = getattr(found, level), getattr(expected, level)
        assert ours.layers == theirs.layers
        assert ours.overall == theirs.overall
        assert ours.undefined == theirs.undefined
    for ours, theirs in ((found.angle, expected.angle), (found.norm_ratio, expected.norm_ratio)):
        for (layer,), (reference,) in zip(ours, theirs, strict=True):
            assert layer == approximately(reference)
    assert found.angle_overall[0] == approximately(expected.angle_overall[0])


@pytest.mark.parametrize("name", nets())
def test_bp_agrees_with_itself(name: str) -> None:
    model, x, y, settings = nets()[name]
    found = measure(attach(model, "bp", **settings), (x, y), loss)
    for agreement in (found.unit, found.example, found.batch):
        assert set(agreement.overall) == {1.0}
    assert found.angle_overall == pytest.approx((0.0,), abs=1e-3)
    assert all(ratio == pytest.approx((1.0,)) for ratio in found.norm_ratio)


@pytest.mark.parametrize("name", nets())
@EVERY
@pytest.mark.parametrize("training", [True, False])
def test_nothing_changes(name: str, method: str, training: bool) -> None:
    model, x, y, settings = nets()[name]
    attached = attach(model, method, **settings)
    attached.train(training)
    loss(attached(x), y).backward()
    before = {key: tensor.clone() for key, tensor in attached.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in attached.parameters()]
    versions = [tensor._version for tensor in (*attached.parameters(), *attached.buffers())]
    random = torch.random.get_rng_state()
    pending = loss(attached(x), y) if method == "bp" and name != "dropout" and not training else None

    measure(attached, (x, y), loss)

    assert all(torch.equal(tensor, before[key]) for key, tensor in attached.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(attached.parameters(), gradients, strict=True))
    assert versions == [tensor._version for tensor in (*attached.parameters(), *attached.buffers())]
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(module.training is training for module in attached.modules())
    assert not any(parameter.grad is None for parameter in attached.parameters())
    if pending is not None:
        pending.backward()


@pytest.mark.parametrize("name", ["mlp", "resnet", "in place"])
@pytest.mark.parametrize("method", DIRECT)
def test_single_examples_are_counted_one_by_one_and_add_up_to_the_batch(name: str, method: str) -> None:
    """Written out once more, also where examples meet in a batch normalisation."""
    model, x, y, settings = nets()[name]
    model, x = model.double(), x.double()
    attached = attach(model, method, **settings, example=x)
    hidden = [model.get_parameter(name) for names in attached.layout.segments[:-1] for name in names]
    sides = []
    for net in (attached, model):
        output = net(x)
        error = torch.autograd.grad(loss(output, y), output, retain_graph=True)[0]
        whole = torch.autograd.grad(output, hidden, error, retain_graph=True)
        parts = []
        for n in range(len(x)):
            alone = torch.zeros_like(error)
            alone[n] = error[n]
            parts.append(torch.autograd.grad(output, hidden, alone, retain_graph=True))
        for tensor, *singles in zip(whole, *parts, strict=True):
            assert torch.allclose(sum(singles), tensor, atol=1e-12)
        sides.append(torch.cat([tensor.flatten() for part in parts for tensor in part]))
    signs = sides[0].sign() * sides[1].sign()

    found = measure(attached, (x, y), loss)

    expected = (signs > 0).sum().item() / (signs != 0).sum().item()
    assert found.example.overall[0] == pytest.approx(expected, abs=0.01)  # rounding decides signs of what should be 0


def test_dropped_units_are_dropped_on_both_sides_and_undefined_where_zero() -> None:
    model, x, y, settings = nets()["dropout"]
    found = measure(attach(model, "dfa", **settings), (x, y), loss)
    # The cut is after the dropout: a dropped unit sends nothing up, but W of the next layer still brings an error.
    assert all(share == (0.0,) for share in found.unit.undefined)
    assert found.example.undefined[0][0] > 0.2


def test_dead_layers_are_undefined_and_not_agreement() -> None:
    model = mlp()
    with torch.no_grad():
        model[4].weight.zero_()
    found = measure(attach(model, "dfa"), (torch.randn(6, 4), torch.arange(6) % 2), loss)
    assert found.unit.layers == ((None,), (None,))
    assert found.unit.undefined == ((1.0,), (1.0,))
    assert found.unit.overall == (None,)
    assert found.angle == ((None,), (None,))
    assert found.norm_ratio == ((None,), (None,))
    assert "unit/overall" not in found.scalars()


@EVERY
def test_a_model_of_one_block_has_nothing_to_measure(method: str) -> None:
    found = measure(attach(nn.Linear(4, 1), method), (torch.randn(6, 4), torch.arange(6) % 2), loss)
    assert found.blocks == found.unit.layers == found.angle == ()
    assert found.unit.overall == found.angle_overall == (None,)


@EVERY
def test_frozen_and_recurrent_blocks(method: str) -> None:
    model = mlp()
    model[0].requires_grad_(False)
    found = measure(attach(model, method), (torch.randn(6, 4), torch.arange(6) % 2), loss)
    assert found.unit.layers[0] == found.batch.layers[0] == (None,)
    assert found.unit.layers[1][0] is not None
    if method in (*DIRECT, "bp"):  # the others cannot replace the weights of a GRU
        attached = attach(Recurrent(), method, blocks=["layer", "cell"])
        found = measure(attached, (torch.randn(6, 7, 3), torch.arange(6) % 2), loss)
        assert found.unit.overall[0] is not None


def test_some_examples_only() -> None:
    attached = attach(mlp(), "dfa", seed=1)
    batch = torch.randn(6, 4), torch.arange(6) % 2
    assert measure(attached, batch, loss, examples=0).example.overall == (None,)
    assert measure(attached, batch, loss, examples=6) == measure(attached, batch, loss)
    some = measure(attached, batch, loss, examples=2)
    assert some.unit == measure(attached, batch, loss).unit
    assert some.example.overall[0] is not None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: model,
        lambda model: nn.ModuleDict({"net": model}),
        lambda model: torch.compile(model, backend="eager"),
    ],
)
def test_a_module_around_the_attached_model_will_do(wrap: Callable[[nn.Module], nn.Module]) -> None:
    attached = attach(mlp(), "dfa")
    batch = torch.randn(6, 4), torch.arange(6) % 2
    assert measure(wrap(attached), batch, loss) == measure(attached, batch, loss)


def test_measuring_under_autocast_and_without_gradients() -> None:
    attached = attach(ResNet(), "dfa", blocks=["first", "second"])
    batch = torch.randn(6, 2, 5, 5), torch.arange(6) % 2
    exact = measure(attached, batch, loss)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        rough = measure(attached, batch, loss)
    assert rough.unit.overall[0] == pytest.approx(exact.unit.overall[0], abs=0.1)


@pytest.mark.parametrize(
    ("model", "batch", "criterion", "message"),
    [
        (mlp, (torch.zeros(2, 4), torch.zeros(2)), loss, "the Sequential contains 0 attached models"),
        (
            lambda: nn.ModuleList([attach(mlp()), attach(mlp())]),
            *((torch.zeros(2, 4), torch.zeros(2)), loss, "contains 2 attached models"),
        ),
        (lambda: attach(mlp()), torch.zeros(2, 4), loss, r"the batch is a Tensor: give a pair \(x, y\)"),
        (lambda: attach(mlp()), (torch.zeros(2, 4), torch.zeros(2)), lambda z, y: z, "the loss is not one number"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    model: Callable[[], nn.Module], batch: Any, criterion: Callable[..., Tensor], message: str
) -> None:
    with pytest.raises(InvalidValue, match=message):
        measure(model(), batch, criterion)


@EVERY
def test_scalars_are_named_by_block(method: str) -> None:
    found = measure(attach(mlp(), method), (torch.randn(6, 4), torch.arange(6) % 2), loss)
    scalars = found.scalars()
    assert isinstance(found, Measurement)
    assert METHODS[method].title
    assert scalars["unit/overall"] == found.unit.overall[0]
    assert scalars["unit/0"] == found.unit.layers[0][0]
    assert scalars["batch_undefined/2"] == found.batch.undefined[1][0]
    assert scalars["angle/2"] == found.angle[1][0]
    assert scalars["norm_ratio/0"] == found.norm_ratio[0][0]
    assert all(isinstance(value, float) for value in scalars.values())


def test_a_measurement_prints_as_a_table_and_gives_a_tidy_one() -> None:
    pytest.importorskip("pandas")
    found = measure(attach(mlp(), "dfa"), (torch.randn(6, 4), torch.arange(6) % 2), loss)
    head, *rows = str(found).splitlines()
    assert head.split()[:2] == ["block", "sign_agreement"]
    assert [row.split()[0] for row in rows] == ["0", "2", "all"]
    table = found.frame()
    assert list(table.columns) == ["block", "quantity", "value"]
    assert set(table.quantity) < set(QUANTITIES)
    angles = table[table.quantity == "angle"]
    assert angles.value.tolist() == [found.angle_overall[0], found.angle[0][0], found.angle[1][0]]
    assert angles.block.isna().tolist() == [True, False, False]


@pytest.mark.parametrize("method", ["dfa", "fa", "drtp"])
@pytest.mark.parametrize("layer", [nn.BatchNorm1d(9), nn.LayerNorm(9), nn.Identity()])
def test_single_updates_by_rows_are_those_of_one_pass_for_each_example(
    layer: nn.Module, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch normalisation lets examples interact, so that rows of the batch's errors would be wrong."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 9), copy.deepcopy(layer), nn.Tanh(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 3))
    batch = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3
    attached = attach(model.double(), method, example=batch[0])
    found = measure(attached, batch, loss)
    monkeypatch.setattr(Backward, "covers", lambda *_: False)
    assert found.example == measure(attached, batch, loss).example
    monkeypatch.setattr(Backward, "_batched", lambda *_: None)
    assert found.example == measure(attached, batch, loss).example


class Twice(nn.Linear):
    """Uses its weights in another way than the formula of a linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, 2 * self.weight, self.bias)


class Again(nn.Module):
    """Uses its weights in a call, and once more without calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(9, 9)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x)) @ self.layer.weight


class Centred(nn.Module):
    """Takes a mean over examples, outside of any normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


@pytest.mark.parametrize("part", [Twice(9, 9), Again(), Centred()], ids=lambda part: type(part).__name__)
@pytest.mark.parametrize("examples", [None, 3])
def test_rows_that_do_not_make_single_updates_are_noticed(
    part: nn.Module, examples: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    parts = copy.deepcopy(part), nn.Linear(9, 3)
    model = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Sequential(nn.Linear(9, 9), *parts)).double()
    model = nn.Sequential(*model, nn.Linear(3, 3).double())
    batch = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3
    attached = attach(model, "dfa", example=batch[0])
    found = measure(attached, batch, loss, examples=examples)
    monkeypatch.setattr(Backward, "covers", lambda *_: False)
    assert found.example == measure(attached, batch, loss, examples=examples).example


@EVERY
def test_there_is_one_forward_pass(method: str) -> None:
    calls: list[nn.Module] = []
    model = mlp()
    attached = attach(model, method, example=torch.randn(6, 4))
    model[0].register_forward_hook(lambda module, args, output: calls.append(module))
    measure(attached, (torch.randn(6, 4), torch.arange(6) % 2), loss)
    assert len(calls) == 1
