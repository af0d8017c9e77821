"""Replayed steps are the steps, whatever the rule, the optimizer, the net and the run; or nothing is replayed.

A CPU stand-in records and replays the graphs (`tests.support.cpu_graph`), and the CPU is made to take the batched
paths of a GPU. Real CUDA graphs need a GPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from mdfa_core import METHODS, OPTIMIZERS, Every, Experiment, Learner, Run
from mdfa_core.base.errors import InvalidValue
from mdfa_core.compute.kernels import PRECISIONS
from mdfa_core.learning import cuda_graph
from mdfa_core.learning.learner import Sums
from mdfa_core.learning.optimizers import SGD, StepCounter
from mdfa_core.learning.steps import StepRunner
from mdfa_core.nets.networks import Parameters
from mdfa_core.rules import Direct, StepContext
from mdfa_core.rules.methods import Method
from mdfa_core.training.events import to_json
from tests.support.cases import pairwise
from tests.support.cpu_graph import CpuGraph
from tests.support.references import PAIRS, batch_of, learner_of, network_of, relative

RATES, PENALTIES = (0.05, 0.02, 0.01), (0.0, 0.01, 0.1)
EXAMPLES = 10


@pytest.fixture(autouse=True)
def as_on_a_gpu(batched_replicas: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "graphs_of", lambda device: CpuGraph)
    monkeypatch.setattr(CpuGraph, "made", [], raising=False)


def stack_of(
    method: str | Method, optimizer: str = "sgd", net: str = "fc:8,6", activation: str = "tanh", **options: Any
) -> Learner:
    options = {"rates": RATES, "l2": PENALTIES} | options
    return learner_of(network_of(net, activation=activation, image=(2, 6, 6)), method, optimizer=optimizer, **options)


def steps_of(learner: Learner, *, replayed: bool = True) -> StepRunner:
    device = learner.parameters.weights[0].device
    return StepRunner(learner, Sums.zeros(learner.replicas, device), replayed=replayed)


def state(steps: StepRunner) -> list[Tensor]:
    """Everything that steps change, including the step number."""
    learner = steps.learner
    sums = [steps.sums.loss, steps.sums.correct, torch.tensor(float(learner.optimizer_state.step))]
    return [tensor.clone() for tensors in (*learner.state().values(), sums) for tensor in tensors]


def assert_replayed_steps_are_the_steps(replayed: Learner, usual: Learner, *, shared: bool = False) -> StepRunner:
    """Nine batches, one of which is smaller, with a step that is not the replayer's and new rates on the way."""
    ours, theirs = steps_of(replayed), steps_of(usual, replayed=False)
    for number in range(9):
        inputs, labels = batch_of(
            usual.network, 7 if number == 4 else EXAMPLES, replicas=1 if shared else usual.replicas, seed=number
        )
        for steps in (ours, theirs):
            learner = steps.learner
            if number == 6:
                learner.optimizer_state.rates = [rate / 2 for rate in learner.optimizer_state.rates]
            if number == 3:  # as a step with a probe
                batch = learner.observe(inputs, labels)
                learner.learn(batch)
                steps.sums.add_(learner.score(batch, labels), EXAMPLES)
            else:
                steps.take(inputs, labels)
        for found, exact in zip(state(ours), state(theirs), strict=True):
            assert relative(found, exact) < 1e-12, number
    return ours


BOTH = ("fc:8,6", "conv:3/3/1,4/2/2+fc:5")


@pytest.mark.parametrize(
    ("method", "optimizer", "net"),
    [
        *((method, "sgd", net) for method in METHODS for net in BOTH),
        *(("mdfa", optimizer, net) for optimizer, net in zip(OPTIMIZERS, itertools.cycle(BOTH)) if optimizer != "sgd"),
    ],
)
def test_replayed_steps_are_the_steps(method: str, optimizer: str, net: str) -> None:
    ours = assert_replayed_steps_are_the_steps(*(stack_of(method, optimizer, net) for _ in range(2)))

    assert ours.replaying is not METHODS[method].transport.draws
    assert ours.replaying is bool(CpuGraph.made)  # where the rule says that it draws there is nothing to try
    if ours.replaying:  # a trial and a recording, and once more after the rates changed
        assert [tape.replays for tape in CpuGraph.made] == [3, 2, 3, 1]


@pytest.mark.parametrize(("optimizer", "penalty", "rates"), pairwise(OPTIMIZERS, [0.0, 0.01], [(0.05,), (0.05, 0.05)]))
def test_one_net_and_equal_rates(optimizer: str, penalty: float, rates: tuple[float, ...]) -> None:
    stacks = (stack_of("mdfa", optimizer, rates=rates, l2=[penalty] * len(rates)) for _ in range(2))
    assert assert_replayed_steps_are_the_steps(*stacks).replaying


def test_one_batch_for_all_replicas() -> None:
    assert assert_replayed_steps_are_the_steps(*(stack_of("mdfa") for _ in range(2)), shared=True).replaying


def test_recording_is_no_step() -> None:
    steps = steps_of(stack_of("mdfa", "adam"))
    for number in range(2):
        steps.take(*batch_of(steps.learner.network, EXAMPLES, replicas=3, seed=number))

    assert steps.replaying
    assert steps.learner.optimizer_state.step == 2
    assert steps.learner.optimizer_state.clock is not None
    assert steps.learner.optimizer_state.clock.steps.item() == 2


def test_batches_that_change_their_shape_every_time_are_never_recorded() -> None:
    steps = steps_of(stack_of("mdfa"))
    for number in range(6):
        steps.take(*batch_of(steps.learner.network, EXAMPLES - number % 2, replicas=3))

    assert not steps.replaying
    assert not CpuGraph.made


def test_incomplete_last_batches_leave_the_recording_alone() -> None:
    steps = steps_of(stack_of("mdfa"))
    for number in range(20):
        steps.take(*batch_of(steps.learner.network, 7 if number % 5 == 4 else EXAMPLES, replicas=3, seed=number))

    assert [tape.replays for tape in CpuGraph.made] == [3, 14]  # all but the first two and the last of every five


def test_the_same_rates_given_again_are_other_memory() -> None:
    steps = steps_of(stack_of("mdfa"))
    batch = batch_of(steps.learner.network, EXAMPLES, replicas=3)
    for _ in range(3):
        steps.take(*batch)
    steps.learner.optimizer_state.rates = steps.learner.optimizer_state.rates
    steps.take(*batch)

    assert [tape.replays for tape in CpuGraph.made] == [3, 1]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("rates", "penalties"),
    [
        ((0.05, 0.05, 0.01), (0.0, 0.0, 0.0)),
        ((0.05, 0.05, 0.05), (0.0, 0.0, 0.1)),
        ((0.05, 0.05, 0.05, 0.01), (0.0, 0.0, 0.1, 0.0)),
        ((0.05, 0.05, 0.05), (0.0, 0.0, 0.0)),
    ],
)
def test_a_trial_takes_the_calls_of_the_stack(
    rates: tuple[float, ...], penalties: tuple[float, ...], optimizer: str
) -> None:
    steps = steps_of(stack_of("mdfa", optimizer, rates=rates, l2=penalties))
    for number in range(2):
        steps.take(*batch_of(steps.learner.network, EXAMPLES, replicas=len(rates), seed=number))

    trial, real = ({call[0].name() for call in tape.calls} for tape in CpuGraph.made)
    assert trial == real


def test_a_replica_that_diverges_does_not_stop_the_others() -> None:
    options: dict[str, Any] = {"activation": "relu", "rates": (1e300, 0.02, 0.01), "l2": (0.0,) * 3}
    ours, theirs = (steps_of(stack_of("bp", **options), replayed=replayed) for replayed in (True, False))
    for number in range(6):
        for steps in (ours, theirs):
            steps.take(*batch_of(steps.learner.network, EXAMPLES, replicas=3, seed=number))

    assert ours.replaying
    assert not all(tensor[0].isfinite().all() for tensor in theirs.learner.parameters.tensors())
    for found, exact in zip(ours.learner.parameters.tensors(), theirs.learner.parameters.tensors(), strict=True):
        assert relative(found[1:], exact[1:]) < 1e-12


def test_adams_correction_is_made_once_a_step() -> None:
    steps = steps_of(stack_of("mdfa", "adam"))
    for number in range(2):
        steps.take(*batch_of(steps.learner.network, EXAMPLES, replicas=3, seed=number))

    names = [call[0].name() for call in CpuGraph.made[1].calls]
    assert names.count("aten::pow.Scalar") == 2


# --------------------------------------------------------------------------------------------- what cannot be replayed


@pytest.mark.parametrize("method", METHODS)
def test_rules_that_draw_at_every_step_say_so(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(
        StepContext,
        "draw",
        lambda self, sampler, purpose, number, like: drawn.append(purpose) or torch.zeros_like(like),
    )
    learner = stack_of(method)
    learner.step(*batch_of(learner.network, EXAMPLES, replicas=3))

    assert METHODS[method].transport.draws is bool(drawn)


class Fading(Direct):
    """A transport whose numbers depend on the step, and that does not say so."""

    def sent(self, error: Tensor, context: StepContext) -> Tensor:
        return error / (1 + context.step)


class Reading(Direct):
    """A transport that reads a number from the device."""

    def sent(self, error: Tensor, context: StepContext) -> Tensor:
        return error / (1 + abs(float(error.sum())))


class Giving(Direct):
    """A transport that makes a tensor of Python's numbers."""

    def sent(self, error: Tensor, context: StepContext) -> Tensor:
        return error * error.new_tensor([0.5])


@pytest.mark.parametrize(
    ("transport", "reason"),
    [
        (Fading(), "a replayed step does not change the learner as a plain step does"),
        (Reading(), "operation not permitted when stream is capturing: aten::_local_scalar_dense"),
        (Giving(), "operation not permitted when stream is capturing: aten::lift_fresh"),
    ],
    ids=["fading", "reading", "giving"],
)
def test_what_a_graph_cannot_hold_is_not_replayed(
    transport: Direct, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="mdfa_core")
    method = dataclasses.replace(METHODS["dfa"], transport=transport)
    ours = assert_replayed_steps_are_the_steps(*(stack_of(method, "adam") for _ in range(2)))

    assert not ours.replaying
    assert ours.learner.optimizer_state.clock is None
    assert caplog.messages == [f"steps are not replayed as a graph: {reason}"]


class Unordered(Direct):
    """A transport whose sums come out a little different every time, as some of cuDNN's do."""

    def __init__(self, replayed: float = 1.0) -> None:
        self.replayed = replayed

    def sent(self, error: Tensor, context: StepContext) -> Tensor:
        factor = self.replayed if _get_current_dispatch_mode() else 1.0  # what is recorded is another thing
        return error * (1 + 0.1 * torch.randn_like(error)) * factor


@pytest.mark.parametrize(("replayed", "accepted"), [(1.0, True), (3.0, False)])
def test_what_differs_from_itself_as_much_is_replayed(
    replayed: float, accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = dataclasses.replace(METHODS["dfa"], transport=Unordered(replayed))
    ours = steps_of(stack_of(method, "sgd"))
    for number in range(3):
        ours.take(*batch_of(ours.learner.network, EXAMPLES, replicas=3, seed=number))
    assert ours.replaying is accepted


class Short(CpuGraph):
    """A device that has too little memory for the second graph, which is no trial's."""

    def record(self, work: Any) -> None:
        super().record(work)
        if len(self.made) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")


def test_too_little_memory_for_a_graph(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="mdfa_core")
    monkeypatch.setattr(cuda_graph, "graphs_of", lambda device: Short)

    ours = assert_replayed_steps_are_the_steps(*(stack_of("mdfa", "adam") for _ in range(2)))
    assert not ours.replaying
    assert ours.learner.optimizer_state.clock is None
    assert caplog.messages == ["steps are not replayed as a graph: CUDA out of memory"]


class Cooling(SGD):
    """An optimizer that takes the step's number for a number."""

    def update_(
        self, parameter: Tensor, g: Tensor, slots: Sequence[Tensor], rate: float | Tensor, step: int | StepCounter
    ) -> None:
        super().update_(parameter, g / (1 + step.bit_length()), slots, rate, step)  # type: ignore[union-attr]

    linear = False


def test_an_optimizer_that_counts_on_a_number_is_not_replayed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="mdfa_core")
    stacks = [stack_of("mdfa") for _ in range(2)]
    for stack in stacks:
        stack.optimizer_state.optimizer = Cooling()

    assert not assert_replayed_steps_are_the_steps(*stacks).replaying
    assert caplog.messages == ["steps are not replayed as a graph: 'StepCounter' object has no attribute 'bit_length'"]


class FakeCuda:
    """Stands for a CUDA graph that says what is done with it, and complains about what went wrong before."""

    def __init__(self, said: list[str]) -> None:
        self.said = said

    def capture_begin(self, capture_error_mode: str) -> None:
        self.said.append(f"begin {capture_error_mode}")

    def capture_end(self) -> None:
        self.said.append("end")
        if "wrong" in self.said:
            raise RuntimeError("operation failed due to a previous error during capture")


def test_what_was_wrong_in_a_cuda_recording_is_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def wrong() -> None:
        said.append("wrong")
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: FakeCuda(said))
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(cuda_graph, "_side_stream", lambda device: None)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda name=name: said.append(name))
    graph = cuda_graph.CudaGraph(torch.device("cuda:1"))
    graph.record(lambda: said.append("work"))
    with pytest.raises(RuntimeError, match=r"^operation not permitted when stream is capturing$"):
        graph.record(wrong)

    begun = ["synchronize", "empty_cache", "begin thread_local"]
    assert said == [*begun, "work", "end", *begun, "wrong", "end"]


class Broken(CpuGraph):
    """Leaves one kind of call out."""

    left_out = ""

    def record(self, work: Any) -> None:
        super().record(work)
        count = len(self.calls)
        self.calls = [call for call in self.calls if call[0].name() != self.left_out]
        assert len(self.calls) < count


@pytest.mark.parametrize("left_out", ["aten::baddbmm.out", "aten::add_.Tensor", "aten::clamp_"])
def test_a_graph_that_does_something_else_is_not_used(left_out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "graphs_of", lambda device: Broken)
    monkeypatch.setattr(Broken, "left_out", left_out)

    assert not assert_replayed_steps_are_the_steps(*(stack_of("mdfa") for _ in range(2))).replaying


@pytest.mark.parametrize("word", ["on", "1", "AUTO"])
def test_another_word_in_the_variable_is_refused(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("MDFA_GRAPH", word)
    with pytest.raises(InvalidValue, match=f"^MDFA_GRAPH is '{word}': choose one of auto, off$"):
        Run(Experiment(epochs=1), device="cpu")


@pytest.mark.parametrize(
    ("word", "device", "graphs"),
    [
        ("auto", "cuda:1", True),
        ("", "cuda", True),
        ("off", "cuda", False),
        ("auto", "cpu", False),
        ("auto", "mps", False),
    ],
)
def test_graphs_are_for_cuda_unless_switched_off(
    word: str, device: str, graphs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("MDFA_GRAPH", word)
    assert (cuda_graph.graphs_of(torch.device(device)) is not None) is graphs


# ---------------------------------------------------------------------------------------------------------------- runs


def lines(run: Run, change: Any, **options: Any) -> Iterator[str]:
    for count in range(4):
        for event in run.events(progress=Every(steps=3), probe=Every(steps=5), steps=17, **options):
            yield to_json(event)
        if count < 3:
            change(run, count)


def nothing(run: Run, count: int) -> None:
    pass


def change(run: Run, count: int) -> None:
    if count == 0:
        run.set_learning_rate(0.02)
    elif count == 1:
        run.set_method("dfa")
    else:
        run.set_parameters(
            [weight[0] * 0.5 for weight in run.learner.parameters.weights],
            [bias[0] for bias in run.learner.parameters.biases],
        )


def assert_equal_but_for_rounding(found: Any, exact: Any) -> None:
    if isinstance(exact, dict):
        assert found.keys() == exact.keys()
        for key, value in exact.items():
            assert_equal_but_for_rounding(found[key], value)
    elif isinstance(exact, list):
        assert len(found) == len(exact)
        for a, b in zip(found, exact, strict=True):
            assert_equal_but_for_rounding(a, b)
    else:
        assert found == (pytest.approx(exact, rel=1e-4) if isinstance(exact, float) else exact)


@pytest.mark.parametrize("changed", [nothing, change])
def test_a_run_by_adam_says_the_same_but_for_rounding(changed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam's correction is worked out by the device, not by Python."""
    base = Experiment(network="fc:8,6", epochs=12, optimizer="adam", learning_rate=0.001, precision="float64")
    experiments = [base.replace(seed=seed, task_seed=0) for seed in range(2)]
    replayed = list(lines(Run(experiments, device="cpu"), changed))
    assert sum(tape.replays for tape in CpuGraph.made) > 20
    monkeypatch.setattr(cuda_graph, "graphs_of", lambda device: None)
    for found, exact in zip(replayed, lines(Run(experiments, device="cpu"), changed), strict=True):
        assert_equal_but_for_rounding(json.loads(found), json.loads(exact))


@pytest.mark.parametrize(
    ("optimizer", "drop_last", "changed"), pairwise(["sgd", "rmsprop"], [True, False], [nothing, change])
)
def test_a_run_says_the_same(optimizer: str, drop_last: bool, changed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    base = Experiment(network="fc:8,6", epochs=12, optimizer=optimizer, drop_last=drop_last)
    experiments = [base.replace(seed=seed, task_seed=0) for seed in range(2)]
    replayed = list(lines(Run(experiments, device="cpu"), changed))
    assert sum(tape.replays for tape in CpuGraph.made) > 20
    monkeypatch.setattr(cuda_graph, "graphs_of", lambda device: None)

    assert replayed == list(lines(Run(experiments, device="cpu"), changed))


def test_a_run_goes_on_from_a_checkpoint(tmp_path: Any) -> None:
    experiments = [Experiment(network="fc:8,6", epochs=9, seed=seed, optimizer="rmsprop") for seed in range(2)]
    whole = [to_json(event) for event in Run(experiments, device="cpu").events()]
    first = Run(experiments, device="cpu")
    said = [to_json(event) for event in first.events(steps=10)]
    first.save(tmp_path / "run.pt")
    said += [to_json(event) for event in Run.load(tmp_path / "run.pt", device="cpu").events()]

    assert said == whole


@pytest.mark.parametrize("precision", PRECISIONS)
def test_steps_are_replayed_in_every_precision(precision: str) -> None:
    stacks = [learner_of(network_of(BOTH[0], precision=precision), "mdfa", rates=RATES, l2=PENALTIES) for _ in range(2)]
    ours, theirs = steps_of(stacks[0]), steps_of(stacks[1], replayed=False)
    for number in range(4):
        inputs, labels = batch_of(stacks[0].network, EXAMPLES, replicas=3, seed=number)
        for steps in (ours, theirs):
            steps.take(inputs, labels)
    assert ours.replaying
    for found, exact in zip(state(ours), state(theirs), strict=True):
        assert relative(found.double(), exact.double()) < 1e-6


# --------------------------------------------------------------------------------------------------------------- a GPU


def on_device(stack: Learner, device: torch.device) -> Learner:
    def moved(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(tensor.to(device) for tensor in tensors)

    return Learner(
        stack.network,
        stack.method,
        stack.optimizer_state.optimizer,
        Parameters(moved(stack.parameters.weights), moved(stack.parameters.biases)),
        moved(stack.feedback),
        learning_rates=RATES,
        l2=PENALTIES,
    )


@pytest.mark.gpu
@pytest.mark.parametrize("net", BOTH)
@pytest.mark.parametrize(("method", "optimizer"), PAIRS)
def test_replayed_steps_are_the_steps_on_a_gpu(
    method: str, optimizer: str, net: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    device = torch.device("cuda")
    stacks = [on_device(stack_of(method, optimizer, net), device) for _ in range(2)]
    ours, theirs = steps_of(stacks[0]), steps_of(stacks[1], replayed=False)
    for number in range(8):
        inputs, labels = (t.to(device) for t in batch_of(stacks[0].network, EXAMPLES, replicas=3, seed=number))
        for steps in (ours, theirs):
            steps.take(inputs, labels)

    assert ours.replaying is not METHODS[method].transport.draws
    for found, exact in zip(state(ours), state(theirs), strict=True):
        assert relative(found, exact) < 1e-6


@pytest.mark.gpu
@pytest.mark.parametrize("net", ["fc:64,64", "conv:16/3/2,16/3/1+fc:32"])
@pytest.mark.parametrize("method", ["bp", "mdfa"])
def test_a_recorded_step_on_a_gpu_computes_in_tensor_float_too(
    method: str, net: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replayed steps are as far from float64 as the CPU's emulation: the graph keeps the setting of its recording."""
    monkeypatch.undo()
    results = []
    for name, precision in (("cpu", "float64"), ("cpu", "tf32"), ("cuda", "tf32"), ("cuda", "float32")):
        network, device = network_of(net, image=(3, 16, 16), precision=precision), torch.device(name)
        steps = steps_of(on_device(learner_of(network, method, rates=RATES, l2=PENALTIES), device))
        for seed in range(5):
            inputs, labels = (t.to(device) for t in batch_of(network, 64, replicas=3, seed=seed))
            steps.take(inputs, labels)
        assert steps.replaying is (name == "cuda")
        results.append(torch.cat([t.flatten().double().cpu() for t in steps.learner.parameters.tensors()]))
    emulated, found, full = (relative(result, results[0]) for result in results[1:])
    assert 0.2 * emulated < found < 5 * emulated
    assert full < 0.1 * emulated
