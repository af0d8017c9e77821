"""`mdfa app`: what the server that it starts is told."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

import pytest
from click.testing import CliRunner

from mdfa_core.cli.app import app


@pytest.mark.parametrize(
    ("options", "given", "value"),
    [
        ([], None, "1"),
        (["--address", "0.0.0.0"], None, "0"),
        (["--behind-proxy"], None, "0"),
        (["--origin", "lab.example.org"], None, "0"),
        (["--origin", "lab.example.org", "--downloads"], None, "1"),
        (["--no-downloads"], "1", "0"),
        ([], "0", "0"),
    ],
)
def test_the_page_downloads_for_this_machine_alone_unless_told(
    options: list[str], given: str | None, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Mapping[str, str]] = []
    monkeypatch.setattr(os, "name", "posix")
    monkeypatch.setattr(os, "execve", lambda _path, _words, environment: served.append(environment))
    if given is None:
        monkeypatch.delenv("MDFA_DOWNLOADS", raising=False)
    else:
        monkeypatch.setenv("MDFA_DOWNLOADS", given)
    monkeypatch.setattr(subprocess, "call", lambda *_words, **_more: 0)  # where execve would not return
    CliRunner().invoke(app, options)
    assert [environment["MDFA_DOWNLOADS"] for environment in served] == [value]
