"""The program: what it prints by itself, what it refuses, its log, and where it finds its modules."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mdfa_core import DATASETS, METHODS, __version__
from mdfa_core.base.machine import cores
from mdfa_core.runs import capacity
from tests.support.commands import PROGRAM, ROOT, SMALL, Done, assert_refused, environment, run_program


def test_the_program_itself_says_what_it_can_do() -> None:
    done = run_program("--help")

    assert (done.code, done.err) == (0, "")
    for command in ("train", "reproduce", "runs", "app", "data", "bench"):
        assert re.search(rf"^  {command} ", done.out, re.MULTILINE)


def test_help_and_version_need_no_pytorch() -> None:
    program = (
        "import sys\n"
        "from mdfa_core.cli import main\n"
        "for word in ('--help', '--version'):\n"
        "    try:\n"
        "        main([word])\n"
        "    except SystemExit:\n"
        "        pass\n"
        "assert not {'torch', 'numpy', 'tqdm'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=environment(), capture_output=True, timeout=120)


HOSTILE = ("app.py", "click.py", "mdfa_app.py", "numpy.py", "panel.py", "random.py", "rich.py", "torch.py", "typing.py")
"""Names of a user's own files that the real modules must not be mistaken for."""


def test_a_users_own_files_are_not_imported_in_place_of_modules(folder: Path) -> None:
    for name in HOSTILE:
        (folder / name).write_text("raise SystemExit(f'{__file__} was imported')")

    command = [sys.executable, "-m", "mdfa_core", "train", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment())

    assert (done.returncode, done.stderr) == (0, "")
    assert "seed 0: best training accuracy" in done.stdout


def test_in_a_clone_that_is_not_installed_the_package_is_found() -> None:
    """-S leaves out the files by which an editable installation is found."""
    command = [sys.executable, "-S", "-m", "mdfa_core", "--version"]
    packages = environment(PYTHONPATH=sysconfig.get_paths()["purelib"])
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT, env=packages)

    assert (done.returncode, done.stdout) == (0, f"mdfa, version {__version__}\n"), done.stderr


def test_the_program_itself_refuses_in_one_line() -> None:
    assert_refused(run_program("train", "--method", "hebb"), "unknown method 'hebb'", *METHODS)


def test_without_a_command_the_help_is_shown(mdfa: Callable[..., Done]) -> None:
    done = mdfa()

    assert "Usage: mdfa" in done.out + done.err
    assert "Traceback" not in done.err


def test_the_version_is_the_packages(mdfa: Callable[..., Done]) -> None:
    done = mdfa("--version")

    assert (done.code, done.out) == (0, f"mdfa, version {__version__}\n")


REFUSED: dict[str, tuple[list[str], list[str]]] = {
    "unknown command": (["fly"], ["No such command 'fly'"]),
    "unknown option": (["train", "--speed", "3"], ["--speed"]),
    "missing value": (["train", "--epochs"], ["--epochs"]),
    "surplus word": (["train", "digits"], ["digits"]),
    "no integer": (["train", "--epochs", "many"], ["--epochs", "many"]),
    "no number": (["train", "--learning-rate", "fast"], ["--learning-rate", "fast"]),
    "value with a line break": (["train", "--data", "a\nb"], ["unknown data"]),
    "zero epochs": (["train", "--epochs", "0"], ["epochs is 0"]),
    "negative seed": (["train", "--seed", "-1"], ["seed is -1"]),
    "rate nan": (["train", "--learning-rate", "nan"], ["learning rate is nan"]),
    "rate zero": (["train", "--learning-rate", "0"], ["learning rate is 0.0"]),
    "validation one": (["train", "--validation", "1"], ["validation share is 1"]),
    "unknown data": (["train", "--data", "cifar"], ["unknown data 'cifar'", *DATASETS]),
    "unknown optimizer": (["train", "--optimizer", "lbfgs"], ["unknown optimizer", "adam", "rmsprop", "sgd"]),
    "unknown activation": (["train", "--activation", "gelu"], ["unknown activation", "tanh"]),
    "unknown network": (["train", "--network", "resnet"], ["unknown network", "digits-fc"]),
    "unknown initializer": (["train", "--forward-init", "xavier"], ["unknown initializer", "normal:STD"]),
    "unknown precision": (["train", "--precision", "int8"], ["unknown precision", "float32"]),
    "broken network": (["train", "--network", "fc:12,x"], ["fc:12,x"]),
    "network too large for the images": (["train", "--network", "conv:4/9"], ["9×9", "8×8"]),
    "too many classes": (["train", "--outputs", "11"], ["10 classes"]),
    "batch too large": (["train", "--batch-size", "5000"], ["batch size is 5000"]),
    "unknown device": (["train", "--device", "tpu"], ["unknown device 'tpu'"]),
    "absent device": (["train", "--device", "cuda"], ["device 'cuda'", "no CUDA device"]),
    "no threads": (["train", "--threads", "0"], ["threads is 0"]),
    "more threads than can be": (
        ["train", "--threads", str(cores() + 1)],
        [f"threads is {cores() + 1}", f"this machine has {cores()} cores: give a number from 1 to {cores()}"],
    ),
    "net beyond the memory": (["train", "--network", "fc:1000000,1000000"], ["fc:1000000,1000000", "smaller network"]),
    "net beyond all memory": (["train", "--network", f"fc:{'9' * 20}"], ["a smaller network"]),
    "no replicas": (["train", "--replicas", "0"], ["replicas is 0", "from 1 to"]),
    "seeds beyond the last": (["train", "--seed", "4294967295", "--replicas", "2"], ["below 2**32"]),
    "probe never": (["train", *SMALL, "--probe", "0"], ["seconds=0.0"]),
    "missing data folder": (["train", "--data", "cifar100", "--data-dir", "nowhere"], ["nowhere", "does not exist"]),
    "data folder without the data": (["train", "--data", "cifar100", "--data-dir", "."], ["cifar-100-python"]),
    "missing configuration": (["train", "--config", "none.json"], ["none.json", "No such file"]),
    "configuration is a folder": (["train", "--config", "."], ["directory"]),
    "save into a missing folder": (["train", *SMALL, "--save", "no/run.pt"], ["the folder no does not exist"]),
    "save into a folder": (["train", *SMALL, "--save", "."], ["is a folder"]),
    "replay of no method": (["replay", "--methods", ""], ["unknown method ''", *METHODS]),
    "resume a missing file": (["train", "--resume", "none.pt"], ["there is no checkpoint none.pt"]),
    "resume a name with a line break": (["train", "--resume", "a\nb.pt"], ["there is no checkpoint a b.pt"]),
    "resume a folder": (["train", "--resume", "."], ["is a folder"]),
    "check unknown data": (["data", "check", "cifar"], ["unknown data set 'cifar'", *DATASETS]),
    "fetch unknown data": (["data", "fetch", "cifar"], ["unknown data set 'cifar'"]),
    "check missing data": (["data", "check", "mnist", "--data-dir", "nowhere"], ["nowhere", "does not exist"]),
    "fetch into a named folder": (["data", "fetch", "mnist", "--data-dir", "."], ["mnist"]),
    "data without a name": (["data", "check"], ["NAME"]),
    "impossible port": (["app", "--port", "0"], ["--port"]),
    "unknown address": (["app", "--address", "nowhere.invalid"], ["nowhere.invalid", "localhost, 0.0.0.0"]),
    "origin with a scheme": (["app", "--origin", "https://lab.example.org"], ["origin", "such as lab.example.org"]),
    "origin with an impossible port": (["app", "--origin", "lab.example.org:70000"], ["from 1 to 65535"]),
    "origin with port 0": (["app", "--origin", "lab.example.org:0"], ["from 1 to 65535"]),
    "origin with any port": (["app", "--origin", "lab.example.org:*"], ["give HOST or HOST:PORT"]),
    "origin of IPv6": (["app", "--origin", "[::1]:5006"], ["give HOST or HOST:PORT"]),
    "prefix with a space": (["app", "--prefix", "a b"], ["the prefix is 'a b'", "such as lab/mdfa"]),
    "prefix that is an address": (["app", "--prefix", "https://lab.example.org/a"], ["the prefix is", "give a path"]),
}


@pytest.mark.parametrize(("arguments", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], said: list[str], mdfa: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert_refused(mdfa(*arguments), *said)
    assert os.listdir() == []


def test_what_the_package_logs_is_shown_above_the_bar_on_standard_error(
    mdfa: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loud(*arguments: Any, **options: Any) -> None:
        for level in (logging.DEBUG, logging.INFO):
            logging.getLogger("mdfa_core.runs.packing").log(level, "a stack of %d is split", level)
        logging.getLogger("another.library").info("something else")

    log = logging.getLogger("mdfa_core")
    before = (log.level, list(log.handlers))
    quiet = mdfa("train", *SMALL, "--json")
    monkeypatch.setattr(capacity, "refuse_too_large", loud)
    done = mdfa("train", *SMALL, "--json")

    assert (done.code, done.err) == (0, f"mdfa: a stack of {logging.INFO} is split\n")
    assert quiet.err == ""
    assert all(json.loads(line) for line in done.out.splitlines())  # none of it is among the events
    assert (log.level, log.handlers) == before  # whoever uses the package after is left alone


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{PROGRAM} train --network fc:8 --epochs 300 --json --device cpu | head -1; exit ${{PIPESTATUS[0]}}"

    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=120, env=environment()
    )

    assert done.stderr == ""
    assert [json.loads(line)["kind"] for line in done.stdout.splitlines()] == ["started"]
    assert done.returncode == 0
