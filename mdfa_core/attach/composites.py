"""Recurrent layers and attention with their products written one by one, so that a rule can replace W in each.

PyTorch computes such a layer in one call, inside which nothing can be replaced. In a pass that learns by a layer-wise
rule, `Composite` computes the layer from single products W x instead. Everything between the products is as in PyTorch:
gates, the softmax and the product of its weights with the values contain no learned matrix, so errors pass through them
as in BP.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from mdfa_core.attach.routing import CurrentPlan, refuse_no_graph
from mdfa_core.base.errors import InvalidValue

State = tuple[Tensor, ...]
"""What a recurrent layer keeps from step to step: (h,), or (h, c) of an LSTM."""


class Product(Protocol):
    """W x + b for parameters named inside the layer, or for some rows of them."""

    def __call__(self, weight: str, bias: str, x: Tensor, rows: slice = ...) -> Tensor: ...


def matrices_of(module: nn.Module) -> tuple[str, ...]:
    """The names of the matrices inside a layer of this module, in the order of use; () for any other module."""
    forward = type(module).forward
    if has_own_forward(module):
        return ()
    if forward is nn.MultiheadAttention.forward:
        packed = module._qkv_same_embed_dim
        into = ("in_proj_weight",) if packed else ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        return (*into, "out_proj.weight")
    if forward in _CELLS:
        return ("weight_ih", "weight_hh")
    if forward in _RECURRENT:
        kinds = ("weight_ih", "weight_hh", "weight_hr") if module.proj_size else ("weight_ih", "weight_hh")
        return tuple(f"{kind}{suffix}" for suffix in _suffixes(module) for kind in kinds)
    return ()


def has_own_forward(module: nn.Module) -> bool:
    """Whether somebody gave this one module another forward pass than its class has."""
    forward = vars(module).get("forward")
    return forward is not None and not isinstance(getattr(forward, "__self__", None), Composite)


class Composite:
    """The forward pass of one such layer; takes the place of the module's own until `release`.

    Args:
        module: the layer.
        numbers: the numbers of its matrices among all layers whose W is replaced, by name.
        plan: of the model; without one, the module's own forward pass runs.
    """

    def __init__(self, module: nn.Module, numbers: dict[str, int], plan: CurrentPlan) -> None:
        self.module, self.numbers, self.plan = module, numbers, plan
        self.before = vars(module).get("forward")
        module.forward = self.forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What `module.forward` would give."""
        kind: Any = type(self.module)
        if self.plan.of_layers() is None:
            own = functools.partial(kind.forward, self.module) if self.before is None else self.before
            return own(*args, **kwargs)
        refuse_no_graph(self.module)
        return _FORWARDS[kind.forward](self.module, self.product, *args, **kwargs)

    def release(self) -> None:
        """Give the module its forward pass back. Below that of a later `attach`, this one stays and does nothing."""
        if vars(self.module).get("forward") == self.forward:
            del self.module.forward
            if self.before is not None:
                self.module.forward = self.before

    def product(self, weight: str, bias: str, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """W x + b, with the rule's matrix in place of W in the backward pass."""
        current, number = self.plan.of_layers(), self.numbers[weight]
        assert current is not None
        w, b = _inside(self.module, weight), _inside(self.module, bias)
        w, b = w[rows], None if b is None else b[rows]
        current.ran.append(number)
        if x.requires_grad:
            current.fed.append(number)
        if current.carrier is None or not x.requires_grad:
            return functional.linear(x, w, b)
        carrier = current.carrier(number, _inside(self.module, weight), current.drawn)[rows]
        return current.connect(functional.linear(x.detach(), w, b), x, carrier, w, None)


def _inside(module: Any, name: str) -> Any:
    owner, _, attribute = name.rpartition(".")
    return getattr(module.get_submodule(owner), attribute, None)


# ------------------------------------------------------------------------------------------------------------ recurrent


def _lstm(module: Any, product: Product, into: Tensor, state: State, suffix: str) -> State:
    h, c = state
    gates = into + product(f"weight_hh{suffix}", f"bias_hh{suffix}", h)
    i, f, g, o = gates.chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    if getattr(module, "proj_size", 0):
        h = product(f"weight_hr{suffix}", "", h)
    return h, c


def _gru(module: Any, product: Product, into: Tensor, state: State, suffix: str) -> State:
    (h,) = state
    r, z, n = into.chunk(3, -1)
    hr, hz, hn = product(f"weight_hh{suffix}", f"bias_hh{suffix}", h).chunk(3, -1)
    z = torch.sigmoid(z + hz)
    n = torch.tanh(n + torch.sigmoid(r + hr) * hn)
    return ((1 - z) * n + z * h,)


def _rnn(module: Any, product: Product, into: Tensor, state: State, suffix: str) -> State:
    a = into + product(f"weight_hh{suffix}", f"bias_hh{suffix}", state[0])
    return (torch.relu(a) if module.nonlinearity == "relu" else torch.tanh(a),)


_STEPS: dict[type[nn.Module], Callable[..., State]] = {
    **dict.fromkeys((nn.LSTM, nn.LSTMCell), _lstm),
    **dict.fromkeys((nn.GRU, nn.GRUCell), _gru),
    **dict.fromkeys((nn.RNN, nn.RNNCell), _rnn),
}
"""One step of a layer: from W_ih x + b_ih and the state to the next state."""


def _step_of(module: nn.Module) -> Callable[..., State]:
    return next(step for kind, step in _STEPS.items() if isinstance(module, kind))


def _suffixes(module: Any) -> list[str]:
    """The ends of the names of the parameters of every layer and direction."""
    return [
        f"_l{layer}{direction}"
        for layer in range(module.num_layers)
        for direction in (("", "_reverse") if module.bidirectional else ("",))
    ]


@torch.compiler.disable  # as PyTorch does with its own recurrent layers
def _recurrent(module: Any, product: Product, x: Any, hx: Any = None) -> Any:
    """A layer that runs over all steps of a sequence."""
    if isinstance(x, PackedSequence):
        raise InvalidValue(
            f"a {type(module).__name__} has a packed sequence as its input, which feedback alignment cannot take: give "
            f"a padded tensor, or choose a direct rule such as dfa"
        )
    axis = 0 if x.dim() < 3 or not module.batch_first else 1  # of the steps
    alone = x.dim() < 3
    x = x.unsqueeze(1) if alone else x.movedim(axis, 0)
    states = _states(module, x, hx, alone=alone)
    step, directions = _step_of(module), 2 if module.bidirectional else 1
    last: list[State] = []
    for layer in range(module.num_layers):
        outputs = []
        for suffix in _suffixes(module)[layer * directions : (layer + 1) * directions]:
            into, state, found = product(f"weight_ih{suffix}", f"bias_ih{suffix}", x), states[len(last)], []
            backwards = suffix.endswith("_reverse")
            for part in reversed(into.unbind()) if backwards else into.unbind():
                state = step(module, product, part, state, suffix)
                found.append(state[0])
            last.append(state)
            outputs.append(torch.stack(found[::-1] if backwards else found))
        x = torch.cat(outputs, -1)
        if layer < module.num_layers - 1:
            x = functional.dropout(x, module.dropout, module.training)
    final = [torch.stack(each) for each in zip(*last, strict=True)]
    if alone:
        x, final = x.squeeze(1), [each.squeeze(1) for each in final]
    return x.movedim(0, axis), tuple(final) if isinstance(module, nn.LSTM) else final[0]


def _states(module: Any, x: Tensor, hx: Any, *, alone: bool) -> list[State]:
    """The first states of all layers and directions; x is [steps, examples, inputs]."""
    count = module.num_layers * (2 if module.bidirectional else 1)
    if hx is None:
        sizes = (module.proj_size or module.hidden_size, module.hidden_size)
        given = [x.new_zeros(count, x.shape[1], size) for size in sizes[: 2 if isinstance(module, nn.LSTM) else 1]]
    else:
        given = list(hx) if isinstance(module, nn.LSTM) else [hx]
        given = [state.unsqueeze(1) for state in given] if alone else given
    checked = tuple(given) if isinstance(module, nn.LSTM) else given[0]
    module.check_forward_args(x.movedim(0, 1) if module.batch_first else x, checked, None)
    return list(zip(*(state.unbind() for state in given), strict=True))


def _cell(module: Any, product: Product, x: Tensor, hx: Any = None) -> Any:
    """A layer that runs once for every step."""
    pair = isinstance(module, nn.LSTMCell)
    alone = x.dim() == 1
    if hx is None:
        hx = x.new_zeros(*x.shape[:-1], module.hidden_size)
        hx = (hx, hx) if pair else hx
    state = tuple(h.unsqueeze(0) if alone else h for h in (hx if pair else (hx,)))
    x = x.unsqueeze(0) if alone else x
    if any(h.shape != (len(x), module.hidden_size) for h in state):
        raise InvalidValue(
            f"a {type(module).__name__} has the states {[tuple(h.shape) for h in state]}: give "
            f"{(len(x), module.hidden_size)}"
        )
    state = _step_of(module)(module, product, product("weight_ih", "bias_ih", x), state, "")
    state = tuple(h.squeeze(0) if alone else h for h in state)
    return state if pair else state[0]


# ------------------------------------------------------------------------------------------------------------ attention


def _attention(
    module: Any,
    product: Product,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Multi-head attention; PyTorch does everything between the projections, with the identity in their places."""
    width = module.embed_dim
    parts = [slice(n * width, (n + 1) * width) for n in range(3)]
    projected = []
    for name, x, part in zip("qkv", (query, key, value), parts, strict=True):
        if module._qkv_same_embed_dim:
            made = product("in_proj_weight", "in_proj_bias", x, part)
        else:
            bias = None if module.in_proj_bias is None else module.in_proj_bias[part]
            made = product(f"{name}_proj_weight", "", x)
            made = made if bias is None else made + bias
        projected.append(made.transpose(0, 1) if module.batch_first and query.dim() == 3 else made)
    same = torch.eye(width, dtype=projected[0].dtype, device=query.device)
    attend: Any = functional.multi_head_attention_forward
    mixed, weights = attend(
        *projected,
        embed_dim_to_check=width,
        num_heads=module.num_heads,
        in_proj_weight=None,
        in_proj_bias=None,
        bias_k=module.bias_k,
        bias_v=module.bias_v,
        add_zero_attn=module.add_zero_attn,
        dropout_p=module.dropout,
        out_proj_weight=same,
        out_proj_bias=None,
        training=module.training,
        key_padding_mask=key_padding_mask,
        need_weights=need_weights,
        attn_mask=attn_mask,
        use_separate_proj_weight=True,
        q_proj_weight=same,
        k_proj_weight=same,
        v_proj_weight=same,
        average_attn_weights=average_attn_weights,
        is_causal=is_causal,
    )
    out = product("out_proj.weight", "out_proj.bias", mixed)
    return (out.transpose(0, 1) if module.batch_first and query.dim() == 3 else out), weights


_RECURRENT: Sequence[Any] = (nn.LSTM.forward, nn.GRU.forward, nn.RNN.forward)
_CELLS: Sequence[Any] = (nn.LSTMCell.forward, nn.GRUCell.forward, nn.RNNCell.forward)
_FORWARDS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys(_RECURRENT, _recurrent),
    **dict.fromkeys(_CELLS, _cell),
    nn.MultiheadAttention.forward: _attention,
}
