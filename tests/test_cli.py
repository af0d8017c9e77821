"""The `mdfa` command: as a program with a screen of its own where that matters, else through its main function."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from mdfa_core import DATASETS, METHODS, Experiment, Run, cli, train
from mdfa_core.cli import main
from mdfa_core.events import Finished, Probed, Started, from_dict, to_json
from mdfa_core.machine import cores

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = Path(sys.executable).with_name("mdfa")
SMALL = ["--network", "fc:8", "--epochs", "3", "--device", "cpu"]
SMALL_EXPERIMENT = Experiment(network="fc:8", epochs=3)


@dataclass(frozen=True)
class Done:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in an empty folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)


@pytest.fixture
def mdfa(capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Calls the main function; what it writes to the screen is caught where the operating system sees it."""

    def call(*arguments: str) -> Done:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        out, err = capfd.readouterr()
        code = caught.value.code
        assert code is None or isinstance(code, int)
        return Done(code or 0, out, err)

    return call


def _environment() -> dict[str, str]:
    """As here, but for the package under test and one thread."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}


def _program(*arguments: str) -> Done:
    """Runs the installed program as anybody would."""
    done = subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=120, env=_environment()
    )
    return Done(done.returncode, done.stdout, done.stderr)


def _assert_refused(done: Done, *said: str) -> None:
    """One line on standard error, nothing else, exit code 2."""
    assert done.out == ""
    assert re.fullmatch(r"mdfa: [^\n]+\n", done.err), done.err
    assert "Traceback" not in done.err
    assert done.code == 2
    for text in said:
        assert text in done.err


def _events(out: str) -> list[Any]:
    return [from_dict(json.loads(line)) for line in out.splitlines()]


# -------------------------------------------------------------------------------------------------------------- as told


def test_the_program_itself_says_what_it_can_do() -> None:
    done = _program("--help")

    assert (done.code, done.err) == (0, "")
    for command in ("train", "data", "app"):
        assert re.search(rf"^  {command} ", done.out, re.MULTILINE)


def test_the_program_itself_refuses_in_one_line() -> None:
    _assert_refused(_program("train", "--method", "hebb"), "unknown method 'hebb'", *METHODS)


def test_without_a_command_the_help_is_shown(mdfa: Callable[..., Done]) -> None:
    done = mdfa()

    assert "Usage: mdfa" in done.out + done.err
    assert "Traceback" not in done.err


def test_the_version_is_the_packages(mdfa: Callable[..., Done]) -> None:
    done = mdfa("--version")

    assert done.code == 0
    assert re.search(r"\d+\.\d+\.\d+", done.out)


def test_help_shows_every_setting_with_its_default(mdfa: Callable[..., Done]) -> None:
    done = mdfa("train", "--help")
    assert done.code == 0
    joined = re.sub(r"\s", "", done.out)  # lines break anywhere

    for setting in dataclasses.fields(Experiment):
        flag = "--" + setting.name.replace("_", "-")
        assert re.search(rf"^  {flag}\b", done.out, re.MULTILINE), flag
        switch = isinstance(setting.default, bool)
        default = ("on" if setting.default else "off") if switch else setting.default
        shown = setting.metadata["help"] + ("" if setting.default is None else f"[default:{default}]")
        assert re.sub(r"\s", "", shown) in joined, flag
    for flag in ("--config", "--replicas", "--device", "--threads", "--data-dir", "--probe", "--save", "--resume"):
        assert re.search(rf"^  {flag}\b", done.out, re.MULTILINE), flag


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
    "unknown initialiser": (["train", "--forward-init", "xavier"], ["unknown initialiser", "normal:STD"]),
    "unknown precision": (["train", "--precision", "int8"], ["unknown precision", "float32"]),
    "broken network": (["train", "--network", "fc:12,x"], ["fc:12,x"]),
    "network too large for the images": (["train", "--network", "conv:4/9"], ["9×9", "8×8"]),
    "too many classes": (["train", "--outputs", "11"], ["10 classes"]),
    "batch too large": (["train", "--batch-size", "5000"], ["batch size is 5000"]),
    "unknown device": (["train", "--device", "tpu"], ["unknown device 'tpu'"]),
    "absent device": (["train", "--device", "cuda"], ["device 'cuda'", "no CUDA device"]),
    "no threads": (["train", "--threads", "0"], ["0 threads"]),
    "more threads than can be": (
        ["train", "--threads", str(cores() + 1)],
        [f"{cores() + 1} threads", f"this machine has {cores()} cores: give a number from 1 to {cores()}"],
    ),
    "net beyond the memory": (["train", "--network", "fc:1000000,1000000"], ["fc:1000000,1000000", "a smaller net"]),
    "net beyond all memory": (["train", "--network", f"fc:{'9' * 20}"], ["a smaller net"]),
    "no replicas": (["train", "--replicas", "0"], ["0 replicas"]),
    "seeds beyond the last": (["train", "--seed", "4294967295", "--replicas", "2"], ["below 2**32"]),
    "probe never": (["train", *SMALL, "--probe", "0"], ["seconds=0.0"]),
    "missing data folder": (["train", "--data", "cifar100", "--data-dir", "nowhere"], ["nowhere", "does not exist"]),
    "data folder without the data": (["train", "--data", "cifar100", "--data-dir", "."], ["cifar-100-python"]),
    "missing configuration": (["train", "--config", "none.json"], ["none.json", "No such file"]),
    "configuration is a folder": (["train", "--config", "."], ["directory"]),
    "save into a missing folder": (["train", *SMALL, "--save", "no/run.pt"], ["the folder no does not exist"]),
    "save into a folder": (["train", *SMALL, "--save", "."], ["is a folder"]),
    "resume a missing file": (["train", "--resume", "none.pt"], ["there is no checkpoint none.pt"]),
    "resume a name with a line break": (["train", "--resume", "a\nb.pt"], ["there is no checkpoint a b.pt"]),
    "resume a folder": (["train", "--resume", "."], ["is a folder"]),
    "check unknown data": (["data", "check", "cifar"], ["unknown data set 'cifar'", *DATASETS]),
    "fetch unknown data": (["data", "fetch", "cifar"], ["unknown data set 'cifar'"]),
    "check missing data": (["data", "check", "mnist", "--data-dir", "nowhere"], ["nowhere", "does not exist"]),
    "fetch into a named folder": (["data", "fetch", "mnist", "--data-dir", "."], ["mnist"]),
    "data without a name": (["data", "check"], ["NAME"]),
    "impossible port": (["app", "--port", "0"], ["--port"]),
}


@pytest.mark.parametrize(("arguments", "said"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], said: list[str], mdfa: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    _assert_refused(mdfa(*arguments), *said)
    assert os.listdir() == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[1, 2]", "give an object of settings"),
        (b'{"rate": 1}', "unknown setting 'rate'"),
        (b'{"epochs": "3"}', "epochs is '3'"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_a_bad_configuration_is_refused(content: bytes, said: str, mdfa: Callable[..., Done]) -> None:
    Path("run.json").write_bytes(content)

    _assert_refused(mdfa("train", "--config", "run.json"), said)


def test_a_file_that_is_no_checkpoint_is_not_resumed(mdfa: Callable[..., Done]) -> None:
    Path("run.pt").write_bytes(b"hello")

    _assert_refused(mdfa("train", "--resume", "run.pt"), "run.pt")
    assert Path("run.pt").read_bytes() == b"hello"


@pytest.mark.parametrize(
    "more", [["--epochs", "9"], ["--method", "bp"], ["--no-drop-last"], ["--replicas", "2"], ["--config", "run.json"]]
)
def test_a_resumed_run_takes_no_other_settings(more: list[str], mdfa: Callable[..., Done]) -> None:
    run = Run(SMALL_EXPERIMENT, device="cpu")
    run.save("run.pt")
    Path("run.json").write_text("{}")

    _assert_refused(mdfa("train", "--resume", "run.pt", *more), "every setting from the checkpoint")


# ------------------------------------------------------------------------------------------------------------- training


def test_json_lines_are_the_runs_events(mdfa: Callable[..., Done]) -> None:
    done = mdfa("train", *SMALL, "--json", "--probe", "0.000001", "--method", "dfa", "--replicas", "2", "--seed", "3")

    assert (done.code, done.err) == (0, "")
    events = _events(done.out)
    assert [to_json(event) for event in events] == done.out.splitlines()
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert events[0].seeds == (3, 4)
    assert any(isinstance(event, Probed) for event in events)
    experiments = [SMALL_EXPERIMENT.replace(method="dfa", seed=seed) for seed in (3, 4)]
    expected = list(train(experiments, device="cpu"))
    for kind in ("started", "evaluated", "finished"):
        assert [to_json(e) for e in events if e.kind == kind] == [to_json(e) for e in expected if e.kind == kind]


def test_every_setting_given_as_an_option_arrives(mdfa: Callable[..., Done]) -> None:
    settings = {
        "data": "digits",
        "outputs": 4,
        "method": "fa",
        "network": "conv:3/3/2+fc:5",
        "activation": "relu",
        "forward_init": "uniform:1",
        "feedback_init": "uniform:2",
        "convention": "released",
        "floor": 0.5,
        "optimizer": "rmsprop",
        "learning_rate": 0.003,
        "l2": 0.01,
        "batch_size": 50,
        "epochs": 2,
        "seed": 7,
        "task_seed": 5,
        "validation": 0.25,
        "image_size": 8,
        "drop_last": False,
        "precision": "float64",
    }
    assert set(settings) == {setting.name for setting in dataclasses.fields(Experiment)}
    options = [
        word
        for name, value in settings.items()
        for word in (
            [f"--no-{name}".replace("_", "-")] if value is False else [f"--{name}".replace("_", "-"), str(value)]
        )
    ]

    done = mdfa("train", *options, "--device", "cpu", "--json", "--save", "run.pt")

    assert (done.code, done.err) == (0, "")
    assert Run.load("run.pt", device="cpu").experiments == (Experiment(**settings),)
    *_, finished = train(Experiment(**settings), device="cpu")
    assert done.out.splitlines()[-1] == to_json(finished)


def test_options_go_before_the_configuration(mdfa: Callable[..., Done]) -> None:
    Path("run.json").write_text(SMALL_EXPERIMENT.replace(method="fa", seed=5, epochs=9).to_json())

    done = mdfa("train", "--config", "run.json", "--epochs", "1", "--json", "--device", "cpu")

    *_, finished = train(SMALL_EXPERIMENT.replace(method="fa", seed=5, epochs=1), device="cpu")
    assert done.out.splitlines()[-1] == to_json(finished)


def test_people_get_a_heading_and_an_outcome_for_every_seed(mdfa: Callable[..., Done]) -> None:
    done = mdfa("train", *SMALL, "--replicas", "2", "--task-seed", "0")

    *_, finished = train([SMALL_EXPERIMENT.replace(seed=seed, task_seed=0) for seed in (0, 1)], device="cpu")
    assert isinstance(finished, Finished)
    assert done.code == 0
    assert done.err == ""  # no bar where nobody watches
    heading, *outcomes = done.out.splitlines()
    for text in ("mDFA", "digits", "2 / 8", "239", "fc:8", "sgd", "0.01", "2 replicas", "cpu"):
        assert text in heading
    assert len(outcomes) == 2
    for seed, line in enumerate(outcomes):
        accuracy, best, test = (
            values[seed]
            for values in (finished.best_train_accuracy, finished.best_validation_accuracy, finished.test_accuracy)
        )
        assert line.startswith(f"seed {seed}: ")
        assert f"best training accuracy {accuracy:.1%}" in line
        assert f"best validation accuracy {best:.1%} (epoch {finished.best_validation_epoch[seed]})" in line
        assert f"test accuracy there {test:.1%}" in line


def test_people_are_told_of_divergence(mdfa: Callable[..., Done]) -> None:
    done = mdfa("train", *SMALL, "--learning-rate", "1e38")

    assert done.code == 0
    assert "Traceback" not in done.err
    assert re.search(r"seed 0 diverged at step \d .*smaller learning rate", done.out)
    assert re.search(r"^seed 0: diverged at step \d", done.out, re.MULTILINE)


def test_a_way_to_products_that_is_none_is_refused_for_a_small_net_too(
    mdfa: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MDFA_GEMM", "abacus")
    done = mdfa("train", *SMALL)
    assert (done.code, done.out) == (2, "")
    assert "MDFA_GEMM is 'abacus': choose one of" in done.err
    monkeypatch.setenv("MDFA_GEMM", "")
    assert mdfa("train", *SMALL).code == 0


def test_what_the_package_logs_is_shown_above_the_bar_on_standard_error(
    mdfa: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loud(*arguments: Any, **options: Any) -> None:
        for level in (logging.DEBUG, logging.INFO):
            logging.getLogger("mdfa_core.sweeps").log(level, "a stack of %d is split", level)
        logging.getLogger("another.library").info("something else")

    log = logging.getLogger("mdfa_core")
    before = (log.level, list(log.handlers))
    quiet = mdfa("train", *SMALL, "--json")
    monkeypatch.setattr(cli, "refuse_too_large", loud)
    done = mdfa("train", *SMALL, "--json")

    assert (done.code, done.err) == (0, f"mdfa: a stack of {logging.INFO} is split\n")
    assert quiet.err == ""
    assert all(json.loads(line) for line in done.out.splitlines())  # none of it is among the events
    assert (log.level, log.handlers) == before  # whoever uses the package after is left alone


def test_threads_are_what_was_asked_for(mdfa: Callable[..., Done]) -> None:
    assert mdfa("train", *SMALL, "--threads", "2").code == 0
    assert torch.get_num_threads() == 2


def test_a_saved_run_can_be_resumed_when_it_is_over(mdfa: Callable[..., Done]) -> None:
    assert mdfa("train", *SMALL, "--save", "run.pt").code == 0

    done = mdfa("train", "--resume", "run.pt", "--device", "cpu")

    assert done.code == 0
    assert Run.load("run.pt", device="cpu").finished


# ------------------------------------------------------------------------------------------------ stopping and going on


LONG = Experiment(network="fc:8", epochs=1500, learning_rate=0.001)


def _interrupted(*options: str) -> Done:
    """A long run that gets Ctrl-C when it has said three things."""
    arguments = ["--network", LONG.network, "--epochs", str(LONG.epochs), "--learning-rate", str(LONG.learning_rate)]
    with subprocess.Popen(
        [PROGRAM, "train", *arguments, "--device", "cpu", "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(),
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            first = "".join(process.stdout.readline() for _ in range(3))
            process.send_signal(signal.SIGINT)
            # Not communicate: it would leave out what readline has read ahead.
            out, err = process.stdout.read(), process.stderr.read()
            process.wait(60)
        finally:
            process.kill()
    return Done(process.returncode, first + out, err)


def test_ctrl_c_saves_the_run_and_it_goes_on_to_the_same_end() -> None:
    """With what a checkpoint does not hold, but a run's last bits, or its data, depend on."""
    stopped = _interrupted("--save", "my run.pt", "--device", "cpu", "--threads", "1")

    assert stopped.code == 130
    again = r"mdfa train --resume 'my run\.pt' --device cpu --threads 1"
    assert re.fullmatch(rf"mdfa: stopped at step \d+ of 4500; go on with: {again}\n", stopped.err)
    first = _events(stopped.out)
    assert isinstance(first[0], Started)
    assert not any(isinstance(event, Finished) for event in first)
    assert 0 < Run.load("my run.pt", device="cpu").step < 4500

    rest = _program("train", "--resume", "my run.pt", "--device", "cpu", "--json")

    assert (rest.code, rest.err) == (0, "")
    whole = list(train(LONG, device="cpu"))
    lines = [*stopped.out.splitlines(), *rest.out.splitlines()]
    assert lines[-1] == to_json(whole[-1])
    for kind in ("started", "evaluated", "finished"):  # none lost, none twice
        said = [line for line in lines if json.loads(line)["kind"] == kind]
        assert said == [to_json(event) for event in whole if event.kind == kind]
    assert Run.load("my run.pt", device="cpu").finished  # saved where it was resumed from
    assert os.listdir() == ["my run.pt"]


def test_ctrl_c_without_a_place_to_save_says_so() -> None:
    stopped = _interrupted()

    assert stopped.code == 130
    assert re.fullmatch(r"mdfa: stopped at step \d+ of 4500; give --save FILE [^\n]+\n", stopped.err)
    assert os.listdir() == []


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{PROGRAM} train --network fc:8 --epochs 300 --json --device cpu | head -1; exit ${{PIPESTATUS[0]}}"

    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=120, env=_environment()
    )

    assert done.stderr == ""
    assert [event.kind for event in _events(done.stdout)] == ["started"]
    assert done.returncode == 0


# ----------------------------------------------------------------------------------------------------------------- data


def test_the_program_itself_checks_data() -> None:
    done = _program("data", "check", "digits")

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
