"""The measured sign agreement beside the guarantee of Theorem 2."""

from __future__ import annotations

from dataclasses import dataclass

from mdfa_app.settings.words import level_title, percent
from mdfa_core import ACTIVATIONS, Experiment
from mdfa_core.nets.networks import parse_architecture
from mdfa_core.rules.methods import Method, sign_guarantee
from mdfa_core.training.events import Agreement, Probed


@dataclass(frozen=True)
class Meaning:
    """A measurement in one line, its reason in a few sentences, and whether it is good news."""

    measured: str
    reason: str
    good: bool


def meaning_of(method: Method, experiment: Experiment, level: str, probe: Probed | None) -> Meaning:
    """The measured agreement at one level, and the guarantee for this method and configuration."""
    activation = ACTIVATIONS[experiment.activation]
    guarantee = sign_guarantee(method, activation, experiment.outputs)
    hidden = parse_architecture(experiment.network).hidden
    exact = method.transport.exact
    reasons = [guarantee.reason]
    agreement: Agreement | None = getattr(probe, level) if probe else None
    overall = agreement.overall[0] if agreement else None

    if guarantee.holds and not exact and level == "example" and any(layer.shares_weights for layer in hidden):
        reasons.append(
            "But a convolution uses each weight at many places, so even one example's update is a sum. Its terms have "
            "the right signs but not the right sizes, so the sum can have the wrong sign."
        )
    if guarantee.holds and not exact and level == "batch":
        reasons.append(
            "But a mini-batch update is a sum over examples. Its terms have the right signs, but not the right "
            "sizes, so the sum can have the wrong sign."
        )
    if not guarantee.holds and overall is not None:
        reasons.append(method.words.above_chance if overall > 0.55 else "50 % is chance.")

    if probe is not None and probe.units is not None:
        reasons.append(f"In a network of this size, {probe.units} units of each layer are measured.")

    if not hidden:
        return Meaning("No hidden layer, so every rule makes the same updates.", "", True)
    if agreement is None:
        return Meaning("Not measured yet.", guarantee.reason, guarantee.holds)
    if overall is None:
        return Meaning(f"All {level_title(level)} are zero or undefined, so none has a sign.", guarantee.reason, False)
    measured = f"{percent(overall)} of the {level_title(level)} have the true sign."
    undefined = max(layer[0] for layer in agreement.undefined)
    if undefined > 0:
        measured += f" (In one layer, up to {percent(undefined)} are zero or undefined and have no sign.)"
    return Meaning(measured, " ".join(reasons), guarantee.holds or overall > 0.9)
