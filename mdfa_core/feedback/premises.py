"""Whether Theorem 2 promises an attached model's error signals their signs."""

from __future__ import annotations

from torch import nn

from mdfa_core.activations import ACTIVATIONS
from mdfa_core.feedback.layout import Layout, Weighted
from mdfa_core.methods import Guarantee, Method, sign_guarantee

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
"""Modules of PyTorch that never turn a sign around: their outputs do not fall when an input rises."""


def _falls(module: nn.Module) -> bool:
    """Whether an activation that is monotone as it comes was given a negative slope below 0."""
    slope = {nn.LeakyReLU: "negative_slope", nn.ELU: "alpha"}.get(type(module))
    return slope is not None and getattr(module, slope) < 0


def guarantee(model: nn.Module, method: Method, layout: Layout) -> Guarantee:
    """Theorem 2 applied to a model: one output, and nothing above the first cut that can turn a sign around.

    It speaks of unit error signals at the outputs of blocks. What a module above the first cut does in code of its own
    (a residual sum, attention, the model's own forward) is not looked into: then nothing is promised, and `measure`
    says what is the case.

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
            if bool((module.weight < 0).any()):
                what = "has" if module.weight.requires_grad else "is frozen with"
                return Guarantee(False, f"Theorem 2 does not hold: {called} {what} weights below 0.")
        elif _falls(module):
            return Guarantee(False, f"Theorem 2 does not hold: {called} falls where its slope is negative.")
        elif not isinstance(module, (*_MONOTONE, *_NONNEGATIVE)):
            return Guarantee(
                False,
                f"Theorem 2 is not known to hold: {called}, above the first block, is neither a layer with weights "
                f"≥ 0 nor a monotone activation of PyTorch.",
            )
    return promised
