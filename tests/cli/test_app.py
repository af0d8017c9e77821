"""`mdfa app`: what the server that it starts is told."""

from __future__ import annotations

import os
import socket
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
    monkeypatch.setattr("mdfa_core.cli.app._refuse_taken", lambda _address, _port: None)  # 5006 may be in use
    monkeypatch.setattr(os, "name", "posix")
    monkeypatch.setattr(os, "execve", lambda _path, _words, environment: served.append(environment))
    if given is None:
        monkeypatch.delenv("MDFA_DOWNLOADS", raising=False)
    else:
        monkeypatch.setenv("MDFA_DOWNLOADS", given)
    monkeypatch.setattr(subprocess, "call", lambda *_words, **_more: 0)  # where execve would not return
    CliRunner().invoke(app, options)
    assert [environment["MDFA_DOWNLOADS"] for environment in served] == [value]


@pytest.mark.parametrize(
    "options",
    [
        ["--origin", "*"],
        ["--origin", "*.example.org"],
        ["--origin", "lab.example.org:65535", "--origin", "10.0.0.1:80"],
        ["--prefix", "/"],
        ["--prefix", "/lab/mdfa/"],
        ["--prefix", "user/a%40b.org/~c"],
    ],
)
def test_origins_and_prefixes_that_the_server_takes_are_allowed(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[list[str]] = []
    monkeypatch.setattr("mdfa_core.cli.app._refuse_taken", lambda _address, _port: None)
    monkeypatch.setattr(os, "name", "posix")
    monkeypatch.setattr(os, "execve", lambda _path, words, _environment: served.append(words))
    monkeypatch.setattr(subprocess, "call", lambda *_words, **_more: 0)
    CliRunner().invoke(app, options)
    assert len(served) == 1
    assert set(options[1::2]) <= set(served[0])


def test_a_port_in_use_is_refused_before_the_server_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execve", lambda *_words: pytest.fail("started"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(app, ["--address", "127.0.0.1", "--port", str(port)])
    assert f"port {port} of 127.0.0.1 cannot be opened (Address already in use): end the program" in str(done.exception)
