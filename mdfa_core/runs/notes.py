"""Notes: what a store keeps beside runs. A note says how a search went, or which runs fill a cell of a table.

A note is a frozen value, exact to and from JSON. It names runs by their keys, and tells the store which keys these are,
so that the store can keep them in a table and replace them.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Self

from mdfa_core.base.errors import InvalidValue
from mdfa_core.base.registry import Registry
from mdfa_core.base.schema import Count, Duration, Share, check
from mdfa_core.base.text import shown

Settings = Mapping[str, Any]
"""Values by the names of an experiment's settings."""

Runs = Mapping[str, tuple[str, ...]]
"""Keys of runs by the role of these runs in a note."""


@dataclass(frozen=True, kw_only=True)
class Note(ABC):
    """A named document about runs.

    Attributes:
        kind: the kind of note; class attribute.
        name: unique among the notes of a kind.
    """

    kind: ClassVar[str]
    name: str

    @property
    @abstractmethod
    def runs(self) -> Runs:
        """The keys of all runs that the note names."""

    @abstractmethod
    def with_runs(self, runs: Runs) -> Self:
        """The same note with other keys, by role; a role that is missing has none."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Everything except the name, as plain values for JSON."""

    @classmethod
    def from_dict(cls, name: str, content: Any) -> Self:
        """The note that `to_dict` wrote.

        Raises:
            InvalidValue: `content` is not such a note.
        """
        try:
            note = cls._read(name, content)
            check(note, cls, f"the {cls.kind}")
            return note
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidValue(
                f"not a note of the kind {cls.kind} ({shown(error)}): give the output of to_dict"
            ) from None

    @classmethod
    @abstractmethod
    def _read(cls, name: str, content: Mapping[str, Any]) -> Self: ...

    def to_json(self) -> str:
        """`to_dict` as strict JSON; equal notes give the same text.

        Raises:
            InvalidValue: a value cannot be written as JSON; NaN and infinities cannot.
        """
        try:
            return json.dumps(self.to_dict(), sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidValue(
                f"the {self.kind} {self.name!r} cannot be written as JSON ({error}): use plain, finite values"
            ) from None


# ------------------------------------------------------------------------------------------------------------- searches


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round of a search.

    Attributes:
        candidates: number of candidates, the best of the round before; None: all.
        epochs: training time of each candidate.
        tasks: number of tasks each candidate is trained on.
    """

    candidates: Count | None
    epochs: Count
    tasks: Count


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The result of one candidate in one round.

    Attributes:
        settings: the candidate.
        rung: the round, from 0.
        validation: mean over the tasks of the best validation accuracy of any epoch (0 to 1). A run without one counts
            as 0.
        train: the same for training accuracy.
        diverged: number of tasks on which training diverged (NaN or infinite loss).
    """

    settings: Settings
    rung: Count
    validation: Share
    train: Share
    diverged: Count


@dataclass(frozen=True, kw_only=True)
class SearchNote(Note):
    """A finished search: what it tried, and what it chose.

    Attributes:
        base: the settings that all candidates have in common.
        candidates: the settings of each candidate.
        rungs: the rounds.
        trials: every candidate in every round.
        epochs_trained: over all candidates, rounds and tasks.
        seconds: time of all its runs, added up.
        ended: when, UTC, ISO 8601.
        chosen: the settings that won.
    """

    kind = "study"

    base: Settings
    candidates: tuple[Settings, ...]
    rungs: tuple[Round, ...]
    trials: tuple[Trial, ...]
    epochs_trained: Count
    seconds: Duration
    ended: str
    chosen: Settings

    @property
    def runs(self) -> Runs:
        """None: the settings of a trial, with a round and its tasks, determine its runs."""
        return {}

    def with_runs(self, runs: Runs) -> Self:
        """The same note."""
        return self

    @property
    def tried(self) -> int:
        """Number of candidates of the first round, which may be smaller than the number of candidates listed."""
        return sum(trial.rung == 0 for trial in self.trials)

    @property
    def best_fit(self) -> Settings:
        """The candidate of the last round with the highest training accuracy."""
        last = max(trial.rung for trial in self.trials)
        trials = [trial for trial in self.trials if trial.rung == last]
        return dict(max(trials, key=lambda trial: (trial.train, trial.validation)).settings)

    def same_findings(self, other: SearchNote | None) -> bool:
        """Whether another note says the same, apart from the time the search took and when it ended."""
        return other is not None and replace(other, seconds=self.seconds, ended=self.ended) == self

    def to_dict(self) -> dict[str, Any]:
        """Everything except the name, as plain values for JSON."""
        return {
            "base": dict(self.base),
            "candidates": [dict(settings) for settings in self.candidates],
            "rungs": [asdict(rung) for rung in self.rungs],
            "trials": [asdict(trial) | {"settings": dict(trial.settings)} for trial in self.trials],
            "epochs trained": self.epochs_trained,
            "seconds": self.seconds,
            "ended": self.ended,
            "chosen": dict(self.chosen),
        }

    @classmethod
    def _read(cls, name: str, content: Mapping[str, Any]) -> Self:
        return cls(
            name=name,
            base=dict(content["base"]),
            candidates=tuple(map(dict, content["candidates"])),
            rungs=tuple(Round(**rung) for rung in content["rungs"]),
            trials=tuple(Trial(**trial) for trial in content["trials"]),
            epochs_trained=content["epochs trained"],
            seconds=content["seconds"],
            ended=content["ended"],
            chosen=dict(content["chosen"]),
        )


# ---------------------------------------------------------------------------------------------------------------- cells


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Some settings of a cell and the runs made with them, one per task.

    Attributes:
        settings: values by name.
        keys: of the runs.
    """

    settings: Settings
    keys: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"settings": dict(self.settings), "keys": list(self.keys)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Selection:
        """The selection that `to_dict` wrote."""
        keys = tuple(content["keys"])
        check(keys, tuple[str, ...], "the list of keys")
        return cls(settings=dict(content["settings"]), keys=keys)


_CHOSEN, _FIT, _OPENED = "chosen", "fit", "opened before"  # roles; of the last there may be several, numbered from 1


@dataclass(frozen=True, kw_only=True)
class CellNote(Note):
    """A finished cell of a table: which runs it is made of, and how their settings were chosen.

    Attributes:
        cell: the cell, as values by name.
        profile: the profile it was run with.
        data: the data set it was run on.
        chosen: the settings chosen on validation, and the runs that were evaluated on the test set.
        tuned_for: name of the cell whose search chose the settings.
        search: name of that search in the store; None: the settings came with the package.
        fit: the settings that fitted the training images best, and their runs; None: `chosen` fitted all images.
        opened_before: earlier selections of this cell whose runs were evaluated on the test set; None: not recorded,
            because the note was written before earlier selections were kept.
    """

    kind = "cell"

    cell: Mapping[str, Any]
    profile: str
    data: str
    chosen: Selection
    tuned_for: str
    search: str | None
    fit: Selection | None
    opened_before: tuple[Selection, ...] | None = ()

    @property
    def _selections(self) -> dict[str, Selection]:
        found = {_CHOSEN: self.chosen}
        if self.fit is not None:
            found[_FIT] = self.fit
        return found | {f"{_OPENED} {n}": one for n, one in enumerate(self.opened_before or (), start=1)}

    @property
    def runs(self) -> Runs:
        """The keys of all runs that the note names."""
        return {role: selection.keys for role, selection in self._selections.items()}

    def with_runs(self, runs: Runs) -> Self:
        """The same note with other keys, by role; a role that is missing has none."""
        new = {role: replace(one, keys=tuple(runs.get(role, ()))) for role, one in self._selections.items()}
        earlier = self.opened_before and tuple(new[f"{_OPENED} {n + 1}"] for n in range(len(self.opened_before)))
        return dataclasses.replace(self, chosen=new[_CHOSEN], fit=new.get(_FIT), opened_before=earlier)

    def to_dict(self) -> dict[str, Any]:
        """Everything except the name, as plain values for JSON."""
        content = {
            "cell": dict(self.cell),
            "profile": self.profile,
            "data": self.data,
            **self.chosen.to_dict(),
            "tuned for": self.tuned_for,
            "study": self.search,
            "fit": None if self.fit is None else self.fit.to_dict(),
        }
        if self.opened_before is not None:
            content["opened before"] = [selection.to_dict() for selection in self.opened_before]
        return content

    @classmethod
    def _read(cls, name: str, content: Mapping[str, Any]) -> Self:
        fit, earlier = content.get("fit"), content.get("opened before")
        return cls(
            name=name,
            cell=dict(content["cell"]),
            profile=content["profile"],
            data=content["data"],
            chosen=Selection.from_dict(content),
            tuned_for=content["tuned for"],
            search=content["study"],
            fit=None if fit is None else Selection.from_dict(fit),
            opened_before=None if earlier is None else tuple(map(Selection.from_dict, earlier)),
        )


NOTES: Registry[type[Note]] = Registry("kind of note")
"""The kinds of notes."""
for _kind in (CellNote, SearchNote):
    NOTES.add(_kind.kind, _kind)
