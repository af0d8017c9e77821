"""What the page says: what a state means, and what a measurement means next to the theorem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.messages import State
from mdfa_core import ACTIVATIONS, Experiment
from mdfa_core.events import Agreement, Finished, Probed
from mdfa_core.methods import Method, sign_guarantee
from mdfa_core.networks import Conv, parse_architecture
from mdfa_core.probes import LEVELS

LEVEL_TITLES = {
    "unit": "unit error signals",
    "example": "single-example updates",
    "batch": "mini-batch updates",
}
LEVEL_CHOICES = {"unit": "Unit errors", "example": "One example", "batch": "Mini-batch"}
LEVEL_HELP = {
    "unit": "The error that reaches every hidden unit for every example: what Theorem 2 is about.",
    "example": "How every single example would change every weight and bias.",
    "batch": "How the mini-batch changes every weight and bias: the sum over its examples, which is what is applied.",
}

STATE_WORDS = {
    State.IDLE: "Press Start: every chosen rule trains a net of its own on the same images.",
    State.PREPARING: "Getting the images and the nets ready.",
    State.QUEUED: "All training places of this server are taken; it goes on by itself.",
    State.RUNNING: "Learning rate, speed and rules can be changed as it runs; any other change starts new runs.",
    State.PAUSED: "Continue goes on from here, Step trains a little more, Reset goes back to the first weights.",
    State.FINISHED: "All epochs are done.",
    State.DIVERGED: "The loss became infinite or no number at all: choose a smaller learning rate or other weights.",
    State.FAILED: "This cannot go on.",
}


def percent(share: float | None) -> str:
    """A share in words: never "100 %" for less than all."""
    if share is None or share != share:
        return "–"
    if share in (0.0, 1.0):
        return f"{share:.0%}"[:-1] + " %"
    return f"{min(max(100 * share, 0.1), 99.9):.1f} %"


def level_title(level: str) -> str:
    """What a level of agreement is called."""
    return LEVEL_TITLES.get(level, level)


def levels() -> dict[str, str]:
    """Levels of agreement by title, in the order of `LEVELS`."""
    return {LEVEL_CHOICES.get(level, level): level for level in LEVELS}


def outcome(title: str, event: Finished) -> str:
    """The end of one rule's run in a few words."""
    if event.test_accuracy[0] is None:
        return f"{title}: no test accuracy"
    return f"{title} {percent(event.test_accuracy[0])} (weights of epoch {event.best_validation_epoch[0]})"


def outcomes(events: Mapping[str, Finished]) -> str:
    """The ends of all rules' runs, by title, in a sentence."""
    told = "; ".join(outcome(title, event) for title, event in events.items())
    return f"Accuracy on the test images, looked at only now: {told}." if told else ""


def sentence(text: str) -> str:
    """An error's message as a sentence of its own."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


@dataclass(frozen=True)
class Meaning:
    """What is measured, in one line, and why, in a few sentences."""

    measured: str
    reason: str
    good: bool


def meaning(method: Method, experiment: Experiment, level: str, probe: Probed | None) -> Meaning:
    """The measured agreement at one level, beside what is guaranteed for this method and configuration."""
    activation = ACTIVATIONS[experiment.activation]
    guarantee = sign_guarantee(method, activation, experiment.outputs)
    hidden = parse_architecture(experiment.network).hidden
    exact = method.transport.exact
    reasons = [guarantee.reason]
    agreement: Agreement | None = getattr(probe, level) if probe else None
    overall = agreement.overall[0] if agreement else None

    if guarantee.holds and not exact and level == "example" and any(isinstance(layer, Conv) for layer in hidden):
        reasons.append(
            "But a convolution uses each weight at many places: even one example's update is a sum, and a sum of terms "
            "with the right signs but other sizes can come out with the other sign."
        )
    if guarantee.holds and not exact and level == "batch":
        reasons.append(
            "But a mini-batch is a sum over examples: each term has the right sign, not the right size, so the sum can "
            "come out with the other sign."
        )
    if not guarantee.holds and overall is not None:
        reasons.append(
            "50 % is chance; above it, the weights have come to fit the feedback."
            if overall > 0.55 and method.transport.carrier == "B{0}"
            else "50 % is chance, 100 % the truth."
            if overall > 0.55
            else "50 % is chance: hardly more is known than the flip of a coin."
        )

    if probe is not None and probe.units is not None:
        reasons.append(f"In a net of this size {probe.units} units of each layer are measured.")

    if not hidden:
        return Meaning("No hidden layer: every method makes the same updates.", "", True)
    if agreement is None:
        return Meaning("Not measured yet.", guarantee.reason, guarantee.holds)
    if overall is None:
        return Meaning(
            f"All {level_title(level)} are exactly 0 or no number: no sign is defined.", guarantee.reason, False
        )
    measured = f"{percent(overall)} of the {level_title(level)} have the true sign."
    undefined = max(layer[0] for layer in agreement.undefined)
    if undefined > 0:
        measured += f" (Up to {percent(undefined)} of a layer's are exactly 0 or no number, and have none.)"
    return Meaning(measured, " ".join(reasons), guarantee.holds or overall > 0.9)
