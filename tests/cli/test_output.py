"""Files that commands write."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from mdfa_core.base.errors import InvalidValue
from mdfa_core.cli.output import refuse_unwritable


def test_a_file_that_can_be_written_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    refuse_unwritable(folder / "run.pt", "run.pt")
    (folder / "run.pt").write_text("kept")
    refuse_unwritable(folder / "run.pt", "run.pt")
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("run.pt", "kept")]


def test_a_folder_that_cannot_be_written_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*, dir: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.raises(InvalidValue, match=r"run\.pt cannot be written \(Permission denied\): give a file in a folder"):
        refuse_unwritable(tmp_path / "run.pt", "run.pt")
