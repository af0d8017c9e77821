"""Layer-wise rules in recurrent layers and attention: BP is autograd, FA is a slow reference, and the edges."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

from mdfa_core.attach import Attached, attach, measure
from mdfa_core.base.errors import InvalidValue
from mdfa_core.rules import Attachment, Chain, Method
from tests.support.references import relative

N, T, D, H, C = 4, 5, 6, 4, 2
X = torch.randn((N, T, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(N) % C


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        yield


class Around(nn.Module):
    """A linear layer, the layer to be tested as `call` calls it, and a linear layer of the mean over steps."""

    def __init__(self, layer: nn.Module, units: int = H, call: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.first, self.layer, self.head = nn.Linear(3, D), layer, nn.Linear(units, C)
        self.call = call
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        found = self.layer(h) if self.call is None else self.call(self.layer, h)
        found = found[0] if isinstance(found, tuple) else found
        return self.head(found.mean(1))


def steps(cell: Any, h: Tensor) -> Tensor:
    """A cell called once for every step."""
    state, found = None, []
    for t in range(h.shape[1]):
        state = cell(h[:, t], state)
        found.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(found, 1)


def attend(*, mask: str = "", **settings: Any) -> Callable[..., Any]:
    causal = torch.ones(T, T, dtype=torch.bool).triu(1)
    padding = torch.arange(T).expand(N, T) >= torch.tensor([[T], [3], [2], [4]])

    def call(layer: Any, h: Tensor) -> Any:
        given = {"causal": {"attn_mask": causal}, "padding": {"key_padding_mask": padding}, "": {}}[mask]
        return layer(h, h, h, **given, **settings)

    return call


def across(layer: Any, h: Tensor) -> Any:
    """Keys and values of other sizes than queries."""
    return layer(h, h[:, :3, :5], h[:, :3, :2])


def steps_first(layer: Any, h: Tensor) -> Tensor:
    return layer(h.transpose(0, 1))[0].transpose(0, 1)


def with_state(layer: Any, h: Tensor) -> Tensor:
    state = torch.full((layer.num_layers, N, H), 0.3, dtype=h.dtype)
    found, last = layer(h, (state, 2 * state) if isinstance(layer, nn.LSTM) else state)
    return found + (last[1][0] if isinstance(layer, nn.LSTM) else last[0]).unsqueeze(1)


NETS: dict[str, Callable[[], Around]] = {
    "lstm": lambda: Around(nn.LSTM(D, H, batch_first=True)),
    "lstm, two directions and layers": lambda: Around(
        nn.LSTM(D, H, 2, batch_first=True, bidirectional=True, proj_size=3), 6
    ),
    "lstm from a state": lambda: Around(nn.LSTM(D, H, 2, batch_first=True), call=with_state),
    "gru": lambda: Around(nn.GRU(D, H, 2, bidirectional=True), 2 * H, steps_first),
    "gru from a state": lambda: Around(nn.GRU(D, H, batch_first=True), call=with_state),
    "rnn": lambda: Around(nn.RNN(D, H, batch_first=True, bias=False)),
    "relu rnn": lambda: Around(nn.RNN(D, H, nonlinearity="relu", batch_first=True)),
    "one sequence": lambda: Around(
        nn.LSTM(D, H, bidirectional=True), 2 * H, lambda layer, h: torch.stack([layer(x)[0] for x in h])
    ),
    "lstm cell": lambda: Around(nn.LSTMCell(D, H), call=steps),
    "gru cell": lambda: Around(nn.GRUCell(D, H, bias=False), call=steps),
    "rnn cell": lambda: Around(nn.RNNCell(D, H), call=steps),
    "attention": lambda: Around(nn.MultiheadAttention(D, 2, batch_first=True), D, attend()),
    "attention, causal": lambda: Around(nn.MultiheadAttention(D, 3, batch_first=True), D, attend(mask="causal")),
    "attention, padded": lambda: Around(
        nn.MultiheadAttention(D, 2, bias=False, batch_first=True), D, attend(mask="padding", need_weights=False)
    ),
    "attention, more keys": lambda: Around(
        nn.MultiheadAttention(D, 2, add_bias_kv=True, add_zero_attn=True, batch_first=True), D, attend()
    ),
    "attention, across": lambda: Around(nn.MultiheadAttention(D, 2, kdim=5, vdim=2, batch_first=True), D, across),
    "transformer": lambda: Around(nn.TransformerEncoderLayer(D, 2, 8, dropout=0.0, batch_first=True), D),
}


class Transposed(Chain):
    """BP as a rule with fixed feedback, so that every product goes the way of FA: M = W."""

    def __init__(self) -> None:
        super().__init__(fixed=True)

    def matrix(self, weight: Tensor, own: Tensor | None) -> Tensor:
        return weight

    def attachment(self) -> Attachment:
        return Attachment(matrix=self.matrix)


TRANSPOSED = Method(title="Wᵀ", description="", transport=Transposed())


def loss_of(z: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(z, y)


def learned(model: nn.Module, net: nn.Module, x: Tensor = X, y: Tensor = Y) -> dict[str, Tensor]:
    """The gradients of a net's parameters by a pass through a model around it."""
    net.zero_grad()
    loss_of(model(x), y).backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def attached_by(method: str | Method, net: Around) -> Attached:
    return attach(net, method, blocks=["first", "layer"], seed=3, example=X)


# ------------------------------------------------------------------------------------------------------- what is learnt


@pytest.mark.parametrize("name", NETS)
def test_the_products_one_by_one_are_the_layer_and_its_gradients(name: str) -> None:
    net = NETS[name]()
    plain, expected = net(X), learned(net, net)
    blocks = ["first"] if "cell" in name or name == "one sequence" else ["first", "layer"]
    attached = attach(net, TRANSPOSED, blocks=[] if name == "gru" else blocks, example=X)
    assert torch.allclose(attached(X), plain, atol=1e-14)
    ours = learned(attached, net)
    assert ours.keys() == expected.keys()
    for key in expected:
        assert relative(ours[key], expected[key]) < 1e-12, key


def through(w: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """W x for one example, whose error returns through B."""
    value = w @ x.detach()
    path = b @ x
    return value + path - path.detach()


def slow_lstm(p: dict[str, Tensor], b: dict[str, Tensor], xs: Tensor) -> list[Tensor]:
    h, c, found = xs.new_zeros(H), xs.new_zeros(H), []
    for x in xs:
        a = through(p["weight_ih_l0"], b["weight_ih_l0"], x) + p["bias_ih_l0"]
        a = a + through(p["weight_hh_l0"], b["weight_hh_l0"], h) + p["bias_hh_l0"]
        i, f, g, o = a[:H].sigmoid(), a[H : 2 * H].sigmoid(), a[2 * H : 3 * H].tanh(), a[3 * H :].sigmoid()
        c = f * c + i * g
        h = o * c.tanh()
        found.append(h)
    return found


def slow_gru(p: dict[str, Tensor], b: dict[str, Tensor], xs: Tensor) -> list[Tensor]:
    h, found = xs.new_zeros(H), []
    for x in xs:
        u = through(p["weight_ih_l0"], b["weight_ih_l0"], x) + p["bias_ih_l0"]
        v = through(p["weight_hh_l0"], b["weight_hh_l0"], h) + p["bias_hh_l0"]
        r, z = (u[:H] + v[:H]).sigmoid(), (u[H : 2 * H] + v[H : 2 * H]).sigmoid()
        n = (u[2 * H :] + r * v[2 * H :]).tanh()
        h = (1 - z) * n + z * h
        found.append(h)
    return found


def slow_attention(p: dict[str, Tensor], b: dict[str, Tensor], xs: Tensor) -> list[Tensor]:
    heads, w, feedback, bias = 2, p["in_proj_weight"], b["in_proj_weight"], p["in_proj_bias"]
    q, k, v = (
        [through(w[part], feedback[part], x) + bias[part] for x in xs]
        for part in (slice(0, D), slice(D, 2 * D), slice(2 * D, 3 * D))
    )
    found = []
    for t in range(len(xs)):
        mixed = []
        for head in range(heads):
            own = slice(head * D // heads, (head + 1) * D // heads)
            scores = torch.stack([q[t][own] @ k[s][own] for s in range(len(xs))]) / (D // heads) ** 0.5
            mixed.append(sum(weight * v[s][own] for s, weight in enumerate(scores.softmax(0))))
        found.append(through(p["out_proj.weight"], b["out_proj.weight"], torch.cat(mixed)) + p["out_proj.bias"])
    return found


@pytest.mark.parametrize(("name", "slow"), [("lstm", slow_lstm), ("gru", slow_gru), ("attention", slow_attention)])
@pytest.mark.parametrize("method", ["fa", "usf", "frsf"])
def test_every_transpose_is_replaced_through_time_and_inside_the_block(
    method: str, name: str, slow: Callable[[dict[str, Tensor], dict[str, Tensor], Tensor], list[Tensor]]
) -> None:
    net = Around(nn.GRU(D, H, batch_first=True)) if name == "gru" else NETS[name]()
    reference = copy.deepcopy(net)
    attached = attached_by(method, net)
    ours = learned(attached, net)

    inner = dict(reference.layer.named_parameters())
    drawn = {item.owner: b for item, b in zip(attached.feedback.wanted or (), attached.feedback, strict=True)}

    def sent(owner: str, w: Tensor) -> Tensor:
        if method == "usf":
            return w.detach().sign()
        return drawn[owner] if method == "fa" else drawn[owner].abs() * w.detach().sign()

    b = {key: sent(f"layer.{key}", w) for key, w in inner.items() if w.dim() == 2}
    z = []
    for example in X:
        h = reference.first(example)
        mean = torch.stack(slow(inner, b, h)).mean(0)
        head = reference.head
        z.append(through(head.weight, sent("head", head.weight), mean) + head.bias)
    loss_of(torch.stack(z), Y).backward()

    for key, parameter in reference.named_parameters():
        assert relative(ours[key], parameter.grad) < 1e-12, key


@pytest.mark.parametrize("name", ["lstm, two directions and layers", "gru from a state", "attention, across"])
def test_kolen_pollack_gives_every_matrix_the_gradient_of_its_weights(name: str) -> None:
    net = NETS[name]()
    attached = attached_by("kp", net)
    ours = learned(attached, net)
    wanted = attached.feedback.wanted or ()
    assert any(item.owner.startswith("layer.") for item in wanted)
    for item in wanted:
        key = item.owner if item.owner in ours else f"{item.owner}.weight"
        grad = attached.feedback[item.number].grad
        if "weight_hh" in key and "state" in name:  # the first step's state is given, and needs no error
            continue
        assert grad is not None
        if "weight_hh" not in key:
            assert relative(grad, ours[key]) < 1e-12, key


@pytest.mark.parametrize("name", ["gru", "transformer"])
def test_dropout_inside_is_the_same_for_the_rule_and_the_true_gradient(name: str) -> None:
    layer: nn.Module = (
        nn.GRU(D, H, 2, dropout=0.5, batch_first=True)
        if name == "gru"
        else nn.TransformerEncoderLayer(D, 2, 8, dropout=0.5, batch_first=True)
    )
    net = Around(layer, H if name == "gru" else D)
    found = measure(attached_by(TRANSPOSED, net), (X, Y), loss_of)
    assert found.angle_overall[0] == pytest.approx(0, abs=1e-4)
    assert found.example.overall[0] == pytest.approx(1, abs=0.01)  # a bias of keys has the gradient 0


# ---------------------------------------------------------------------------------------------------- around the layer


@pytest.mark.parametrize("name", ["lstm", "attention"])
def test_a_copy_and_a_pickle_learn_as_the_original(name: str) -> None:
    net = NETS[name]() if name == "lstm" else Around(nn.MultiheadAttention(D, 2, batch_first=True), D, plain_attention)
    attached = attached_by("fa", net)
    expected = learned(attached, net)
    for other in (copy.deepcopy(attached), pickle.loads(pickle.dumps(attached))):
        assert other.model.layer is not net.layer
        found = learned(other, other.model)
        assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize("name", ["lstm", "attention"])
def test_compiled_code_learns_as_the_original(name: str) -> None:
    net = NETS[name]()
    attached = attached_by("fa", net)
    expected = learned(attached, net)
    torch._dynamo.reset()
    found = learned(torch.compile(attached, backend="eager", fullgraph=name == "attention"), net)
    assert all(torch.allclose(found[key], expected[key]) for key in expected)


def plain_attention(layer: Any, h: Tensor) -> Any:
    return layer(h, h, h)


def test_the_layer_gets_its_own_forward_pass_back() -> None:
    net = NETS["lstm"]()
    expected = learned(net, net)
    first = attached_by("fa", net)
    by_fa = learned(first, net)
    second = attached_by("usf", net)  # over the first
    assert all(torch.equal(learned(first, net)[key], by_fa[key]) for key in by_fa)
    for order in ((first, second), (second,)):
        order[0].release()
    assert all(torch.equal(learned(net, net)[key], expected[key]) for key in expected)


@pytest.mark.parametrize(("part", "weight"), [("layer", "weight_ih_l0"), ("head", "weight")])
def test_a_forward_pass_of_the_users_own_is_refused(part: str, weight: str) -> None:
    net = NETS["lstm"]()
    net.get_submodule(part).forward = lambda x: x[..., :H]  # type: ignore[method-assign]
    with pytest.raises(InvalidValue, match=rf"{part!r} \(\w+\) uses its weights {weight!r} in code of its own"):
        attached_by("fa", net)


def test_a_packed_sequence_is_refused() -> None:
    def packed(layer: Any, h: Tensor) -> Any:
        return layer(pack_padded_sequence(h, torch.full((N,), T), batch_first=True))[1][0].transpose(0, 1)

    net = Around(nn.LSTM(D, H, batch_first=True), call=packed)
    with pytest.raises(InvalidValue, match=r"a LSTM has a packed sequence as its input, .*: give a padded tensor"):
        attach(net, "fa", blocks=[], example=X)
    attach(net, "dfa", blocks=["first"], example=X)


@pytest.mark.parametrize("name", ["lstm", "gru cell"])
def test_a_state_of_another_size_is_refused(name: str) -> None:
    def wrong(layer: Any, h: Tensor) -> Any:
        state = h.new_zeros(1, 1, H) if name == "lstm" else h.new_zeros(1, H)
        found = layer(h, (state, state))[0] if name == "lstm" else layer(h[:, 0], state).unsqueeze(1)
        return found

    net = Around(nn.LSTM(D, H, batch_first=True) if name == "lstm" else nn.GRUCell(D, H), call=wrong)
    with pytest.raises((InvalidValue, RuntimeError), match=r"Expected hidden\[0\] size|give \(4, 4\)"):
        attach(net, "fa", blocks=["first"], example=X)
