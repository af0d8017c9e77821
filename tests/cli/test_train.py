"""`mdfa train`: settings, events, outcomes, checkpoints, Ctrl-C."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mdfa_core import Every, Experiment, Run, train
from mdfa_core.training.events import Finished, Probed, Started, from_dict, to_json
from tests.support.commands import PROGRAM, SMALL, Done, assert_refused, environment

SMALL_EXPERIMENT = Experiment(network="fc:8", epochs=3)


def events_of(out: str) -> list[Any]:
    return [from_dict(json.loads(line)) for line in out.splitlines()]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "in the configuration"),
        (b"", "not valid JSON"),
        (b"[1, 2]", "give an object of settings"),
        (b'{"rate": 1}', "unknown setting 'rate'"),
        (b'{"epochs": "3"}', "epochs is '3'"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_a_bad_configuration_is_refused(content: bytes, said: str, mdfa: Callable[..., Done]) -> None:
    Path("run.json").write_bytes(content)

    assert_refused(mdfa("train", "--config", "run.json"), said)


def test_a_file_that_is_no_checkpoint_is_not_resumed(mdfa: Callable[..., Done]) -> None:
    Path("run.pt").write_bytes(b"hello")

    assert_refused(mdfa("train", "--resume", "run.pt"), "run.pt")
    assert Path("run.pt").read_bytes() == b"hello"


@pytest.mark.parametrize(
    "more", [["--epochs", "9"], ["--method", "bp"], ["--no-drop-last"], ["--replicas", "2"], ["--config", "run.json"]]
)
def test_a_resumed_run_takes_no_other_settings(more: list[str], mdfa: Callable[..., Done]) -> None:
    run = Run(SMALL_EXPERIMENT, device="cpu")
    run.save("run.pt")
    Path("run.json").write_text("{}")

    assert_refused(mdfa("train", "--resume", "run.pt", *more), "every setting from the checkpoint")


# ------------------------------------------------------------------------------------------------------------- training


def test_json_lines_are_the_runsevents_of(mdfa: Callable[..., Done]) -> None:
    done = mdfa("train", *SMALL, "--json", "--probe", "0.000001", "--method", "dfa", "--replicas", "2", "--seed", "3")

    assert (done.code, done.err) == (0, "")
    events = events_of(done.out)
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
        "loss_scale": "sum",
        "evaluation": "released",
        "engine": "torch",
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


def test_the_sign_agreement_of_the_last_probe_is_said_at_the_end(mdfa: Callable[..., Done]) -> None:
    done = mdfa("train", *SMALL, "--method", "dfa", "--replicas", "2", "--probe", "1000")

    experiments = [SMALL_EXPERIMENT.replace(method="dfa", seed=seed) for seed in (0, 1)]
    *_, probed = (e for e in train(experiments, device="cpu", probe=Every(seconds=1000)) if isinstance(e, Probed))
    outcomes = done.out.splitlines()[1:]
    assert len(outcomes) == 2
    for line, share in zip(outcomes, probed.unit.overall, strict=True):
        assert line.endswith(f", sign agreement {share:.1%} of unit errors (step {probed.step})")
    assert "sign agreement" not in mdfa("train", *SMALL).out


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


def test_the_number_of_threads_is_that_asked_for_or_fits_the_size(mdfa: Callable[..., Done]) -> None:
    torch.set_num_threads(2)
    asked, small = mdfa("train", *SMALL, "--threads", "2"), mdfa("train", *SMALL)
    assert asked.code == small.code == 0
    assert "on cpu, 2 threads\n" in asked.out
    assert "on cpu, 1 thread\n" in small.out
    assert torch.get_num_threads() == 2


def test_a_saved_run_can_be_resumed_when_it_is_over(mdfa: Callable[..., Done]) -> None:
    assert mdfa("train", *SMALL, "--save", "run.pt").code == 0

    done = mdfa("train", "--resume", "run.pt", "--device", "cpu")

    assert done.code == 0
    assert Run.load("run.pt", device="cpu").finished


# ------------------------------------------------------------------------------------------------ stopping and going on


LONG = Experiment(network="fc:8", epochs=500, learning_rate=0.001)
STEPS = 3 * LONG.epochs
"""Its events are more text than a pipe takes: it cannot end before somebody has read them."""


def _interrupted(*options: str, by: signal.Signals = signal.SIGINT) -> Done:
    """A long run that gets a signal when it has said three things."""
    arguments = ["--network", LONG.network, "--epochs", str(LONG.epochs), "--learning-rate", str(LONG.learning_rate)]
    with subprocess.Popen(
        [PROGRAM, "train", *arguments, "--device", "cpu", "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            first = "".join(process.stdout.readline() for _ in range(3))
            process.send_signal(by)
            # Not communicate: it would leave out what readline has read ahead.
            out, err = process.stdout.read(), process.stderr.read()
            process.wait(60)
        finally:
            process.kill()
    return Done(process.returncode, first + out, err)


def test_a_request_to_end_saves_the_run_as_ctrl_c_does() -> None:
    stopped = _interrupted("--save", "run.pt", by=signal.SIGTERM)
    assert stopped.code == 130
    assert "continue with: mdfa train --resume run.pt" in stopped.err
    assert 0 < Run.load("run.pt", device="cpu").step < STEPS


def test_ctrl_c_saves_the_run_and_it_goes_on_to_the_same_end(mdfa: Callable[..., Done]) -> None:
    """With what a checkpoint does not hold, but a run's last bits, or its data, depend on."""
    stopped = _interrupted("--save", "my run.pt", "--device", "cpu", "--threads", "1")

    assert stopped.code == 130
    again = r"mdfa train --resume 'my run\.pt' --device cpu --threads 1"
    assert re.fullmatch(rf"mdfa: stopped at step \d+ of {STEPS}; continue with: {again}\n", stopped.err)
    first = events_of(stopped.out)
    assert isinstance(first[0], Started)
    assert not any(isinstance(event, Finished) for event in first)
    assert 0 < Run.load("my run.pt", device="cpu").step < STEPS

    rest = mdfa("train", "--resume", "my run.pt", "--device", "cpu", "--json")

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
    assert re.fullmatch(rf"mdfa: stopped at step \d+ of {STEPS}; give --save FILE [^\n]+\n", stopped.err)
    assert os.listdir() == []
