"""The check of a checkpoint's entries: each has the type, the shape and the range that its meaning allows.

Axes: R replica.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.schema import Count, check, field_hints, parse_json
from mdfa_core.base.text import spoken
from mdfa_core.learning.learner import stored_numbers
from mdfa_core.learning.optimizers import OPTIMIZERS
from mdfa_core.rules.methods import METHODS
from mdfa_core.training import events
from mdfa_core.training.assembly import build_network, shared_settings
from mdfa_core.training.experiment import Experiment
from mdfa_core.training.outcome import Outcome

if TYPE_CHECKING:
    from mdfa_core.training.run import Run


@dataclass(frozen=True, kw_only=True)
class Position:
    """The entries of a checkpoint that are single values: where the run stands."""

    step: Count
    started: bool
    finished: bool
    optimizer_step: Count
    examples: Count


@dataclass(frozen=True, kw_only=True)
class Saved:
    """The checked entries of a checkpoint; tensors by group, each [R, …]."""

    position: Position
    rates: list[float]
    tensors: dict[str, list[Tensor]]
    outcomes: list[Outcome]
    pending: list[events.Event]


def check_size(experiments: Sequence[Experiment], state: dict[str, Any]) -> None:
    """Compare the size of a checkpoint's tensors with its experiments, before memory is taken for the run.

    Raises:
        InvalidValue: the sizes differ, or an entry is no list of tensors.
        KeyError: an entry is missing.
    """
    shared = shared_settings(experiments)
    needed = stored_numbers(build_network(shared), METHODS[shared.method], OPTIMIZERS[shared.optimizer])
    for group, count in needed.items():
        found = sum(tensor.numel() for tensor in _tensors(state, group, optional=count == 0))
        if found != count * len(experiments):
            raise InvalidValue(f"{group} have {found} numbers: {count * len(experiments)} belong to this run")


def checked_state(state: dict[str, Any], run: Run) -> Saved:
    """The entries of `Run.state`, each checked against its meaning; `run` has the same experiments and is not changed.

    Raises:
        InvalidValue, UnknownName, KeyError, TypeError, ValueError: an entry is missing or has an impossible value.
    """
    names = {field.name: spoken(field.name) for field in fields(Position)}
    position = Position(**{field: state[name] for field, name in names.items()})
    check(position, Position, "the position")
    _require(position.step <= run.steps, f"step {position.step} of {run.steps}")
    _require(position.optimizer_step <= position.step, f"optimizer step {position.optimizer_step} at {position.step}")
    _require(position.started or position.step == 0, "a step, but no start")
    outcomes = _outcomes(state["outcomes"], run, position)
    ends = position.step == run.steps or all(outcome.diverged_at is not None for outcome in outcomes)
    _require(position.finished == ends, "finished is wrong")
    rates = state["learning rates"]
    _require(isinstance(rates, list) and len(rates) == run.replicas, "learning rates of other replicas")
    for rate in rates:
        run.experiments[0].replace(learning_rate=rate)  # which says what a learning rate may be
    tensors = _checked_tensors(state, run, outcomes)
    correct = tensors["correct"][0]
    possible = int(correct.min()) >= 0 and int(correct.max()) <= position.examples <= position.step * _batch(run)
    _require(possible, f"{position.examples} examples, {correct.tolist()} of them correct")
    return Saved(
        position=position,
        rates=[float(rate) for rate in rates],
        tensors=tensors,
        outcomes=outcomes,
        pending=_pending(state["pending"], run, position),
    )


def not_finite(groups: Sequence[Sequence[Tensor]], replicas: int) -> list[bool]:
    """Whether some number of a replica is NaN or infinite; `groups` are tensors [R, …]."""
    bad = torch.zeros(replicas, dtype=torch.bool)
    for tensor in (tensor for tensors in groups for tensor in tensors if tensor.is_floating_point()):
        bad |= torch.stack([~torch.isfinite(tensor[r]).all() for r in range(replicas)]).cpu()
    return [bool(item) for item in bad]


def _outcomes(found: Any, run: Run, position: Position) -> list[Outcome]:
    _require(isinstance(found, list) and len(found) == run.replicas, "outcomes of other replicas")
    before = run.experiments[0].evaluation == "released"  # the initial weights are validated, too
    outcomes = []
    for item in found:
        outcome = Outcome(**item)
        check(outcome, Outcome, "an outcome")
        best, diverged = outcome.best_validation_epoch, outcome.diverged_at
        first = 0 if before else 1
        _require(best is None or first <= best <= position.step // run.steps_per_epoch, f"best validation epoch {best}")
        _require(diverged is None or 1 <= diverged <= position.step, f"diverged at {diverged}")
        trained = outcome.best_train_accuracy is not None
        _require(trained == (best is not None) or (before and best == 0), "a best epoch without its accuracy")
        tested = outcome.test_accuracy is None or (position.finished and run.test and best is not None)
        _require(tested, "a test accuracy of a run that was not tested")
        outcomes.append(outcome)
    return outcomes


def _checked_tensors(state: dict[str, Any], run: Run, outcomes: Sequence[Outcome]) -> dict[str, list[Tensor]]:
    """The tensors by group: as many as the run has, of its shapes and types, and within their bounds."""
    checked: dict[str, list[Tensor]] = {}
    for group, own in run.tensors().items():
        found = _tensors(state, group, optional=not own)
        _require(len(found) == len(own), f"{len(found)} tensors of {group}: {len(own)} belong to this run")
        for tensor, ours in zip(found, own, strict=True):
            same = tensor.shape == ours.shape and tensor.is_floating_point() == ours.is_floating_point()
            # Sums of losses are float64 on most devices and float32 on Apple's; all other types are the run's.
            same = same and (tensor.dtype == ours.dtype or (group == "loss sum" and tensor.is_floating_point()))
            _require(same, f"{group}: {tensor.dtype} {list(tensor.shape)} for {ours.dtype} {list(ours.shape)}")
        checked[group] = found
    recorded = state.get("not finite", [False] * run.replicas)  # new with format 3
    check(tuple(recorded) if isinstance(recorded, list) else recorded, tuple[bool, ...], "not finite")
    _require(len(recorded) == run.replicas, "marks of other replicas")
    for bad, known, outcome in zip(not_finite(list(checked.values()), run.replicas), recorded, outcomes, strict=True):
        _require(not bad or known or outcome.diverged_at is not None, "NaN or infinite numbers before any divergence")
    learner = run.learner
    for number, weight in enumerate(checked["parameters"][::2]):
        bounded = learner.method.constraint.covers(number)
        _require(not (bounded and bool((weight < learner.floor).any())), "a weight below the rule's lower bound")
    if learner.method.constraint.feedback:
        _require(not any(bool((b < 0).any()) for b in checked["feedback"]), "negative feedback of a rule with B ≥ 0")
    return checked


def _tensors(state: dict[str, Any], group: str, *, optional: bool) -> list[Tensor]:
    """The tensors of a group; an empty group may be missing in files of older versions."""
    found = state.get(group, []) if optional else state[group]
    if isinstance(found, Tensor):
        found = [found]
    _require(isinstance(found, list), f"{group} are no list")
    flat = [slot for item in found for slot in (item if isinstance(item, list) else [item])]  # as old versions wrote
    for tensor in flat:
        plain = type(tensor) is Tensor and tensor.layout is torch.strided and tensor.device.type == "cpu"
        _require(plain, f"{group} are no tensors")
        stored = tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()
        _require(stored, f"{group} have more numbers than the file")
    return flat


def _pending(lines: Any, run: Run, position: Position) -> list[events.Event]:
    _require(isinstance(lines, list), "pending events are no list")
    made = []
    for line in lines:
        event = events.from_dict(parse_json(line))
        for name, hint in field_hints(type(event)).items():
            check(getattr(event, name), hint, name)
        _require(event.step <= position.step, f"an event of step {event.step} at step {position.step}")
        counts = _replica_counts(event, len(run.network.layers) - 1)
        _require(counts <= {run.replicas}, f"an event of {sorted(counts)} replicas")
        if isinstance(event, events.Diverged):
            _require(event.replica < run.replicas, f"replica {event.replica} of {run.replicas}")
        made.append(event)
    return made


def _replica_counts(event: events.Event, hidden: int) -> set[int]:
    """The lengths of all tuples of an event with one value per replica; `hidden` is the number of hidden layers."""
    match event:
        case events.Progress() | events.Evaluated() | events.Finished():
            return {len(value) for value in vars(event).values() if isinstance(value, tuple)}
        case events.Probed():
            levels = (event.unit, event.example, event.batch)
            layered = [event.angle, event.norm_ratio, event.saturation]
            layered += [layers for level in levels for layers in (level.layers, level.undefined)]
            _require({len(layers) for layers in layered} == {hidden}, "an event of other layers")
            counts = {len(values) for layers in layered for values in layers}
            return counts | {len(level.overall) for level in levels} | {len(event.angle_overall)}
    return set()


def _batch(run: Run) -> int:
    return run.experiments[0].batch_size


def _require(possible: bool, reason: str) -> None:
    if not possible:
        raise InvalidValue(reason)
