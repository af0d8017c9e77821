"""Whether the error signals of an attached model have their true signs by Theorem 2."""

from __future__ import annotations

from torch import nn

from mdfa_core.attach.layout import Layout, Weighted
from mdfa_core.nets.activations import ACTIVATIONS
from mdfa_core.rules.methods import Guarantee, Method, sign_guarantee

_MONOTONE = (
    *(nn.Tanh, nn.Sigmoid, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh, nn.Hardsigmoid, nn.ELU, nn.SELU, nn.CELU),
    *(nn.Softplus, nn.Softsign, nn.LogSigmoid),
)
_NONNEGATIVE = (
    *(nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
"""Modules of PyTorch whose outputs never decrease when an input increases, so they keep signs."""


def _falls(module: nn.Module) -> bool:
    """Whether an activation that is monotone by default has a negative slope below 0."""
    slope = {nn.LeakyReLU: "negative_slope", nn.ELU: "alpha"}.get(type(module))
    return slope is not None and getattr(module, slope) < 0


def guarantee(model: nn.Module, method: Method, layout: Layout) -> Guarantee:
    """Apply Theorem 2 to a model: one output, and no module above the first cut that can change a sign.

    The theorem covers unit error signals at the outputs of blocks. Custom `forward` code above the first cut (a
    residual sum, attention, the model's own forward) is not inspected. Then nothing is guaranteed: use `measure`.

    Source: Theorem 2 and Definition 1 (Lechner 2020).
    """
    outputs = 1
    for size in layout.output[1:]:
        outputs *= size
    promised = sign_guarantee(method, ACTIVATIONS["identity"], outputs)
    if not promised.holds or method.transport.exact:
        return promised
    parts = dict(model.named_modules())
    for name in layout.above:
        module = parts[name]
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            continue
        called = f"{name!r} ({type(module).__name__})" if name else f"the model itself ({type(module).__name__})"
        if isinstance(module, Weighted):
            if not bool((module.weight >= 0).all()):
                what = "has" if module.weight.requires_grad else "is frozen with"
                kind = "that are NaN" if bool(module.weight.isnan().any()) else "below 0"
                return Guarantee(False, f"Theorem 2 does not hold: {called} {what} weights {kind}.")
        elif _falls(module):
            return Guarantee(False, f"Theorem 2 does not hold: {called} decreases where its slope is negative.")
        elif not isinstance(module, (*_MONOTONE, *_NONNEGATIVE)):
            return Guarantee(
                False,
                f"Theorem 2 is not known to hold: {called}, above the first block, is neither a layer with weights "
                f"≥ 0 nor a monotone activation of PyTorch.",
            )
    return promised
