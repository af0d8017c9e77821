"""What is said over a comm is heard once, in order, however early it comes."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from comm.base_comm import BaseComm, CommManager

from app import comms
from app.comms import InOrder

TARGET, SUBSHELL = "page", "a-subshell"


class Comm(BaseComm):
    def publish_msg(self, *args: Any, **settings: Any) -> None:
        """Nobody listens."""


class Manager(CommManager):
    """As ipykernel's, without a kernel."""

    def comm_open(self, stream: Any, ident: Any, msg: dict[str, Any]) -> None:
        opened = Comm(comm_id=msg["content"]["comm_id"], primary=False, target_name=msg["content"]["target_name"])
        self.register_comm(opened)
        self.targets[opened.target_name](opened, msg)


def word(comm: str, said: Any = None, *, subshell: str | None = SUBSHELL) -> tuple[None, None, dict[str, Any]]:
    content = {"comm_id": comm, "target_name": TARGET, "data": said}
    return None, None, {"header": {"subshell_id": subshell}, "content": content}


class Kernel:
    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.comm_manager = Manager()
        self.comm_manager.register_target(TARGET, self.opened)
        self.shell_handlers: dict[str, Any] = {
            kind: getattr(self.comm_manager, kind) for kind in ("comm_open", "comm_msg", "comm_close")
        }

    def opened(self, opened: BaseComm, _: Any) -> None:
        opened.on_msg(lambda msg: self.heard.append((msg["content"]["comm_id"], msg["content"]["data"])))

    def takes(self, kind: str, *message: Any) -> None:
        self.shell_handlers[kind](*message)


@pytest.fixture
def kernel() -> Kernel:
    made = Kernel()
    InOrder.keep(made)
    return made


def test_without_it_what_comes_early_is_lost() -> None:
    kernel = Kernel()
    kernel.takes("comm_msg", *word("a", 1))
    kernel.takes("comm_open", *word("a"))
    kernel.takes("comm_msg", *word("a", 2))
    assert kernel.heard == [("a", 2)]


def test_what_comes_early_is_heard_when_its_comm_opens(kernel: Kernel) -> None:
    for number in range(3):
        kernel.takes("comm_msg", *word("a", number))
    kernel.takes("comm_msg", *word("b", "b"))
    assert kernel.heard == []
    kernel.takes("comm_open", *word("a"))
    kernel.takes("comm_msg", *word("a", 3))
    assert kernel.heard == [("a", 0), ("a", 1), ("a", 2), ("a", 3)]
    kernel.takes("comm_open", *word("b"))
    assert kernel.heard[4:] == [("b", "b")]


def test_a_second_time_changes_nothing(kernel: Kernel) -> None:
    before = dict(kernel.shell_handlers)
    kernel.takes("comm_msg", *word("a", 1))
    InOrder.keep(kernel)
    assert kernel.shell_handlers == before
    kernel.takes("comm_open", *word("a"))
    assert kernel.heard == [("a", 1)]


def test_what_cannot_have_overtaken_anything_is_the_managers(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    kernel.takes("comm_msg", *word("a", 1, subshell=None))
    assert "No such comm: a" in caplog.text
    kernel.takes("comm_open", *word("a"))
    assert kernel.heard == []


def test_no_more_is_kept_than_a_page_needs(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comms, "_KEPT", 2)
    for name in "abc":
        kernel.takes("comm_msg", *word(name, name))
    for name in "abc":
        kernel.takes("comm_open", *word(name))
    assert kernel.heard == [("b", "b"), ("c", "c")]


def test_what_is_said_as_the_comm_opens_waits_for_what_was_said_before(kernel: Kernel) -> None:
    kernel.takes("comm_msg", *word("a", 1))
    subshell = threading.Thread(target=kernel.takes, args=("comm_msg", *word("a", 2)))

    def opened(opened: BaseComm, msg: dict[str, Any]) -> None:
        kernel.opened(opened, msg)
        subshell.start()
        subshell.join(0.2)  # time enough to be heard first, were it not made to wait

    kernel.comm_manager.register_target(TARGET, opened)
    kernel.takes("comm_open", *word("a"))
    subshell.join()
    assert kernel.heard == [("a", 1), ("a", 2)]
