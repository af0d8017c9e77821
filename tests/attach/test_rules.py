"""What single rules need in a user's model: labels, new draws, an example, feedback of the user's own."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mdfa_core import METHODS
from mdfa_core.attach import attach, measure
from mdfa_core.base.errors import GeometryError, InvalidValue, MdfaError
from mdfa_core.rules import Attachment, Direct, Method, StepContext
from tests.attach.nets import Transformer, matrices, mlp, output_of
from tests.support.references import batch_of, learner_of, network_of, relative

X = torch.linspace(-1, 1, 24).reshape(6, 4)
Y = torch.arange(6) % 3


def learned(model: nn.Module, y: Tensor = Y) -> list[Tensor]:
    model.zero_grad()
    functional.cross_entropy(output_of(model, X, y), y).backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


# ------------------------------------------------------------------------------------------------------ labels (DRTP)


def test_labels_serve_one_pass() -> None:
    attached = attach(mlp(3), "drtp", example=X)
    attached.labels = Y
    with torch.no_grad():
        attached(X)  # an evaluation takes no labels away
    attached(X).sum().backward()
    assert attached.labels is None
    with pytest.raises(InvalidValue, match=r"DRTP projects the labels .*: set attached.labels before every forward"):
        attached(X)


def test_several_passes_before_one_backward_have_their_own_labels() -> None:
    attached = attach(mlp(3), "drtp", example=X)
    whole = learned(attached)
    attached.zero_grad()
    outputs = [output_of(attached, X[part], Y[part]) for part in (slice(0, 3), slice(3, 6))]
    functional.cross_entropy(torch.cat(outputs), Y).backward()
    hidden = [2, 2, 2, 2, 1, 1]  # −y*/N: each pass divides by its own 3 examples
    for parameter, tensor, factor in zip(attached.model.parameters(), whole, hidden, strict=True):
        assert relative(parameter.grad, factor * tensor) < 1e-5


@pytest.mark.parametrize("labels", [Y[:5], Y + 1, Y - 1, Y + 0.5, functional.one_hot(Y), torch.zeros(6, 3)], ids=str)
def test_labels_that_are_no_classes_are_refused(labels: Tensor) -> None:
    attached = attach(mlp(3), "drtp", example=X)
    attached.labels = labels
    with pytest.raises(InvalidValue, match="DRTP needs one class from 0 to 2 for every example and position"):
        attached(X)


@pytest.mark.parametrize("method", ["drtp", "sdfa"])
def test_tokens_count_as_examples(method: str) -> None:
    """With as many labels as tokens, and 1/N with N all of them."""
    tokens = torch.randint(0, 7, (5, 4))
    attached = attach(Transformer(), method, blocks=["blocks.0", "blocks.1"], axis=-1, example=tokens)
    z = output_of(attached, tokens, tokens % 3)
    error = torch.autograd.grad(functional.cross_entropy(z.flatten(0, 1), (tokens % 3).flatten()), z, retain_graph=True)
    _, met = attached.record((tokens,), {}, labels=tokens % 3)
    sent = error[0].sign() if method == "sdfa" else -functional.one_hot(tokens % 3, 3).float()
    z, met = attached.record((tokens,), {}, labels=tokens % 3)
    (found,) = torch.autograd.grad(z, [met[1].output], error[0])
    assert torch.allclose(found, sent / 20 @ attached.feedback[1])


def test_measuring_takes_the_labels_of_the_batch() -> None:
    attached = attach(mlp(3), "drtp", example=X)
    assert measure(attached, (X, Y), functional.cross_entropy).unit.overall[0] is not None
    assert attached.labels is None


# ----------------------------------------------------------------------------------------------- draws anew (brSF)


def test_magnitudes_are_drawn_anew_for_every_pass_and_resume_with_the_state() -> None:
    attached = attach(mlp(3), "brsf", seed=4, example=X)
    first, second = learned(attached), learned(attached)
    assert not torch.equal(first[0], second[0])
    with torch.no_grad():
        attached(X)
    measure(attached, (X, Y), functional.cross_entropy)
    resumed = attach(copy.deepcopy(attached.model), "brsf", seed=4, example=X)
    resumed.load_state_dict(attached.state_dict())
    assert all(map(torch.equal, learned(resumed), learned(attached)))


def test_magnitudes_of_every_step_are_the_engines() -> None:
    network = network_of("fc:5,4", outputs=3)
    learner = learner_of(network, "brsf", rates=(0.3,))
    inputs, labels = batch_of(network, 6)
    from tests.attach.nets import attached_twin

    attached = attached_twin(learner, "brsf", "tanh", inputs)
    attached._seed = learner.seeds[0]
    optimizer = torch.optim.SGD(attached.parameters(), 0.3)
    for _ in range(4):
        learner.step(inputs, labels)
        optimizer.zero_grad()
        functional.cross_entropy(attached(inputs[0]), labels[0]).backward()
        optimizer.step()
    for tensor, engine in zip(attached.parameters(), learner.parameters.tensors(), strict=True):
        assert relative(tensor.detach(), engine[0]) < 1e-12


# -------------------------------------------------------------------------------------------- feedback that learns (KP)


def test_kolen_pollack_gives_feedback_the_gradient_of_the_weights() -> None:
    net = nn.Sequential(
        *(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 2, 1), nn.Tanh(), nn.Conv2d(2, 2, 2), nn.Flatten()),
        *(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3)),
    )
    attached = attach(net, "kp", example=X)
    learned(attached)
    weights = matrices(net)[1:]  # the first layer sends no error down, so it has no feedback
    assert [name for name, _ in attached.feedback.named_parameters()] == ["1", "2", "3"]
    for b, weight in zip(attached.feedback, weights, strict=True):
        assert torch.allclose(b.grad, weight.grad, rtol=1e-5, atol=1e-8)


def test_kolen_pollack_refuses_an_input_that_asks_for_an_error() -> None:
    attached = attach(mlp(3), "kp", example=X)
    with pytest.raises(InvalidValue, match=r"layer '0' has no feedback, .*: detach the model's input"):
        attached(X.clone().requires_grad_())


# --------------------------------------------------------------------------------------------- feedback from the user


def given(method: str) -> dict[str, Any]:
    shapes = {"2": (5, 5), "4": (3, 5)} if method in ("fa", "frsf", "kp") else {"0": (3, 5), "2": (3, 5)}
    return {name: torch.rand(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("method", ["fa", "frsf", "kp", "dfa", "mdfa", "sdfa", "drtp", "dkp"])
def test_feedback_of_the_users_own(method: str) -> None:
    mine = given(method)
    attached = attach(mlp(3), method, feedback=mine, example=X)
    names = [item.owner for item in attached.feedback.wanted or ()]
    for name, tensor in mine.items():
        ours = list(attached.feedback)[names.index(name)]
        assert torch.equal(ours, tensor)
        assert ours.data_ptr() != tensor.data_ptr()
    assert all(tensor.isfinite().all() for tensor in learned(attached))


def test_feedback_may_be_a_sequence_sparse_or_of_low_rank() -> None:
    sparse = torch.tensor([[0.0, 1.0, 0, 0, 0], [0, 0, 0, 2.0, 0], [0, 0, 0, 0, 0]])
    low_rank = torch.randn(3, 1) @ torch.randn(1, 5)
    attached = attach(mlp(3), "dfa", feedback=[sparse.to_sparse(), low_rank.numpy()], example=X)
    assert torch.equal(attached.feedback[0], sparse)
    assert torch.equal(attached.feedback[1], low_rank)
    assert attach(mlp(3), "dfa", feedback={"2": low_rank}, seed=2, example=X).feedback[0].any()


@pytest.mark.parametrize(
    ("method", "feedback", "error", "message"),
    [
        ("dfa", {"1": torch.ones(3, 5)}, InvalidValue, "feedback is given for '1': give it for '0', '2'"),
        ("dfa", [torch.ones(3, 5)], InvalidValue, "1 feedback matrices are given: give 2, for '0', '2'"),
        ("dfa", {"0": torch.ones(5, 3)}, GeometryError, r"given for '0' has the shape \(5, 3\): give \(3, 5\)"),
        ("mdfa", {"0": -torch.ones(3, 5)}, InvalidValue, "given for '0' must have finite numbers of at least 0"),
        ("dfa", {"0": torch.full((3, 5), torch.nan)}, InvalidValue, "given for '0' must have finite numbers: change"),
        ("bp", {"0": torch.ones(3, 5)}, InvalidValue, "BP has no feedback weights: leave feedback out"),
        ("usf", {"0": torch.ones(3, 5)}, InvalidValue, "uSF has no feedback weights"),
    ],
)
def test_feedback_that_does_not_fit_is_refused(
    method: str, feedback: Any, error: type[MdfaError], message: str
) -> None:
    with pytest.raises(error, match=message):
        attach(mlp(3), method, feedback=feedback, example=X)


# ------------------------------------------------------------------------------------------------ a rule of one's own


class Tripled(Direct):
    """Sends 3 e."""

    def sent(self, error: Tensor, context: StepContext) -> Tensor:
        return 3 * error

    def attachment(self) -> Attachment:
        return Attachment(sent=self.sent)


def test_a_rule_of_the_users_own_is_attached_by_its_answer() -> None:
    torch.manual_seed(0)
    net = mlp(3)
    plain = learned(attach(copy.deepcopy(net), "dfa", seed=1, example=X))
    ours = learned(attach(net, Method(title="3", description="", transport=Tripled()), seed=1, example=X))
    for a, b, factor in zip(ours, plain, (3, 3, 3, 3, 1, 1), strict=True):
        assert relative(a, factor * b) < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_the_reason_of_a_refusal_is_stated_by_the_rule(method: str) -> None:
    transport = METHODS[method].transport
    assert transport.unattachable
    assert (transport.attachment() is None) == ("unattachable" in vars(type(transport)))
