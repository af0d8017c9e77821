"""The state of the code that made a run."""

from __future__ import annotations

import json
from importlib import resources

import pytest

from mdfa_core.studies.paper.origins import CODE_STATES, LOST, code_state

GONE = json.loads(resources.files("mdfa_core.studies.paper").joinpath(LOST).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("commit", "state"),
    [
        ("0123456789abcdef0123456789abcdef01234567", "ok"),
        ("0123456789abcdef0123456789abcdef01234567-dirty", "dirty"),
        (None, "no commit"),
        *((commit, "commit gone") for commit in GONE),
        (f"{GONE[0]}-dirty", "commit gone"),
    ],
)
def test_the_state_of_a_commit(commit: str | None, state: str) -> None:
    assert code_state(commit) == state
    assert state in CODE_STATES
