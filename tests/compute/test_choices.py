"""The file of measured choices: several processes, damage, and the switch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mdfa_core import Experiment
from mdfa_core.base.errors import InvalidValue
from mdfa_core.compute import choices
from mdfa_core.training.run import Run


@pytest.fixture(autouse=True)
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "cache" / "choices.json"
    monkeypatch.setattr(choices, "_file", lambda: path)
    return path


def test_a_choice_is_kept_by_place_and_the_first_one_stays(file: Path) -> None:
    assert choices.known("card", "product") is None
    assert choices.keep("card", "product", "slow") == "slow"
    assert choices.keep("card", "product", "fast") == "slow"
    assert choices.keep("other card", "product", "fast") == "fast"
    assert choices.known("card", "product") == "slow"
    assert choices.known("card", "other product") is None
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b'{"format": 1, "tables": {"card": {"product": "fa',
        b"[]",
        b"7",
        b'{"format": 2, "tables": {"card": {"product": "fast"}}}',
        b'{"format": 1, "tables": {"card": {"product": 7}}}',
        b'{"format": 1, "tables": {"card": "fast"}}',
        b'{"format": 1, "tables": ["card"]}',
        b"[" * 100_000,
        b'{"format": 1, "tables": {"card": {"product": "fast"}}}' + b" " * choices.LARGEST,
    ],
)
def test_a_damaged_or_foreign_file_counts_as_empty_and_is_replaced(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    assert choices.known("card", "product") is None
    assert choices.keep("card", "product", "slow") == "slow"
    assert json.loads(file.read_text()) == {"format": 1, "tables": {"card": {"product": "slow"}}}


def test_a_folder_that_cannot_be_written_only_costs_the_file(file: Path) -> None:
    file.parent.write_text("a file where the folder would be")
    assert choices.known("card", "product") is None
    assert choices.keep("card", "product", "slow") == "slow"


def test_a_file_that_cannot_be_replaced_stays_and_nothing_lies_beside_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(old: str, new: Path) -> None:
        raise OSError(28, "No space left on device")

    choices.keep("card", "product", "slow")
    monkeypatch.setattr(os, "replace", full)
    assert choices.keep("card", "other product", "fast") == "fast"
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert choices.known("card", "product") == "slow"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDFA_CHOICES", "")
    assert choices.enabled()


def test_off_neither_reads_nor_writes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choices.keep("card", "product", "slow")
    before = file.read_bytes()
    monkeypatch.setenv("MDFA_CHOICES", "off")
    assert choices.known("card", "product") is None
    assert choices.keep("card", "product", "fast") == "fast"
    assert file.read_bytes() == before


def test_an_unknown_setting_is_refused_when_a_run_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDFA_CHOICES", "never")
    with pytest.raises(InvalidValue, match="MDFA_CHOICES is 'never': choose one of auto, off"):
        Run(Experiment(), device="cpu")


def test_a_place_is_a_card_with_its_libraries_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(name="Card 1", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: card)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    place = choices.place(torch.device("cuda", 0), ["grouped", "unfolded"])
    assert place == f"Card 1 9.0; PyTorch {torch.__version__}, CUDA 13.0, cuDNN 91002; grouped, unfolded"


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_only_cuda_devices_have_a_place(device: str) -> None:
    assert choices.place(torch.device(device), ["grouped"]) is None


def test_processes_that_write_at_once_leave_a_whole_file(file: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from mdfa_core.compute import choices\n"
        f"choices._file = lambda: Path({str(file)!r})\n"
        "for n in range(50): choices.keep('card', f'{sys.argv[1]} {n}', 'fast'); assert choices._read()"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, str(number)]) for number in range(2)]
    assert [process.wait(300) for process in processes] == [0, 0]
    assert len(json.loads(file.read_text())["tables"]["card"]) >= 50  # a lost choice is measured again
    assert [path.name for path in file.parent.iterdir()] == [file.name]
