"""`mdfa data`: what it lists, fetches and checks."""

from __future__ import annotations

import json
from collections.abc import Callable

from mdfa_core import DATASETS
from tests.support.commands import Done


def test_data_is_checked(mdfa: Callable[..., Done]) -> None:
    done = mdfa("data", "check", "digits")

    assert (done.code, done.err) == (0, "")
    assert "1438 training and 359 test images of 10 classes" in done.out


def test_data_sets_are_listed(mdfa: Callable[..., Done]) -> None:
    done = mdfa("data", "list")

    assert (done.code, done.err) == (0, "")
    heading, *rows = done.out.splitlines()
    assert heading.split() == ["name", "classes", "train", "test", "image", "where"]
    assert [row.split()[0] for row in rows] == list(DATASETS)
    assert rows[0].split() == ["digits", "10", "1438", "359", "1×8×8", "bundled"]


def test_data_sets_are_listed_for_programs(mdfa: Callable[..., Done]) -> None:
    done = mdfa("data", "list", "--json", "--data-dir", "nowhere")

    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["name"] for row in rows] == list(DATASETS)
    for row in rows:
        assert row["where"] == "bundled" if DATASETS[row["name"]].bundled else "nowhere" in row["where"]


def test_bundled_data_needs_no_fetching(mdfa: Callable[..., Done]) -> None:
    done = mdfa("data", "fetch", "digits")

    assert (done.code, done.err, done.out) == (0, "", "digits is bundled: nothing to fetch\n")
