"""A rule with a state of its own, added from outside: it is trained, stacked, saved, copied and counted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mdfa_core import METHODS, Experiment, Run
from mdfa_core.attach import attach
from mdfa_core.base.errors import InvalidValue
from mdfa_core.cli import main
from mdfa_core.compute import kernels
from mdfa_core.learning import cuda_graph
from mdfa_core.learning.learner import Sums
from mdfa_core.learning.steps import StepRunner
from mdfa_core.nets.networks import ForwardPass, Network, Parameters
from mdfa_core.rules import Direct, Method, Signals, StateShape, StepContext
from mdfa_core.studies.grids import RULES_GRID
from mdfa_core.training.memory import predicted_memory
from tests.support.cpu_graph import CpuGraph
from tests.support.references import batch_of, learner_of, network_of, relative

pytestmark = pytest.mark.usefixtures("centred")

KEPT = 0.9


class Centred(Direct):
    """ε_l = (e − m) B_l, where m, the running mean of the error of each output, is the rule's state."""

    def state(self, network: Network) -> tuple[StateShape, ...]:
        return (StateShape((network.outputs,), value=0.25),)

    def sent(self, error: Tensor, context: StepContext) -> Tensor:
        (mean,) = context.state
        return error - mean.unsqueeze(1)

    def signals(
        self,
        network: Network,
        parameters: Parameters,
        feedback: Sequence[Tensor],
        forward_pass: ForwardPass,
        error: Tensor,
        context: StepContext,
    ) -> Signals:
        made = super().signals(network, parameters, feedback, forward_pass, error, context)
        (mean,) = context.state
        return Signals(lambda: made.errors, made.deltas, state=lambda: [KEPT * mean + (1 - KEPT) * error.mean(1)])


@pytest.fixture
def centred() -> Iterator[None]:
    METHODS.add("centred", Method(title="cDFA", description="DFA of the centred error", transport=Centred()))
    yield
    METHODS.remove("centred")


def experiment(seed: int = 0, **settings: int) -> Experiment:
    return Experiment(method="centred", network="fc:16,16", epochs=2, seed=seed, task_seed=0, **settings)


def finished(run: Run) -> Run:
    list(run.events())
    return run


def numbers(run: Run) -> list[Tensor]:
    return [tensor for tensors in run.learner.state().values() for tensor in tensors]


def test_the_state_is_what_a_loop_over_the_errors_makes() -> None:
    network = network_of("fc:5,4", outputs=3)
    learner = learner_of(network, "centred", rates=(0.1, 0.2))
    expected = torch.full((2, 3), 0.25, dtype=torch.float64)
    for step in range(4):
        batch = learner.step(*batch_of(network, 6, replicas=2, seed=step))
        error = batch.signals.deltas[-1]
        for r in range(2):
            for number, b in enumerate(learner.feedback):
                assert relative(batch.signals.errors[number][r], (error[r] - expected[r]) @ b[r]) < 1e-12
            mean = sum(error[r, n] for n in range(6)) / 6
            expected[r] = KEPT * expected[r] + (1 - KEPT) * mean
        assert relative(learner.rule_state[0], expected) < 1e-12


def test_observing_and_measuring_leave_the_state_alone() -> None:
    learner = learner_of(network_of("fc:5,4"), "centred")
    before = learner.rule_state[0].clone()
    learner.measure(learner.observe(*batch_of(learner.network, 6)))
    assert torch.equal(learner.rule_state[0], before)


@pytest.mark.parametrize("batch_size", [16, 64])
def test_a_replica_learns_the_same_bits_in_a_stack_and_alone(batch_size: int) -> None:
    stack = finished(Run([experiment(seed, batch_size=batch_size) for seed in range(3)], device="cpu"))
    for seed in range(3):
        alone = finished(Run(experiment(seed, batch_size=batch_size), device="cpu"))
        for ours, theirs in zip(numbers(stack), numbers(alone), strict=True):
            assert torch.equal(ours[seed], theirs[0])


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    straight = finished(Run(experiment(), device="cpu"))
    run = Run(experiment(), device="cpu")
    list(run.events(steps=7))
    run.save(tmp_path / "run.pt")
    assert not torch.equal(run.learner.rule_state[0], Run(experiment(), device="cpu").learner.rule_state[0])

    resumed = finished(Run.load(tmp_path / "run.pt", device="cpu"))

    assert all(map(torch.equal, numbers(resumed), numbers(straight)))


@pytest.mark.parametrize("outputs", [1, 10])
def test_the_memory_of_a_run_counts_the_state(outputs: int) -> None:
    with_state, without = (
        predicted_memory(experiment(outputs=outputs).replace(method=name)) for name in ("centred", "dfa")
    )
    assert with_state - without == 4 * outputs  # float32


def test_a_copy_of_the_learner_has_a_state_of_its_own() -> None:
    learner = learner_of(network_of("fc:5,4"), "centred", rates=(0.1, 0.2))
    learner.step(*batch_of(learner.network, 6, replicas=2))
    before = learner.rule_state[0].clone()
    copy = learner.copy([1])
    assert torch.equal(copy.rule_state[0], before[1:])

    copy.step(*batch_of(learner.network, 6))

    assert torch.equal(learner.rule_state[0], before)
    assert not torch.equal(copy.rule_state[0], before[1:])


def test_a_switch_of_rules_starts_from_a_new_state() -> None:
    run = Run(experiment(), device="cpu")
    list(run.events(steps=3))
    run.set_method("dfa")
    assert run.learner.rule_state == ()
    run.set_method("centred")
    assert (run.learner.rule_state[0] == 0.25).all()


def test_replayed_steps_change_the_state_as_steps_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "per_replica", lambda device: False)
    monkeypatch.setattr(cuda_graph, "graphs_of", lambda device: CpuGraph)
    monkeypatch.setattr(CpuGraph, "made", [], raising=False)
    learners = [learner_of(network_of("fc:5,4"), "centred", rates=(0.1, 0.2)) for _ in range(2)]
    ours, theirs = (
        StepRunner(learner, Sums.zeros(2, torch.device("cpu")), replayed=replayed)
        for learner, replayed in zip(learners, (True, False), strict=True)
    )
    for step in range(5):
        for steps in (ours, theirs):
            steps.take(*batch_of(steps.learner.network, 6, replicas=2, seed=step))

    assert ours.replaying
    assert relative(ours.learner.rule_state[0], theirs.learner.rule_state[0]) < 1e-12


def test_the_command_line_and_the_comparison_see_the_rule(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", "--method", "centred", "--network", "fc:8", "--epochs", "1", "--device", "cpu", "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["kind"] == "finished"
    assert len(RULES_GRID.candidates("centred")) == 36


def test_attach_refuses_it_although_it_inherits_from_a_rule_that_can_be_attached() -> None:
    with pytest.raises(
        InvalidValue, match="cDFA cannot be attached because it brings errors to layers in a way of its own"
    ):
        attach(torch.nn.Linear(2, 1), "centred")
