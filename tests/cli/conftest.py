"""What the tests of the command share: an empty folder, threads as before, and a way to call it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from mdfa_core.cli import main
from mdfa_core.runs.store import STORE_VARIABLE
from tests.support.commands import Done


@pytest.fixture(autouse=True)
def restored_threads() -> Iterator[None]:
    """One thread again at the end: --threads sets the number for the process."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in an empty folder, and no store is named."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    return folder


@pytest.fixture
def mdfa(capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Calls the main function; its output is caught where the operating system sees it."""

    def call(*arguments: str) -> Done:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        out, err = capfd.readouterr()
        code = caught.value.code
        assert code is None or isinstance(code, int)
        return Done(code or 0, out, err)

    return call
