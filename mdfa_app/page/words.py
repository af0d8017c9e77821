"""Sentences about the phases of training."""

from __future__ import annotations

from collections.abc import Mapping

from mdfa_app.settings.words import percent
from mdfa_app.trainer.messages import Phase
from mdfa_core.training.events import Finished

PHASE_WORDS = {
    Phase.IDLE: "Press Start: every chosen rule trains its own network on the same data.",
    Phase.PREPARING: "The data and networks are being prepared.",
    Phase.QUEUED: "All training slots of this server are taken. Training starts by itself once a slot is free.",
    Phase.RUNNING: "Learning rate, speed and rules can change during training. Any other change starts new networks.",
    Phase.PAUSED: "Press Continue to train on, Step to train a little more, "
    "or Reset for new networks with the same seed.",
    Phase.FINISHED: "All epochs are done.",
    Phase.DIVERGED: "The loss became NaN or infinite: choose a smaller learning rate or other initial weights.",
    Phase.FAILED: "Training has stopped because of an error.",
}
"""A sentence for every phase."""


def outcomes(events: Mapping[str, Finished]) -> str:
    """A sentence on the test accuracy of every rule, by title; empty if no run has finished."""
    results = "; ".join(_outcome(title, event) for title, event in events.items())
    return f"Test accuracy, evaluated once at the end: {results}." if results else ""


def _outcome(title: str, event: Finished) -> str:
    if len(event.test_accuracy) > 1:
        return _outcome_of_seeds(title, event)
    if event.diverged_at[0] is not None:
        return f"{title} diverged (its loss became NaN or infinite at mini-batch {event.diverged_at[0]:,})"
    if event.test_accuracy[0] is None:
        return f"{title}: no test accuracy"
    return f"{title} {percent(event.test_accuracy[0])} (weights of epoch {event.best_validation_epoch[0]})"


def _outcome_of_seeds(title: str, event: Finished) -> str:
    seeds, lost = len(event.test_accuracy), sum(step is not None for step in event.diverged_at)
    pairs = zip(event.test_accuracy, event.diverged_at, strict=True)
    found = [accuracy for accuracy, step in pairs if accuracy is not None and step is None]
    diverged = f"{lost} of {seeds} seeds diverged" if lost else ""
    if not found:
        return f"{title}: {diverged or 'no test accuracy'}"
    spread = f"mean of {len(found)} seeds, {percent(min(found))} to {percent(max(found))}"
    return f"{title} {percent(sum(found) / len(found))} ({'; '.join(filter(None, (spread, diverged)))})"
