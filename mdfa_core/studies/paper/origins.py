"""Whether the code that made a run can still be looked up."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

CODE_STATES = ("ok", "no commit", "dirty", "commit gone")
"""From best to worst: the run names a commit; it names none; files differed from the commit; nobody has the commit."""

LOST = "lost_commits.json"
"""Commits that published runs name and that no longer exist; `studies/results.py` writes the file."""


@cache
def _lost() -> frozenset[str]:
    return frozenset(json.loads(resources.files(__package__).joinpath(LOST).read_text(encoding="utf-8")))


def code_state(commit: str | None) -> str:
    """The state of `CODE_STATES` of a run's code, from the commit in its provenance."""
    if commit is None:
        return "no commit"
    if commit.removesuffix("-dirty") in _lost():
        return "commit gone"
    return "dirty" if commit.endswith("-dirty") else "ok"
