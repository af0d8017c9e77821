"""What the page says: what a state means, and what a measurement means next to the theorem."""

from __future__ import annotations

from dataclasses import dataclass

from app.session import State
from mdfa_core import ACTIVATIONS, METHODS, Experiment
from mdfa_core.events import Agreement, Finished, Probed
from mdfa_core.methods import Chain, sign_guarantee
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
    State.IDLE: "Press Start: the net learns while you watch. Step trains on one mini-batch.",
    State.PREPARING: "Getting the images and the net ready.",
    State.QUEUED: "All training places of this server are taken; it goes on by itself.",
    State.RUNNING: "Learning rate and speed can be changed as it runs; any other change starts a new run.",
    State.PAUSED: "Start goes on from here, Step trains on one more mini-batch, Reset goes back to the first weights.",
    State.FINISHED: "All epochs are done.",
    State.DIVERGED: "The loss became infinite or no number at all: choose a smaller learning rate or other weights.",
    State.FAILED: "This run cannot go on.",
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


def outcome(event: Finished) -> str:
    """The end of a run in a sentence."""
    if event.test_accuracy[0] is None:
        return "There are no test images."
    epoch = event.best_validation_epoch[0]
    chosen = "" if event.best_validation_accuracy[0] is None else ", the best on the validation images"
    return f"Test accuracy {percent(event.test_accuracy[0])}, with the weights after epoch {epoch}{chosen}."


@dataclass(frozen=True)
class Meaning:
    """What is measured, in one line, and why, in a few sentences."""

    measured: str
    reason: str
    good: bool


def meaning(experiment: Experiment, level: str, probe: Probed | None) -> Meaning:
    """The measured agreement at one level, beside what is guaranteed for this configuration."""
    method, activation = METHODS[experiment.method], ACTIVATIONS[experiment.activation]
    guarantee = sign_guarantee(method, activation, experiment.outputs)
    hidden = parse_architecture(experiment.network).hidden
    exact = isinstance(method.transport, Chain) and not method.transport.fixed
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
        return Meaning(f"All {level_title(level)} are exactly 0: no sign is defined.", guarantee.reason, False)
    measured = f"{percent(overall)} of the {level_title(level)} have the true sign."
    undefined = max(layer[0] for layer in agreement.undefined)
    if undefined > 0:
        measured += f" (Up to {percent(undefined)} of a layer's are exactly 0 and have none.)"
    return Meaning(measured, " ".join(reasons), guarantee.holds or overall > 0.9)
