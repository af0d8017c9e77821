"""The server's log: what the libraries refuse is a short line, what fails in this project keeps its traceback."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import pytest
from tornado.websocket import WebSocketClosedError

from mdfa_app.serving.log_filter import LOGGERS, LONGEST, log_shortly
from mdfa_core import Experiment


def logged(name: str, fail: Callable[[], object], caplog: pytest.LogCaptureFixture) -> str:
    log_shortly()
    log_shortly()  # once is enough, more does no harm
    try:
        fail()
    except Exception:
        logging.getLogger(name).exception("error handling message %r", "x" * 100_000)
    return caplog.text


@pytest.mark.parametrize("name", LOGGERS)
def test_what_a_library_refuses_is_one_short_line(name: str, caplog: pytest.LogCaptureFixture) -> None:
    text = logged(name, lambda: json.loads("\0\n" * 5), caplog)
    assert "refused what a browser sent: JSONDecodeError: Expecting value" in text
    assert text.count("\n") == 1
    assert len(text) < LONGEST + 200


@pytest.mark.parametrize("name", LOGGERS)
def test_what_fails_in_this_project_keeps_its_traceback(name: str, caplog: pytest.LogCaptureFixture) -> None:
    text = logged(name, lambda: Experiment(epochs=0), caplog)
    assert "Traceback" in text
    assert "experiment.py" in text


def test_a_reason_is_short_and_holds_no_control_characters(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        int("\x1b[31m\n" + "9" * 4000)

    text = logged(LOGGERS[0], fail, caplog)
    assert "\x1b" not in text
    assert text.count("\n") == 1
    assert len(text) < LONGEST + 200


def test_a_browser_that_left_is_not_logged_twice(caplog: pytest.LogCaptureFixture) -> None:
    def leave() -> None:
        raise WebSocketClosedError

    assert logged("asyncio", leave, caplog) == ""
    assert "Traceback" in logged("asyncio", lambda: json.loads("\0"), caplog)
